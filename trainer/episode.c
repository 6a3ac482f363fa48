#include "trainer/episode.h"

#include <math.h>

uint32_t episode_trimmed(const struct episode *episode)
{
    uint32_t n = episode->count;
    while (n > 0 && !episode->target[n - 1]) n--;
    return n;
}

err_t episode_check(const struct episode *e, int32_t vocab, size_t max_tokens)
{
    unsigned long id = e->id;
    if (!isfinite(e->advantage)) return err_set(ERR_malformed, "episode %lu: its advantage is not finite", id);
    if (!e->signal) return ERR_ok;
    uint32_t trimmed = episode_trimmed(e), targets = 0;
    for (uint32_t i = 0; i < trimmed; i++) {
        if (e->token[i] < 0 || e->token[i] >= vocab)
            return err_set(ERR_malformed, "episode %lu: token %d at %u is outside the vocabulary of %d", id, e->token[i], i,
                           vocab);
        targets += e->target[i] ? 1 : 0;
    }
    if (targets == 0) return err_set(ERR_malformed, "episode %lu has no target", id);
    if (e->target[0]) return err_set(ERR_malformed, "episode %lu: its first token cannot be a target", id);
    if (targets != e->action_tokens)
        return err_set(ERR_malformed, "episode %lu: %u targets, but %u action tokens are on record", id, targets,
                       e->action_tokens);
    if (trimmed > max_tokens)
        return err_set(ERR_malformed, "episode %lu has %u tokens; the learner takes %zu", id, trimmed, max_tokens);
    return ERR_ok;
}
