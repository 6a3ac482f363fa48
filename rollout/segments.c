#include "rollout/segments.h"

/* The arrays of a sequence while it is written. */
struct columns {
    uint32_t count;
    int32_t *token, *version;
    uint8_t *target;
    uint16_t *turn;
    float *logp, *entropy;
};

static err_t columns_make(struct columns *c, struct arena *arena, size_t count)
{
    if (count > SEQUENCE_MAX_TOKENS)
        return err_set(ERR_too_large, "a sequence of %zu tokens; %u are allowed", count, SEQUENCE_MAX_TOKENS);
    *c = (struct columns){.token = arena_array(arena, int32_t, count),
                          .version = arena_array(arena, int32_t, count),
                          .target = arena_array(arena, uint8_t, count),
                          .turn = arena_array(arena, uint16_t, count),
                          .logp = arena_array(arena, float, count),
                          .entropy = arena_array(arena, float, count)};
    return c->token && c->version && c->target && c->turn && c->logp && c->entropy ? ERR_ok : ERR_memory;
}

/* Tokens [from, to) as what they are, or only as context of this turn. */
static void put(struct columns *c, const struct sequence *s, uint32_t from, uint32_t to, bool own, uint16_t turn)
{
    for (uint32_t i = from; i < to; i++) {
        uint32_t p = c->count++;
        c->token[p] = s->token[i];
        c->version[p] = own ? s->version[i] : -1;
        c->target[p] = own && s->target[i];
        c->turn[p] = own ? s->turn[i] : turn;
        c->logp[p] = own ? s->logp[i] : 0;
        c->entropy[p] = own ? s->entropy[i] : 0;
    }
}

static struct sequence sequence_of(const struct columns *c, const struct sequence *like)
{
    struct sequence s = *like;
    s.count = c->count;
    s.token = c->token;
    s.version = c->version;
    s.target = c->target;
    s.turn = c->turn;
    s.logp = c->logp;
    s.entropy = c->entropy;
    s.segments = 0;
    s.segment = s.own = NULL;
    return s;
}

/* First token of each turn into begin [turns + 1]. */
static err_t find_turns(const struct sequence *s, uint32_t *begin)
{
    uint32_t at = 0;
    for (uint32_t t = 0; t < s->turns; t++) {
        begin[t] = at;
        while (at < s->count && s->turn[at] == t) at++;
        if (at == begin[t]) return err_set(ERR_invalid, "turn %u of %u has no tokens", t, s->turns);
    }
    begin[s->turns] = at;
    return at == s->count ? ERR_ok : err_set(ERR_invalid, "token %u is of turn %u of %u", at, s->turn[at], s->turns);
}

err_t segments_cut(const struct sequence *whole, uint32_t prefix, const uint32_t *window, struct arena *arena,
                   struct sequence *ret)
{
    uint32_t turns = whole->turns;
    size_t count = whole->count;
    struct columns c;
    *ret = *whole;
    BUG_IF(whole->segments > 1);
    if (turns < 2) return ERR_ok;
    if (prefix < whole->hint) return err_set(ERR_invalid, "a hint of %u tokens in a prefix of %u", whole->hint, prefix);
    uint32_t *begin = arena_array(arena, uint32_t, (size_t)turns * 3 + 2);
    if (!begin) return ERR_memory;
    uint32_t *segment = begin + turns + 1, *own = segment + turns + 1;
    TRY(find_turns(whole, begin));
    for (uint32_t t = 1; t < turns; t++) {
        if (window[t] < prefix || window[t] > begin[t])
            return err_set(ERR_invalid, "turn %u repeats from token %u on; it begins at %u", t, window[t], begin[t]);
        count += prefix + begin[t] - window[t];
    }
    TRY(columns_make(&c, arena, count));
    for (uint32_t t = 0; t < turns; t++) {
        segment[t] = c.count;
        if (t > 0) {
            put(&c, whole, 0, prefix, false, (uint16_t)t);
            put(&c, whole, window[t], begin[t], false, (uint16_t)t);
        }
        own[t] = c.count;
        put(&c, whole, begin[t], begin[t + 1], true, (uint16_t)t);
    }
    segment[turns] = c.count;
    *ret = sequence_of(&c, whole);
    ret->segments = turns;
    ret->segment = segment;
    ret->own = own;
    return ERR_ok;
}

err_t segments_join(const struct sequence *sequence, struct arena *arena, struct sequence *ret)
{
    struct columns c;
    *ret = *sequence;
    if (sequence->segments < 2) return ERR_ok;
    TRY(columns_make(&c, arena, sequence->count));
    for (uint32_t i = 0; i < sequence->segments; i++) put(&c, sequence, sequence->own[i], sequence->segment[i + 1], true, 0);
    *ret = sequence_of(&c, sequence);
    return ERR_ok;
}
