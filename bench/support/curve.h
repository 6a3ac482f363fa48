/* A learning curve: success on held-out tasks by tokens processed, and what is said of it. */
#ifndef PAL_BENCH_SUPPORT_CURVE_H
#define PAL_BENCH_SUPPORT_CURVE_H

#include <stdbool.h>
#include <stddef.h>

#define CURVE_POINTS 64

struct curve {
    size_t count;
    double tokens[CURVE_POINTS]; /* ascending */
    double success[CURVE_POINTS];
};

/* Mean height between the first point and `to` tokens (trapezoids; the last point's height is kept behind it). 0 for less
 * than two points. */
double curve_area(const struct curve *curve, double to);
/* Tokens at which the curve first reaches `success`, between points in a straight line; -1: never (censored). */
double curve_reaches(const struct curve *curve, double success);
/* Height at `tokens`, in a straight line between points, level outside them. */
double curve_at(const struct curve *curve, double tokens);

/* Mean and sample standard deviation (0 for one value). */
void curve_spread(const double *values, size_t count, double *ret_mean, double *ret_deviation);

#endif
