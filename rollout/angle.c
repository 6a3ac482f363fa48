#include "rollout/angle.h"

#include <math.h>
#include <string.h>

/* Adds the states' unit vectors. */
static void add_units(const float *hidden, size_t count, size_t width, double *sum)
{
    for (size_t i = 0; i < count; i++) {
        const float *x = hidden + i * width;
        double square = 0;
        for (size_t d = 0; d < width; d++) square += (double)x[d] * (double)x[d];
        if (!(square > 0)) continue;
        double inverse = 1 / sqrt(square);
        for (size_t d = 0; d < width; d++) sum[d] += (double)x[d] * inverse;
    }
}

struct angle angle_measure(const float *hidden, size_t count, size_t width, size_t template, double *scratch)
{
    struct angle angle = {0};
    double *common = scratch, *own = scratch + width;
    if (template >= count) return angle;
    size_t task = count - template;
    memset(scratch, 0, 2 * width * sizeof *scratch);
    add_units(hidden, template, width, common);
    add_units(hidden + template * width, task, width, own);
    for (size_t d = 0; d < width; d++) {
        angle.intra += own[d] * own[d];
        angle.inter += own[d] * common[d];
    }
    angle.intra /= (double)task * (double)task;
    angle.inter = template ? angle.inter / ((double)task * (double)template) : 0;
    return angle;
}
