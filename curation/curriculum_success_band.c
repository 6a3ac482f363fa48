/* Tasks whose success rate is in [low, high], or that were never played, each as likely as any other; those that the update
 * has already only when there is no other. A share `outside` of the draws ignores the band and goes by passes as uniform
 * does, so that no task is forgotten; so do all draws while the band is empty. Where nothing varies there is nothing to
 * learn: DAPO (arXiv 2503.14476) filters such groups after they were played, this avoids playing them. */
#include "curation/curriculum.h"
#include "services/common/base/rng.h"

#include <math.h>

static bool is_inside(const struct curriculum *c, size_t environment, uint64_t task)
{
    const struct curriculum_rates *r = c->rates;
    double success = r->success(c->ctx, environment, task);
    return isnan(success) || (success >= r->low && success <= r->high);
}

static bool find(const struct curriculum *c, size_t environment, bool fresh, uint64_t *ret_task)
{
    const struct curriculum_rates *r = c->rates;
    uint64_t n = c->environments[environment].tasks;
    uint64_t seed = rng_mix(rng_mix(c->seed, environment), c->environments[environment].drawn);
    for (uint64_t i = 0; i < n; i++) { /* in an order of this draw's own, so the first one inside is any of them */
        uint64_t task = curriculum_permute(seed, n, i);
        if (fresh && r->taken && r->taken(c->ctx, environment, task)) continue;
        if (!curriculum_may_draw(c, environment, task) || !is_inside(c, environment, task)) continue;
        *ret_task = task;
        return true;
    }
    return false;
}

bool curriculum_success_band(const struct curriculum *c, size_t environment, uint64_t *ret_task)
{
    struct rng rng;
    rng_init(&rng, rng_mix(c->seed, environment), c->environments[environment].drawn);
    if (rng_unit(&rng) < c->rates->outside) return curriculum_uniform(c, environment, ret_task);
    return find(c, environment, true, ret_task) || find(c, environment, false, ret_task) ||
           curriculum_uniform(c, environment, ret_task);
}
