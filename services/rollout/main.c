#include "services/rollout/rollout.h"

int main(int argc, char **argv)
{
    return service_main(argc, argv, &rollout_class);
}
