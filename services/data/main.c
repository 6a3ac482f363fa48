#include "services/data/data.h"

int main(int argc, char **argv)
{
    return service_main(argc, argv, &data_class);
}
