#include "bench/support/curve.h"

#include <math.h>

double curve_at(const struct curve *c, double tokens)
{
    if (c->count == 0) return 0;
    if (tokens <= c->tokens[0]) return c->success[0];
    for (size_t i = 1; i < c->count; i++) {
        if (tokens > c->tokens[i]) continue;
        double width = c->tokens[i] - c->tokens[i - 1];
        double share = width > 0 ? (tokens - c->tokens[i - 1]) / width : 1;
        return c->success[i - 1] + share * (c->success[i] - c->success[i - 1]);
    }
    return c->success[c->count - 1];
}

double curve_area(const struct curve *c, double to)
{
    if (c->count < 2 || to <= c->tokens[0]) return 0;
    double area = 0, at = c->tokens[0], height = c->success[0];
    for (size_t i = 1; i < c->count && at < to; i++) {
        double next = c->tokens[i] < to ? c->tokens[i] : to, there = curve_at(c, next);
        area += (next - at) * (height + there) / 2;
        at = next;
        height = there;
    }
    return (area + (to - at) * height) / (to - c->tokens[0]);
}

double curve_reaches(const struct curve *c, double success)
{
    if (c->count > 0 && c->success[0] >= success) return c->tokens[0];
    for (size_t i = 1; i < c->count; i++) {
        if (c->success[i] < success) continue;
        double share = (success - c->success[i - 1]) / (c->success[i] - c->success[i - 1]);
        return c->tokens[i - 1] + share * (c->tokens[i] - c->tokens[i - 1]);
    }
    return -1;
}

void curve_spread(const double *values, size_t count, double *ret_mean, double *ret_deviation)
{
    double mean = 0, square = 0;
    for (size_t i = 0; i < count; i++) mean += values[i] / (double)count;
    for (size_t i = 0; i < count; i++) square += (values[i] - mean) * (values[i] - mean);
    *ret_mean = mean;
    *ret_deviation = count > 1 ? sqrt(square / (double)(count - 1)) : 0;
}
