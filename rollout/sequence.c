#include "rollout/sequence.h"

#include <math.h>

/* Layout, little-endian: magic "PSEQ", u8 format, u8 flags (1: sampled, 2: tokens need 32 bits), u16 0, u32 count, u32 turns,
 * u32 targets, u32 runs, u32 hint, u32 segments; tokens u16 or i32 [count]; turn lengths u32 [turns]; (length u32, repeated
 * u32) [segments]; target bits [(count + 7) / 8]; if sampled: logp f32 [targets], entropy f32 [targets], runs of (version
 * i32, targets u32) [runs]. Format 1 is the same without hint and segments. */
static const uint8_t MAGIC[4] = {'P', 'S', 'E', 'Q'};

#define FORMAT       2
#define HEAD_1_BYTES 24
#define HEAD_2_BYTES 32
#define FLAG_SAMPLED 1u
#define FLAG_WIDE    2u

static err_t put_u32(struct buf *out, uint32_t value)
{
    uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    return buf_append(out, bytes, sizeof bytes);
}

static uint32_t get_u32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static err_t put_float(struct buf *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return put_u32(out, bits);
}

static float get_float(const uint8_t *at)
{
    uint32_t bits = get_u32(at);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

struct counts {
    uint32_t targets, runs;
    bool wide;
};

static struct counts count(const struct sequence *s)
{
    struct counts c = {0};
    int32_t last = -1;
    for (uint32_t i = 0; i < s->count; i++) {
        c.wide |= s->token[i] > UINT16_MAX;
        if (!s->target[i]) continue;
        if (c.targets == 0 || s->version[i] != last) c.runs++;
        last = s->version[i];
        c.targets++;
    }
    if (!s->sampled) c.runs = 0;
    return c;
}

static err_t put_tokens(const struct sequence *s, bool wide, struct buf *out)
{
    for (uint32_t i = 0; i < s->count; i++) {
        uint8_t narrow[2] = {(uint8_t)s->token[i], (uint8_t)(s->token[i] >> 8)};
        TRY(wide ? put_u32(out, (uint32_t)s->token[i]) : buf_append(out, narrow, sizeof narrow));
    }
    return ERR_ok;
}

static err_t put_turns(const struct sequence *s, struct buf *out)
{
    uint32_t at = 0;
    for (uint32_t turn = 0; turn < s->turns; turn++) {
        uint32_t start = at;
        while (at < s->count && s->turn[at] == turn) at++;
        TRY(put_u32(out, at - start));
    }
    return at == s->count ? ERR_ok : err_set(ERR_invalid, "token %u is of turn %u of %u", at, s->turn[at], s->turns);
}

static err_t put_segments(const struct sequence *s, uint32_t segments, struct buf *out)
{
    for (uint32_t i = 0; i < segments; i++) {
        TRY(put_u32(out, s->segment[i + 1] - s->segment[i]));
        TRY(put_u32(out, s->own[i] - s->segment[i]));
    }
    return ERR_ok;
}

static err_t put_targets(const struct sequence *s, struct buf *out)
{
    for (uint32_t i = 0; i < s->count; i += 8) {
        uint8_t bits = 0;
        for (uint32_t k = 0; k < 8 && i + k < s->count; k++) bits = (uint8_t)(bits | (s->target[i + k] != 0) << k);
        TRY(buf_append(out, &bits, 1));
    }
    return ERR_ok;
}

static err_t put_runs(const struct sequence *s, struct buf *out)
{
    uint32_t length = 0;
    int32_t version = -1;
    for (uint32_t i = 0; i < s->count; i++) {
        if (!s->target[i]) continue;
        if (length && s->version[i] != version) {
            TRY(put_u32(out, (uint32_t)version));
            TRY(put_u32(out, length));
            length = 0;
        }
        version = s->version[i];
        length++;
    }
    if (length == 0) return ERR_ok;
    TRY(put_u32(out, (uint32_t)version));
    return put_u32(out, length);
}

static err_t put_all(const struct sequence *s, struct buf *out)
{
    struct counts c = count(s);
    uint32_t segments = s->segments > 1 ? s->segments : 0;
    const uint8_t head[4] = {FORMAT, (uint8_t)((s->sampled ? FLAG_SAMPLED : 0) | (c.wide ? FLAG_WIDE : 0)), 0, 0};
    TRY(buf_append(out, MAGIC, sizeof MAGIC));
    TRY(buf_append(out, head, sizeof head));
    TRY(put_u32(out, s->count));
    TRY(put_u32(out, s->turns));
    TRY(put_u32(out, c.targets));
    TRY(put_u32(out, c.runs));
    TRY(put_u32(out, s->hint));
    TRY(put_u32(out, segments));
    TRY(put_tokens(s, c.wide, out));
    TRY(put_turns(s, out));
    TRY(put_segments(s, segments, out));
    TRY(put_targets(s, out));
    if (!s->sampled) return ERR_ok;
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->target[i]) TRY(put_float(out, s->logp[i]));
    }
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->target[i]) TRY(put_float(out, s->entropy[i]));
    }
    return put_runs(s, out);
}

static bool untargeted(const struct sequence *s, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        if (s->target[i]) return false;
    }
    return true;
}

/* Is the hint in front of every context, and what a segment repeats no target? */
static bool contexts_are_sound(const struct sequence *s)
{
    uint32_t first = s->segments > 1 ? s->segment[1] : s->count;
    if (s->hint > first || !untargeted(s, 0, s->hint)) return false;
    if (s->segments < 2) return true;
    if (s->segment[0] != 0 || s->own[0] != 0 || s->segment[s->segments] != s->count) return false;
    for (uint32_t i = 0; i < s->segments; i++) {
        if (s->segment[i] >= s->segment[i + 1] || s->own[i] < s->segment[i] || s->own[i] > s->segment[i + 1]) return false;
        if (i > 0 && s->own[i] - s->segment[i] < s->hint) return false;
        if (!untargeted(s, s->segment[i], s->own[i])) return false;
    }
    return true;
}

err_t sequence_encode(const struct sequence *sequence, struct buf *out)
{
    if (sequence->count > SEQUENCE_MAX_TOKENS || sequence->turns > UINT16_MAX)
        return err_set(ERR_too_large, "a sequence of %u tokens, %u turns", sequence->count, sequence->turns);
    for (uint32_t i = 0; i < sequence->count; i++) {
        if (sequence->token[i] < 0) return err_set(ERR_invalid, "token %u is %d", i, sequence->token[i]);
    }
    if (!contexts_are_sound(sequence))
        return err_set(ERR_invalid, "a hint of %u tokens or %u segments that do not fit", sequence->hint, sequence->segments);
    size_t before = out->size;
    err_t err = put_all(sequence, out);
    if (err != ERR_ok) out->size = before;
    return err;
}

/* ---- decode ---- */

struct shape {
    uint32_t count, turns, targets, runs, hint, segments;
    bool sampled, wide;
    const uint8_t *tokens, *lengths, *segment, *bits, *logp, *entropy, *run;
};

/* The numbers of the head; the format's head may be longer than the bytes. */
static err_t read_head(struct span bytes, struct shape *ret, size_t *ret_size)
{
    if (bytes.size < HEAD_1_BYTES || memcmp(bytes.data, MAGIC, sizeof MAGIC) != 0)
        return err_set(ERR_malformed, "%zu bytes that are no sequence", bytes.size);
    const uint8_t *h = bytes.data;
    if (h[4] < 1 || h[4] > FORMAT || (h[5] & ~(FLAG_SAMPLED | FLAG_WIDE)) || h[6] || h[7])
        return err_set(ERR_malformed, "sequence format %u, flags %u", h[4], h[5]);
    *ret_size = h[4] == 1 ? HEAD_1_BYTES : HEAD_2_BYTES;
    if (bytes.size < *ret_size) return err_set(ERR_malformed, "a sequence of %zu bytes", bytes.size);
    *ret = (struct shape){.count = get_u32(h + 8),
                          .turns = get_u32(h + 12),
                          .targets = get_u32(h + 16),
                          .runs = get_u32(h + 20),
                          .hint = h[4] == 1 ? 0 : get_u32(h + 24),
                          .segments = h[4] == 1 ? 0 : get_u32(h + 28),
                          .sampled = (h[5] & FLAG_SAMPLED) != 0,
                          .wide = (h[5] & FLAG_WIDE) != 0};
    return ERR_ok;
}

static err_t read_shape(struct span bytes, struct shape *ret)
{
    struct shape s = {0};
    size_t head = 0;
    TRY(read_head(bytes, &s, &head));
    if (s.count > SEQUENCE_MAX_TOKENS || s.turns > UINT16_MAX || s.targets > s.count || s.runs > s.targets)
        return err_set(ERR_malformed, "a sequence of %u tokens, %u turns, %u targets, %u runs", s.count, s.turns, s.targets,
                       s.runs);
    if (s.hint > s.count || s.segments > s.count || s.segments == 1)
        return err_set(ERR_malformed, "a sequence of %u tokens with a hint of %u and %u segments", s.count, s.hint,
                       s.segments);
    size_t tokens = (size_t)s.count * (s.wide ? 4 : 2), lengths = (size_t)s.turns * 4, segments = (size_t)s.segments * 8,
           bits = ((size_t)s.count + 7) / 8;
    size_t want = head + tokens + lengths + segments + bits;
    if (s.sampled) want += (size_t)s.targets * 8 + (size_t)s.runs * 8;
    if (bytes.size != want || (!s.sampled && s.runs))
        return err_set(ERR_malformed, "a sequence of %zu bytes, not %zu", bytes.size, want);
    s.tokens = bytes.data + head;
    s.lengths = s.tokens + tokens;
    s.segment = s.lengths + lengths;
    s.bits = s.segment + segments;
    s.logp = s.bits + bits;
    s.entropy = s.logp + (size_t)s.targets * 4;
    s.run = s.entropy + (size_t)s.targets * 4;
    *ret = s;
    return ERR_ok;
}

static err_t read_turns(const struct shape *s, uint16_t *turn)
{
    uint32_t at = 0;
    for (uint32_t t = 0; t < s->turns; t++) {
        uint32_t length = get_u32(s->lengths + (size_t)t * 4);
        if (length > s->count - at) return err_set(ERR_malformed, "turn %u has %u tokens", t, length);
        for (uint32_t i = 0; i < length; i++) turn[at++] = (uint16_t)t;
    }
    return at == s->count ? ERR_ok : err_set(ERR_malformed, "turns cover %u of %u tokens", at, s->count);
}

static err_t read_targets(const struct shape *s, uint8_t *target)
{
    uint32_t targets = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        target[i] = (uint8_t)((unsigned)s->bits[i / 8] >> (i % 8) & 1u);
        targets += target[i];
    }
    if (s->count % 8 && s->bits[s->count / 8] >> (s->count % 8)) return err_set(ERR_malformed, "target bits past the end");
    return targets == s->targets ? ERR_ok : err_set(ERR_malformed, "%u targets, %u are declared", targets, s->targets);
}

struct columns {
    float *logp, *entropy;
    int32_t *version;
};

static err_t read_sampled(const struct shape *s, const uint8_t *target, const struct columns *c)
{
    uint32_t n = 0, run = 0, left = 0;
    int32_t version = -1;
    for (uint32_t i = 0; i < s->count; i++) {
        c->version[i] = -1;
        if (!target[i]) continue;
        c->logp[i] = get_float(s->logp + (size_t)n * 4);
        c->entropy[i] = get_float(s->entropy + (size_t)n * 4);
        n++;
        if (!isfinite(c->logp[i]) || c->logp[i] > 1e-4f)
            return err_set(ERR_malformed, "target %u has log-prob %g", n, (double)c->logp[i]);
        if (!isfinite(c->entropy[i]) || c->entropy[i] < -1e-3f)
            return err_set(ERR_malformed, "target %u has entropy %g", n, (double)c->entropy[i]);
        if (left == 0) {
            if (run == s->runs) return err_set(ERR_malformed, "versions end at target %u", n);
            version = (int32_t)get_u32(s->run + (size_t)run * 8);
            left = get_u32(s->run + (size_t)run * 8 + 4);
            run++;
            if (left == 0 || version < 0) return err_set(ERR_malformed, "version %d for %u targets", version, left);
        }
        c->version[i] = version;
        left--;
    }
    return run == s->runs && left == 0 ? ERR_ok : err_set(ERR_malformed, "versions past the last target");
}

/* Starts, and where each segment's own tokens begin; their order is checked with the targets. */
static err_t read_segments(const struct shape *s, uint32_t *segment, uint32_t *own)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < s->segments; i++) {
        const uint8_t *from = s->segment + (size_t)i * 8;
        uint32_t length = get_u32(from), repeated = get_u32(from + 4);
        if (length > s->count - at || repeated > length)
            return err_set(ERR_malformed, "segment %u has %u tokens, %u of them repeated", i, length, repeated);
        segment[i] = at;
        own[i] = at + repeated;
        at += length;
    }
    segment[s->segments] = at;
    return at == s->count ? ERR_ok : err_set(ERR_malformed, "segments cover %u of %u tokens", at, s->count);
}

static err_t read_tokens(const struct shape *s, int32_t *token)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const uint8_t *at = s->tokens + (size_t)i * (s->wide ? 4 : 2);
        token[i] = s->wide ? (int32_t)get_u32(at) : (int32_t)(at[0] | (uint32_t)at[1] << 8);
        if (token[i] < 0) return err_set(ERR_malformed, "token %u is %d", i, token[i]);
    }
    return ERR_ok;
}

err_t sequence_decode(struct span bytes, struct arena *arena, struct sequence *ret)
{
    struct shape s = {0};
    TRY(read_shape(bytes, &s));
    int32_t *token = arena_array(arena, int32_t, s.count);
    uint8_t *target = arena_array(arena, uint8_t, s.count);
    uint16_t *turn = arena_array(arena, uint16_t, s.count);
    struct columns c = {arena_array(arena, float, s.count), arena_array(arena, float, s.count),
                        arena_array(arena, int32_t, s.count)};
    uint32_t *segment = s.segments ? arena_array(arena, uint32_t, (size_t)s.segments * 2 + 1) : NULL;
    uint32_t *own = segment ? segment + s.segments + 1 : NULL;
    if (!token || !target || !turn || !c.logp || !c.entropy || !c.version || (s.segments && !segment)) return ERR_too_large;
    for (uint32_t i = 0; i < s.count; i++) c.version[i] = -1;
    TRY(read_tokens(&s, token));
    TRY(read_turns(&s, turn));
    if (segment) TRY(read_segments(&s, segment, own));
    TRY(read_targets(&s, target));
    if (s.sampled) TRY(read_sampled(&s, target, &c));
    const struct sequence made = {.count = s.count,
                                  .turns = s.turns,
                                  .token = token,
                                  .target = target,
                                  .turn = turn,
                                  .logp = c.logp,
                                  .entropy = c.entropy,
                                  .version = c.version,
                                  .sampled = s.sampled,
                                  .hint = s.hint,
                                  .segments = s.segments,
                                  .segment = segment,
                                  .own = own};
    if (!contexts_are_sound(&made))
        return err_set(ERR_malformed, "targets in a hint of %u tokens, or in what one of %u segments repeats", s.hint,
                       s.segments);
    *ret = made;
    return ERR_ok;
}
