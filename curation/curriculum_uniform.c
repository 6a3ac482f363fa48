/* Every training task once per pass, in an order of its own for each pass. Groups are shared among environments by smooth
 * weighted round robin (as nginx does it): with t groups drawn so far, the environment of the largest credit
 * (t + 1) w_i / W - drawn_i is next, so that drawn_i stays next to its share t w_i / W at every t. Environments without a
 * task that may be drawn do not take part. A task that may not be drawn is replaced by one that may, found from a random
 * place on; the position it stood at is used up, so the state stays the count of draws. */
#include "curation/curriculum.h"
#include "services/common/base/rng.h"

static bool may_draw(const struct curriculum *c, size_t environment, uint64_t task)
{
    return !c->may_draw || c->may_draw(c->ctx, environment, task);
}

/* False when none of its tasks may be drawn. */
static bool draw_task(const struct curriculum *c, size_t environment, uint64_t *ret)
{
    uint64_t n = c->environments[environment].tasks;
    uint64_t position = c->environments[environment].drawn;
    uint64_t seed = rng_mix(rng_mix(c->seed, environment), position / n);
    uint64_t task = curriculum_permute(seed, n, position % n);
    if (!may_draw(c, environment, task)) {
        uint64_t start = rng_mix(seed, position) % n;
        uint64_t step = 0;
        while (step < n && !may_draw(c, environment, (start + step) % n)) step++;
        if (step == n) return false;
        task = (start + step) % n;
    }
    *ret = task;
    return true;
}

err_t curriculum_uniform(const struct curriculum *c, struct curriculum_draw *ret)
{
    bool out[CURRICULUM_ENVIRONMENTS];
    for (size_t i = 0; i < c->count; i++) out[i] = c->environments[i].tasks == 0 || !(c->environments[i].weight > 0);
    for (;;) {
        double weights = 0;
        double drawn = 0;
        for (size_t i = 0; i < c->count; i++) {
            if (out[i]) continue;
            weights += c->environments[i].weight;
            drawn += (double)c->environments[i].drawn;
        }
        size_t best = c->count;
        double most = 0;
        for (size_t i = 0; i < c->count; i++) {
            if (out[i]) continue;
            double credit = (drawn + 1) * (c->environments[i].weight / weights) - (double)c->environments[i].drawn;
            if (best < c->count && credit <= most) continue;
            best = i;
            most = credit;
        }
        if (best == c->count) return err_set(ERR_not_found, "no training task may be drawn any more: all are quarantined");
        struct curriculum_draw draw = {.environment = best};
        if (draw_task(c, best, &draw.task)) {
            *ret = draw;
            return ERR_ok;
        }
        out[best] = true;
    }
}
