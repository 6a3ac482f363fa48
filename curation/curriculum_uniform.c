/* Every training task once per pass, in an order of its own for each pass. A task that may not be drawn is replaced by one
 * that may, found from a random place on; the position it stood at is used up, so the state stays the count of draws. */
#include "curation/curriculum.h"
#include "services/common/base/rng.h"

bool curriculum_uniform(const struct curriculum *c, size_t environment, uint64_t *ret_task)
{
    uint64_t n = c->environments[environment].tasks;
    uint64_t position = c->environments[environment].drawn;
    uint64_t seed = rng_mix(rng_mix(c->seed, environment), position / n);
    uint64_t task = curriculum_permute(seed, n, position % n);
    if (!curriculum_may_draw(c, environment, task)) {
        uint64_t start = rng_mix(seed, position) % n;
        uint64_t step = 0;
        while (step < n && !curriculum_may_draw(c, environment, (start + step) % n)) step++;
        if (step == n) return false;
        task = (start + step) % n;
    }
    *ret_task = task;
    return true;
}
