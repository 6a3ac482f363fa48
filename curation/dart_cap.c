#include "curation/dart.h"

#include <math.h>

#define ROUNDING 1e-9 /* 10 * 1.1 is a little more than 11 in doubles */

int64_t dart_cap(const int64_t *steps, size_t n, double slack, int64_t plus, int64_t most)
{
    int64_t longest = 0;
    for (size_t i = 0; i < n; i++) longest = steps[i] > longest ? steps[i] : longest;
    double cap = ceil((double)longest * slack - ROUNDING) + (double)plus;
    if (n == 0 || cap >= (double)most) return most;
    return cap > 1 ? (int64_t)cap : 1;
}
