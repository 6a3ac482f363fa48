#include "curation/dart.h"

#include <math.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double dart_floor(double *entropy, size_t n, double keep)
{
    if (n == 0 || keep >= 1) return -(double)INFINITY;
    qsort(entropy, n, sizeof *entropy, ascending);
    double place = (double)(n - 1) * (1 - keep);
    size_t below = (size_t)place;
    size_t above = below + 1 < n ? below + 1 : below;
    return entropy[below] + (place - (double)below) * (entropy[above] - entropy[below]);
}
