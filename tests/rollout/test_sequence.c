/* LABELS: unit
 * sequence: what is encoded decodes to the same; every prefix and every changed byte is refused or decodes within bounds. */
#include "rollout/sequence.h"
#include "services/common/base/rng.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#define MOST 300

struct made {
    int32_t token[MOST], version[MOST];
    uint8_t target[MOST];
    uint16_t turn[MOST];
    float logp[MOST], entropy[MOST];
    uint32_t segment[MOST + 1], own[MOST];
    struct sequence sequence;
};

/* a hint, and segments that repeat it and more: what they repeat is no target */
static void cut(struct made *m, struct rng *rng)
{
    struct sequence *s = &m->sequence;
    uint32_t segments = 1 + rng_below(rng, 4), least = 12;
    if (s->count < segments * least) return;
    s->hint = rng_below(rng, 2) ? rng_below(rng, 6) : 0;
    for (uint32_t i = 0; i < segments; i++) {
        m->segment[i] = i * (s->count / segments);
        m->own[i] = m->segment[i] + (i > 0 ? s->hint + rng_below(rng, 5) : 0);
        uint32_t quiet = i > 0 ? m->own[i] : s->hint;
        for (uint32_t k = m->segment[i]; k < quiet; k++) {
            m->target[k] = 0;
            m->logp[k] = m->entropy[k] = 0;
            m->version[k] = -1;
        }
    }
    m->segment[segments] = s->count;
    if (segments < 2) return;
    s->segments = segments;
    s->segment = m->segment;
    s->own = m->own;
}

/* a sequence of random shape */
static void make(struct made *m, struct rng *rng)
{
    uint32_t count = rng_below(rng, MOST), turn = 0;
    bool sampled = rng_below(rng, 4) != 0, wide = rng_below(rng, 4) == 0;
    for (uint32_t i = 0; i < count; i++) {
        turn += i > 0 && rng_below(rng, 9) == 0;
        m->token[i] = (int32_t)rng_below(rng, wide ? 1u << 20 : 1u << 16);
        m->target[i] = rng_below(rng, 3) == 0;
        m->turn[i] = (uint16_t)turn;
        bool drawn = sampled && m->target[i];
        m->logp[i] = drawn ? -5.0f * (float)rng_unit(rng) : 0.0f;
        m->entropy[i] = drawn ? 3.0f * (float)rng_unit(rng) : 0.0f;
        m->version[i] = drawn ? (int32_t)(i / 40) : -1;
    }
    m->sequence = (struct sequence){.count = count,
                                    .turns = count ? turn + 1 : 0,
                                    .token = m->token,
                                    .target = m->target,
                                    .turn = m->turn,
                                    .logp = m->logp,
                                    .entropy = m->entropy,
                                    .version = m->version,
                                    .sampled = sampled};
    if (rng_below(rng, 2)) cut(m, rng);
}

static void same(const struct sequence *a, const struct sequence *b)
{
    ck_assert_uint_eq(a->count, b->count);
    ck_assert_uint_eq(a->turns, b->turns);
    ck_assert(a->sampled == b->sampled);
    ck_assert_uint_eq(a->hint, b->hint);
    ck_assert_uint_eq(a->segments, b->segments);
    for (uint32_t i = 0; i < a->segments; i++) {
        ck_assert_uint_eq(a->segment[i], b->segment[i]);
        ck_assert_uint_eq(a->segment[i + 1], b->segment[i + 1]);
        ck_assert_uint_eq(a->own[i], b->own[i]);
    }
    for (uint32_t i = 0; i < a->count; i++) {
        ck_assert_int_eq(a->token[i], b->token[i]);
        ck_assert_uint_eq(a->target[i], b->target[i]);
        ck_assert_uint_eq(a->turn[i], b->turn[i]);
        ck_assert(a->logp[i] == b->logp[i]);
        ck_assert(a->entropy[i] == b->entropy[i]);
        ck_assert_int_eq(a->version[i], b->version[i]);
    }
}

START_TEST(what_is_encoded_decodes_to_the_same)
{
    struct rng rng;
    rng_init(&rng, 1, 0);
    for (int i = 0; i < 300; i++) {
        struct made made;
        struct sequence back;
        AUTO(buf) bytes = {0};
        AUTO(arena) arena = {0};
        make(&made, &rng);
        ck_assert_int_eq(sequence_encode(&made.sequence, &bytes), ERR_ok);
        ck_assert_msg(sequence_decode(buf_span(&bytes), &arena, &back) == ERR_ok, "%s", err_text());
        same(&made.sequence, &back);
    }
}
END_TEST

/* whatever decodes keeps its promises */
static void is_sound(const struct sequence *s)
{
    uint16_t last = 0;
    ck_assert_uint_le(s->count, SEQUENCE_MAX_TOKENS);
    ck_assert_uint_le(s->hint, s->count);
    for (uint32_t i = 0; i < s->hint; i++) ck_assert_uint_eq(s->target[i], 0);
    ck_assert_uint_ne(s->segments, 1);
    for (uint32_t i = 0; i < s->segments; i++) {
        ck_assert_uint_lt(s->segment[i], s->segment[i + 1]);
        ck_assert_uint_le(s->segment[i + 1], s->count);
        ck_assert_uint_le(s->segment[i] + (i > 0 ? s->hint : 0), s->own[i]);
        for (uint32_t k = s->segment[i]; k < s->own[i]; k++) ck_assert_uint_eq(s->target[k], 0);
    }
    for (uint32_t i = 0; i < s->count; i++) {
        ck_assert_uint_le(s->target[i], 1);
        ck_assert_uint_lt(s->turn[i], s->turns);
        ck_assert_uint_ge(s->turn[i], last);
        ck_assert_int_ge(s->token[i], 0);
        last = s->turn[i];
        if (s->sampled && s->target[i]) {
            ck_assert(isfinite(s->logp[i]) && s->logp[i] <= 0);
            ck_assert(isfinite(s->entropy[i]) && s->entropy[i] >= 0);
        }
    }
}

START_TEST(broken_bytes_are_refused_or_sound)
{
    struct rng rng;
    rng_init(&rng, 2, 0);
    for (int i = 0; i < 12; i++) {
        struct made made;
        struct sequence back;
        AUTO(buf) bytes = {0};
        make(&made, &rng);
        ck_assert_int_eq(sequence_encode(&made.sequence, &bytes), ERR_ok);
        for (size_t n = 0; n < bytes.size; n++) { /* every prefix is refused */
            AUTO(arena) arena = {0};
            uint8_t *exact = malloc(n + 1);
            memcpy(exact, bytes.data, n);
            ck_assert_int_eq(sequence_decode(span_of(exact, n), &arena, &back), ERR_malformed);
            free(exact);
        }
        for (size_t n = 0; n < bytes.size; n++) {
            AUTO(arena) arena = {0};
            bytes.data[n] ^= (uint8_t)(1u << rng_below(&rng, 8));
            if (sequence_decode(buf_span(&bytes), &arena, &back) == ERR_ok) is_sound(&back);
        }
    }
}
END_TEST

START_TEST(bounds_are_kept)
{
    int32_t token = -1;
    uint8_t target = 0;
    uint16_t turn = 0;
    float zero = 0;
    int32_t version = -1;
    AUTO(buf) bytes = {0};
    struct sequence s = {.count = 1,
                         .turns = 1,
                         .token = &token,
                         .target = &target,
                         .turn = &turn,
                         .logp = &zero,
                         .entropy = &zero,
                         .version = &version};
    ck_assert_int_eq(sequence_encode(&s, &bytes), ERR_invalid);
    token = 5;
    turn = 1; /* of one turn */
    ck_assert_int_eq(sequence_encode(&s, &bytes), ERR_invalid);
    s.count = SEQUENCE_MAX_TOKENS + 1;
    ck_assert_int_eq(sequence_encode(&s, &bytes), ERR_too_large);
    ck_assert_uint_eq(bytes.size, 0);
}
END_TEST

/* a sequence of six tokens, the last two sampled, as format 1 wrote it: old ledgers hold such payloads */
START_TEST(format_1_is_read)
{
    static const uint8_t old[] = {
        'P', 'S', 'E',  'Q',  1,  1, 0,    0,                                    /* sampled, 16-bit ids */
        6,   0,   0,    0,    1,  0, 0,    0,    2,  0, 0,  0, 1, 0, 0, 0,       /* tokens, turns, targets, runs */
        10,  0,   11,   0,    12, 0, 13,   0,    14, 0, 15, 0, 6, 0, 0, 0, 0x30, /* ids, the turn's length, targets */
        0,   0,   0x80, 0xbf, 0,  0, 0,    0xbf,                                 /* log-probs -1, -0.5 */
        0,   0,   0,    0x3f, 0,  0, 0x80, 0x3f,                                 /* entropies 0.5, 1 */
        3,   0,   0,    0,    2,  0, 0,    0,                                    /* version 3 for two targets */
    };
    AUTO(arena) arena = {0};
    struct sequence s;
    ck_assert_msg(sequence_decode(span_of(old, sizeof old), &arena, &s) == ERR_ok, "%s", err_text());
    ck_assert_uint_eq(s.count, 6);
    ck_assert_uint_eq(s.hint, 0);
    ck_assert_uint_eq(s.segments, 0);
    ck_assert(!s.segment && !s.own);
    ck_assert_int_eq(s.token[5], 15);
    ck_assert(s.target[4] && s.target[5] && !s.target[3]);
    ck_assert(s.logp[4] == -1.0f && s.entropy[5] == 1.0f && s.version[5] == 3);
}
END_TEST

/* no target hides in a hint or in a repetition, and segments are in order */
START_TEST(contexts_are_checked)
{
    int32_t token[8] = {1, 2, 3, 4, 1, 2, 5, 6}, version[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
    uint8_t target[8] = {0, 0, 0, 1, 0, 0, 0, 1};
    uint16_t turn[8] = {0, 0, 0, 0, 1, 1, 1, 1};
    float zero[8] = {0};
    uint32_t segment[3] = {0, 4, 8}, own[2] = {0, 6};
    AUTO(buf) bytes = {0};
    const struct sequence good = {.count = 8,
                                  .turns = 2,
                                  .token = token,
                                  .target = target,
                                  .turn = turn,
                                  .logp = zero,
                                  .entropy = zero,
                                  .version = version,
                                  .hint = 2,
                                  .segments = 2,
                                  .segment = segment,
                                  .own = own};
    ck_assert_int_eq(sequence_encode(&good, &bytes), ERR_ok);
    struct sequence bad = good;
    bad.hint = 4; /* its last token is a target */
    ck_assert_int_eq(sequence_encode(&bad, &bytes), ERR_invalid);
    bad.hint = 3; /* the second segment repeats two tokens only */
    ck_assert_int_eq(sequence_encode(&bad, &bytes), ERR_invalid);
    own[1] = 8; /* a repeated target */
    ck_assert_int_eq(sequence_encode(&good, &bytes), ERR_invalid);
    own[1] = 6;
    segment[1] = 0; /* an empty segment */
    ck_assert_int_eq(sequence_encode(&good, &bytes), ERR_invalid);
    segment[1] = 4;
    segment[2] = 7; /* not to the end */
    ck_assert_int_eq(sequence_encode(&good, &bytes), ERR_invalid);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sequence");
    TCase *tcase = tcase_create("sequence");
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, what_is_encoded_decodes_to_the_same);
    tcase_add_test(tcase, broken_bytes_are_refused_or_sound);
    tcase_add_test(tcase, bounds_are_kept);
    tcase_add_test(tcase, format_1_is_read);
    tcase_add_test(tcase, contexts_are_checked);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
