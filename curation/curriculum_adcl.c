/* Adaptive difficulty (ADCL, arXiv 2505.08364, section 3.1): the tasks stand in an order of first estimated difficulty (their
 * levels); it is cut into batches, and only the batch under way is ordered anew, easiest first by the success of now, since
 * difficulty shifts as the policy learns. Here the order of now is looked at with every draw: the next task is the easiest of
 * the batch that it did not have yet. One that was never played counts as 1/2; ties keep the first order. The state is the
 * count of draws and which tasks of the batch are taken. */
#include "curation/curriculum.h"
#include "services/common/base/rng.h"

#include <math.h>

struct curriculum_batch curriculum_batch(const struct curriculum_environment *environment, uint64_t size)
{
    uint64_t n = environment->tasks, place = environment->drawn % n;
    if (size > n) size = n;
    uint64_t from = place / size * size;
    return (struct curriculum_batch){from, from + size < n ? from + size : n, place == from};
}

bool curriculum_adcl(const struct curriculum *c, size_t environment, uint64_t *ret_task)
{
    const struct curriculum_rates *r = c->rates;
    const uint64_t *order = r->order[environment];
    uint64_t n = c->environments[environment].tasks;
    struct curriculum_batch batch = curriculum_batch(&c->environments[environment], r->batch);
    double best = -1;
    for (uint64_t k = batch.from; k < batch.to; k++) {
        if (!curriculum_may_draw(c, environment, order[k]) || (r->taken && r->taken(c->ctx, environment, order[k]))) continue;
        double success = r->success(c->ctx, environment, order[k]);
        if (isnan(success)) success = 0.5;
        if (success <= best) continue;
        best = success;
        *ret_task = order[k];
    }
    if (best >= 0) return true;
    uint64_t start = rng_mix(rng_mix(c->seed, environment), c->environments[environment].drawn) % n, step = 0;
    while (step < n && !curriculum_may_draw(c, environment, (start + step) % n)) step++;
    *ret_task = (start + step) % n;
    return step < n;
}

double curriculum_inversions(const double *success, size_t n)
{
    size_t pairs = 0, inverted = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            if (isnan(success[i]) || isnan(success[j]) || !(fabs(success[i] - success[j]) > 0)) continue;
            pairs++;
            inverted += success[i] < success[j];
        }
    }
    return pairs ? (double)inverted / (double)pairs : (double)NAN;
}
