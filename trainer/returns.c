#include "trainer/returns.h"

#define RELEASED_COST     0.05
#define RELEASED_DISCOUNT 0.9
#define RELEASED_POSITIVE 1.0f
#define RELEASED_NEGATIVE (-0.6f)

static double cut(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

void returns_gae(const float *value, size_t n, double reward, double discount, double lambda, float *advantage, float *target)
{
    double next_value = 0, next_advantage = 0;
    for (size_t t = n; t-- > 0;) {
        double V = (double)value[t], delta = (t + 1 == n ? reward : 0) + discount * next_value - V;
        next_advantage = delta + discount * lambda * next_advantage;
        next_value = V;
        advantage[t] = (float)next_advantage;
        target[t] = (float)cut(next_advantage + V, 0, 1);
    }
}

void returns_webrl(const float *value, size_t n, double reward, double lambda, float *advantage)
{
    for (size_t t = 0; t < n; t++) {
        double V = (double)value[t], next = t + 1 < n ? (double)value[t + 1] : 0, r = t + 1 == n ? reward : 0;
        advantage[t] = (float)(lambda * (r + next - V) + (1 - lambda) * (reward - V));
    }
}

void returns_webrl_released(const float *value, size_t n, double reward, float *advantage)
{
    double rest = 0;
    for (size_t t = n; t-- > 0;) {
        double V = (double)value[t], next = t + 1 < n ? (double)value[t + 1] : 0;
        rest = reward + RELEASED_DISCOUNT * rest;
        double a = cut(next - V - RELEASED_COST + reward + rest, -1, 1);
        advantage[t] = a >= 0 ? RELEASED_POSITIVE : RELEASED_NEGATIVE;
    }
}
