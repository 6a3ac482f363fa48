#include "curation/replay.h"

#include "services/common/base/rng.h"

#include <stdlib.h>

struct keyed {
    int64_t uses;
    uint64_t random;
    size_t place;
};

static int by_key(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    if (x->uses != y->uses) return x->uses < y->uses ? -1 : 1;
    if (x->random != y->random) return x->random < y->random ? -1 : 1;
    return (x->place > y->place) - (x->place < y->place);
}

bool replay_eligible(const struct replay_config *config, const struct replay_candidate *c)
{
    return c->uses < config->cap && c->perplexity >= config->low && c->perplexity <= config->high;
}

err_t replay_choose(const struct replay_config *config, const struct replay_candidate *candidates, size_t count,
                    uint64_t seed, size_t *ret, size_t *ret_count)
{
    BUG_IF(config->updates_left < 1);
    struct keyed *keyed = malloc((count + 1) * sizeof *keyed);
    if (!keyed) return err_set(ERR_memory, "%zu episodes to replay", count);
    size_t eligible = 0, chosen = 0;
    int64_t left = 0;
    for (size_t i = 0; i < count; i++) {
        if (!replay_eligible(config, &candidates[i])) continue;
        left += config->cap - candidates[i].uses;
        keyed[eligible++] = (struct keyed){candidates[i].uses, rng_mix(seed, (uint64_t)candidates[i].episode), i};
    }
    qsort(keyed, eligible, sizeof *keyed, by_key);
    int64_t share = (left + config->updates_left - 1) / config->updates_left;
    double tokens = 0;
    for (size_t i = 0; i < eligible && (int64_t)chosen < share; i++) {
        double own = (double)candidates[keyed[i].place].tokens;
        if (tokens + own > config->most_tokens) continue;
        tokens += own;
        ret[chosen++] = keyed[i].place;
    }
    free(keyed);
    *ret_count = chosen;
    return ERR_ok;
}
