#include "curation/curriculum.h"

#include "services/common/base/rng.h"

#define ROUNDS 6

static const struct {
    const char *name;
    bool (*draw)(const struct curriculum *curriculum, size_t environment, uint64_t *ret_task);
} kinds[] = {
#define CURRICULUM(name, doc) {#name, curriculum_##name},
#include "curation/curriculum.def"
#undef CURRICULUM
};

const char *curriculum_name(enum curriculum_kind kind)
{
    return kinds[kind].name;
}

static size_t next_environment(const struct curriculum *c, const bool *out)
{
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
    return best;
}

err_t curriculum_draw(enum curriculum_kind kind, const struct curriculum *c, struct curriculum_draw *ret)
{
    BUG_IF(c->count > CURRICULUM_ENVIRONMENTS);
    bool out[CURRICULUM_ENVIRONMENTS];
    for (size_t i = 0; i < c->count; i++) out[i] = c->environments[i].tasks == 0 || !(c->environments[i].weight > 0);
    for (;;) {
        struct curriculum_draw draw = {.environment = next_environment(c, out)};
        if (draw.environment == c->count)
            return err_set(ERR_not_found, "no training task may be drawn any more: all are quarantined");
        if (kinds[kind].draw(c, draw.environment, &draw.task)) {
            *ret = draw;
            return ERR_ok;
        }
        out[draw.environment] = true;
    }
}

bool curriculum_may_draw(const struct curriculum *c, size_t environment, uint64_t task)
{
    return !c->may_draw || c->may_draw(c->ctx, environment, task);
}

/* A Feistel network over the smallest square 4^half >= n, walked until it lands below n (Black and Rogaway, Ciphers with
 * arbitrary finite domains, 2002): at most 4 steps on average, since 4^half < 4 n. */
uint64_t curriculum_permute(uint64_t seed, uint64_t n, uint64_t index)
{
    BUG_IF(index >= n);
    unsigned half = 1;
    while (half < 32 && (uint64_t)1 << (2 * half) < n) half++;
    uint64_t mask = ((uint64_t)1 << half) - 1;
    uint64_t place = index;
    do {
        uint64_t left = place >> half;
        uint64_t right = place & mask;
        for (uint64_t round = 0; round < ROUNDS; round++) {
            uint64_t next = left ^ (rng_mix(rng_mix(seed, round), right) & mask);
            left = right;
            right = next;
        }
        place = left << half | right;
    } while (place >= n);
    return place;
}
