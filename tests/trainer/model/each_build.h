/* Runs a test of kernels once for each instruction set that this machine has. */
#ifndef PAL_TESTS_MODEL_EACH_BUILD_H
#define PAL_TESTS_MODEL_EACH_BUILD_H

#include "tests/trainer/model/reference.h"
#include "trainer/model/kernels.h"

static struct rng rng;
static const struct kernels *k; /* the build under test */

static inline void fill(float *x, size_t n, double scale)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)(scale * rng_normal(&rng));
}

static inline double *widened(const float *x, size_t n)
{
    double *y = doubles(n);
    for (size_t i = 0; i < n; i++) y[i] = (double)x[i];
    return y;
}

static inline void assert_near(const char *what, double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * (1 + fabs(want))))
        ck_abort_msg("%s (%s): %.9g, should be %.9g", what, k->name, got, want);
}

static inline void each_build(void (*test)(void))
{
    for (size_t i = 0; (k = kernels_at(i)) != NULL; i++) {
        rng_init(&rng, 20240607, 3);
        test();
    }
}

#endif
