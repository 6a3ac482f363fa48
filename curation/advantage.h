/* Advantages of a group: reward-only rules, computed once when the group closes.
 *
 * A group without variance (all rewards equal up to rounding, or a single one) has advantage 0 everywhere and no signal; it
 * still counts as a group of its update and its tokens stay in the denominator. Nothing ever divides by zero, and what is
 * returned is always finite: rewards whose arithmetic overflows give no signal. Units: those of the reward, except grpo
 * (standard deviations). */
#ifndef PAL_CURATION_ADVANTAGE_H
#define PAL_CURATION_ADVANTAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum advantage {
#define ADVANTAGE(name, doc) ADVANTAGE_##name,
#include "curation/advantage.def"
#undef ADVANTAGE
    ADVANTAGE_COUNT
};

/* Rewards that differ by no more than this, relative to the largest magnitude (at least 1), are equal. */
#define ADVANTAGE_EQUAL 1e-9

const char *advantage_name(enum advantage rule);
const char *advantage_doc(enum advantage rule);

/* rewards[n] -> ret[n], n >= 1, rewards of the slots that ended with an outcome. True: the group has a signal; false: ret is
 * all 0. rewards and ret may be the same array. */
bool advantage_compute(enum advantage rule, const double *rewards, size_t n, double *ret);

/* The same over step samples (DART, arXiv 2509.23866, step-wise GRPO): an episode of k steps counts k times, so that long
 * ones weigh more in mean and deviation; sum_i k_i A_i = 0. steps[n], 0 counts as 1; samples has room for the sum of them. */
bool advantage_over_steps(enum advantage rule, const double *rewards, const int64_t *steps, size_t n, double *samples,
                          double *ret);

/* The rules by name: n >= 2, rewards not all equal. */
#define ADVANTAGE(name, doc) void advantage_##name(const double *rewards, size_t n, double *ret);
#include "curation/advantage.def"
#undef ADVANTAGE

#endif
