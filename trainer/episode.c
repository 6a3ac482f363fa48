#include "trainer/episode.h"

#include <math.h>

uint32_t episode_contexts(const struct episode *e)
{
    return e->count == 0 ? 0 : e->segments > 1 ? e->segments : 1;
}

struct episode_context episode_context(const struct episode *e, uint32_t i, bool with_hint)
{
    struct episode_context context = {0, e->count};
    if (e->segments > 1) context = (struct episode_context){e->segment[i], e->segment[i + 1]};
    if (!with_hint) context.from += e->hint;
    return context;
}

uint32_t episode_turn(const struct episode *e, uint32_t at)
{
    return e->turn ? e->turn[at] : 0;
}

bool episode_drops(const struct episode *e, uint32_t turn)
{
    return e->dropped && e->dropped[turn];
}

static err_t check_shape(const struct episode *e)
{
    unsigned long id = e->id;
    if (e->turns == 0) return err_set(ERR_malformed, "episode %lu has tokens but no turn", id);
    for (uint32_t i = 0; e->turn && i < e->count; i++) {
        if (e->turn[i] >= e->turns || (i > 0 && e->turn[i] < e->turn[i - 1]))
            return err_set(ERR_malformed, "episode %lu: token %u is of turn %u of %u, out of order", id, i, e->turn[i],
                           e->turns);
    }
    if (e->segments > 1 && (e->segment[0] != 0 || e->segment[e->segments] != e->count))
        return err_set(ERR_malformed, "episode %lu: its contexts cover tokens %u to %u of %u", id, e->segment[0],
                       e->segment[e->segments], e->count);
    for (uint32_t i = 0; i < episode_contexts(e); i++) {
        struct episode_context c = episode_context(e, i, true);
        if (c.to <= c.from || c.to - c.from <= e->hint)
            return err_set(ERR_malformed, "episode %lu: context %u goes from token %u to %u, with a hint of %u", id, i,
                           c.from, c.to, e->hint);
    }
    return ERR_ok;
}

/* Adds the context's targets and turns that are trained on. */
static err_t check_context(const struct episode *e, uint32_t index, size_t max_tokens, uint32_t *targets, uint32_t *turns)
{
    unsigned long id = e->id;
    struct episode_context plain = episode_context(e, index, false), whole = episode_context(e, index, true);
    uint32_t end = whole.from, last = UINT32_MAX;
    for (uint32_t i = whole.from; i < whole.to; i++) {
        if (!e->target[i]) continue;
        end = i + 1;
        if (i <= plain.from)
            return err_set(ERR_malformed, "episode %lu: token %u cannot be a target, it is the first", id, i);
        uint32_t turn = episode_turn(e, i);
        if (episode_drops(e, turn)) continue;
        *targets += 1;
        *turns += turn != last ? 1 : 0;
        last = turn;
    }
    if (end - whole.from > max_tokens)
        return err_set(ERR_malformed, "episode %lu has %u tokens; the learner takes %zu", id, end - whole.from, max_tokens);
    return ERR_ok;
}

err_t episode_check(const struct episode *e, int32_t vocab, size_t max_tokens)
{
    unsigned long id = e->id;
    uint32_t targets = 0, turns = 0;
    if (!isfinite(e->advantage)) return err_set(ERR_malformed, "episode %lu: its advantage is not finite", id);
    if (!isfinite(e->reward)) return err_set(ERR_malformed, "episode %lu: its reward is not finite", id);
    if (e->count == 0) return e->signal ? err_set(ERR_malformed, "episode %lu has signal but no tokens", id) : ERR_ok;
    TRY(check_shape(e));
    for (uint32_t i = 0; i < e->count; i++) {
        if (e->token[i] < 0 || e->token[i] >= vocab)
            return err_set(ERR_malformed, "episode %lu: token %d at %u is outside the vocabulary of %d", id, e->token[i], i,
                           vocab);
    }
    for (uint32_t i = 0; i < episode_contexts(e); i++) TRY(check_context(e, i, max_tokens, &targets, &turns));
    if (targets != e->action_tokens)
        return err_set(ERR_malformed, "episode %lu: %u targets, but %u action tokens are on record", id, targets,
                       e->action_tokens);
    if (e->action_turns != 0 && turns != e->action_turns)
        return err_set(ERR_malformed, "episode %lu: %u turns with targets, but %u are on record", id, turns, e->action_turns);
    return ERR_ok;
}
