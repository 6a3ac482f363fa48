/* A task by its rank: P(k) ~ exp(-(k - m)^2 / (2 s^2)), without those that the update has already (gain_rl.h has the method).
 * m = mu (N_e - 1) / (N - 1) for an environment of N_e tasks among all N, s = sigma_fraction N_e. Drawing one after the other
 * without what was taken is drawing without replacement. At mu = N - 1 every task that is not solved is as likely as any
 * other. When the update has all of them, they may come again; when all are solved, all are as likely. */
#include "curation/curriculum.h"
#include "services/common/base/rng.h"

#include <math.h>

struct pool {
    const struct curriculum *c;
    size_t environment;
    double mean, sigma; /* ranks */
    bool uniform;
    bool fresh, unsolved; /* leave out what is taken; what is solved */
    double nearest;       /* smallest squared distance in units of sigma: the largest weight is 1 */
};

static bool is_in(const struct pool *p, uint64_t task)
{
    const struct curriculum_ranking *r = p->c->ranking;
    if (!curriculum_may_draw(p->c, p->environment, task)) return false;
    if (p->fresh && r->taken && r->taken(p->c->ctx, p->environment, task)) return false;
    return !p->unsolved || !r->solved || !r->solved(p->c->ctx, p->environment, task);
}

static double square_of(const struct pool *p, uint64_t rank)
{
    double z = p->uniform ? 0 : ((double)rank - p->mean) / p->sigma;
    return z * z;
}

/* Relative to the nearest rank of the pool, so that far from the mean not all of them are 0. */
static double weight(const struct pool *p, uint64_t rank)
{
    return exp(-0.5 * (square_of(p, rank) - p->nearest));
}

/* Weighs the pool; 0 when it is empty. */
static double weigh(struct pool *p)
{
    const uint64_t *order = p->c->ranking->order[p->environment];
    uint64_t n = p->c->environments[p->environment].tasks;
    double sum = 0;
    p->nearest = (double)INFINITY;
    for (uint64_t k = 0; k < n; k++) {
        if (is_in(p, order[k])) p->nearest = fmin(p->nearest, square_of(p, k));
    }
    for (uint64_t k = 0; k < n && isfinite(p->nearest); k++) {
        if (is_in(p, order[k])) sum += weight(p, k);
    }
    return sum;
}

static uint64_t pick(const struct pool *p, double sum)
{
    const uint64_t *order = p->c->ranking->order[p->environment];
    uint64_t n = p->c->environments[p->environment].tasks, last = 0;
    struct rng rng;
    rng_init(&rng, rng_mix(p->c->seed, p->environment), p->c->environments[p->environment].drawn);
    double left = rng_unit(&rng) * sum;
    for (uint64_t k = 0; k < n; k++) {
        if (!is_in(p, order[k])) continue;
        last = order[k];
        left -= weight(p, k);
        if (left < 0) break;
    }
    return last;
}

bool curriculum_gain_rl(const struct curriculum *c, size_t environment, uint64_t *ret_task)
{
    const struct curriculum_ranking *r = c->ranking;
    BUG_IF(!r || !r->order[environment] || !(r->sigma_fraction > 0));
    double all = 0, own = (double)c->environments[environment].tasks;
    for (size_t i = 0; i < c->count; i++) all += c->environments[i].weight > 0 ? (double)c->environments[i].tasks : 0;
    bool end = r->mu >= all - 1;
    struct pool p = {.c = c,
                     .environment = environment,
                     .mean = all > 1 ? r->mu * (own - 1) / (all - 1) : 0,
                     .sigma = r->sigma_fraction * own,
                     .uniform = end};
    /* what may be left out, from the most to the least */
    for (int tries = 0; tries < 3; tries++) {
        p.fresh = tries < 2;
        p.unsolved = end && tries < 1;
        double sum = weigh(&p);
        if (!(sum > 0)) continue;
        *ret_task = pick(&p, sum);
        return true;
    }
    return false;
}
