/* DART (arXiv 2509.23866): how often a task is played, how long, which turns are trained on, what comes from the pool.
 *
 * Pure rules; the numbers they get are of plain episodes only (docs/methods.md). The authors' constants are the defaults of
 * job.def or named there. */
#ifndef PAL_CURATION_DART_H
#define PAL_CURATION_DART_H

#include <stddef.h>
#include <stdint.h>

/* Rollout count, n(s) = N for s < t, else max(n_min, floor(a / s + b + 1e-9)), through the points (t, N) and (1, n_min):
 * a = (N - n_min) t / (1 - t), b = n_min - a. With N = 8, n_min = 2, t = 0.6 it is the authors' floor(9 / s - 7). success in
 * [0, 1] (0 for a task never played), 1 <= least <= most, threshold in (0, 1). */
size_t dart_count(double success, size_t most, size_t least, double threshold);

/* Step limit: the longest of a task's successes (steps[n], n >= 0) times slack plus `plus`, rounded up, and never above
 * `most`, which is also the limit before the first success. slack 1 and plus 0 is the paper, where the limit can only fall.
 */
int64_t dart_cap(const int64_t *steps, size_t n, double slack, int64_t plus, int64_t most);

/* High-entropy turns: the (1 - keep) quantile of the mean entropies of a group's turns, linear between neighbours; turns at
 * or above it are trained on (the paper: keep 0.8). entropy[n] is sorted in place; n = 0 or keep = 1 gives -inf. */
double dart_floor(double *entropy, size_t n, double keep);

/* Experience pool: which of `count` >= 1 successes saves this group, any with the same chance, by the seed. */
size_t dart_pick(size_t count, uint64_t seed, int64_t group);

#endif
