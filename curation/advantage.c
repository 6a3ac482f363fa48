#include "curation/advantage.h"

#include <math.h>

static const struct {
    const char *name;
    const char *doc;
    void (*compute)(const double *rewards, size_t n, double *ret);
} rules[] = {
#define ADVANTAGE(name, doc) {#name, doc, advantage_##name},
#include "curation/advantage.def"
#undef ADVANTAGE
};

const char *advantage_name(enum advantage rule)
{
    return rules[rule].name;
}

const char *advantage_doc(enum advantage rule)
{
    return rules[rule].doc;
}

/* More than rounding apart? False also for what is not finite. */
static bool varies(const double *rewards, size_t n)
{
    double low = rewards[0];
    double high = rewards[0];
    double scale = 1;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(rewards[i])) return false;
        low = fmin(low, rewards[i]);
        high = fmax(high, rewards[i]);
        scale = fmax(scale, fabs(rewards[i]));
    }
    return high - low > ADVANTAGE_EQUAL * scale;
}

bool advantage_compute(enum advantage rule, const double *rewards, size_t n, double *ret)
{
    bool signal = n >= 2 && varies(rewards, n);
    if (signal) rules[rule].compute(rewards, n, ret);
    for (size_t i = 0; signal && i < n; i++) signal = isfinite(ret[i]);
    for (size_t i = 0; !signal && i < n; i++) ret[i] = 0;
    return signal;
}

static size_t samples_of(int64_t steps)
{
    return steps > 1 ? (size_t)steps : 1;
}

bool advantage_over_steps(enum advantage rule, const double *rewards, const int64_t *steps, size_t n, double *samples,
                          double *ret)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = samples_of(steps[i]); k > 0; k--) samples[count++] = rewards[i];
    }
    bool signal = advantage_compute(rule, samples, count, samples);
    count = 0;
    for (size_t i = 0; i < n; i++) {
        ret[i] = samples[count];
        count += samples_of(steps[i]);
    }
    return signal;
}
