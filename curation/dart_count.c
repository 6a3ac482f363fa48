#include "curation/dart.h"

#include <math.h>

#define ROUNDING 1e-9 /* 9 / 0.75 - 7 is not quite 5 in doubles */

size_t dart_count(double success, size_t most, size_t least, double threshold)
{
    if (success < threshold) return most;
    double a = (double)(most - least) * threshold / (1 - threshold);
    double n = floor(a / success + ((double)least - a) + ROUNDING);
    if (n <= (double)least) return least;
    return n < (double)most ? (size_t)n : most;
}
