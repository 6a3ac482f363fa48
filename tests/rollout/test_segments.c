/* LABELS: unit
 * segments: what is cut and joined is what it was; a segment is the hint, what it repeats, and its turn. */
#include "rollout/segments.h"
#include "services/common/base/rng.h"

#include <check.h>

#define MOST 200

struct made {
    int32_t token[MOST], version[MOST];
    uint8_t target[MOST];
    uint16_t turn[MOST];
    float logp[MOST], entropy[MOST];
    uint32_t begin[MOST + 1], window[MOST], prefix;
    struct sequence whole;
};

/* turns of one to nine tokens, the last one or two of them targets; no action in the last turn, sometimes */
static void make(struct made *m, struct rng *rng)
{
    uint32_t turns = rng_below(rng, 20), count = 0, hint = rng_below(rng, 2) ? 1 + rng_below(rng, 4) : 0;
    m->prefix = hint + rng_below(rng, 3);
    bool open = rng_below(rng, 2) == 0;
    for (uint32_t t = 0; t < turns; t++) {
        uint32_t observed = (t == 0 ? m->prefix : 0) + 1 + rng_below(rng, 5);
        uint32_t acted = open && t + 1 == turns ? 0 : 1 + rng_below(rng, 2);
        m->begin[t] = count;
        for (uint32_t i = 0; i < observed + acted; i++, count++) {
            m->token[count] = (int32_t)rng_below(rng, 300);
            m->target[count] = i >= observed;
            m->turn[count] = (uint16_t)t;
            m->logp[count] = i >= observed ? -1.5f * (float)rng_unit(rng) : 0;
            m->entropy[count] = i >= observed ? (float)rng_unit(rng) : 0;
            m->version[count] = i >= observed ? (int32_t)t : -1;
        }
        uint32_t back = rng_below(rng, 4);
        m->window[t] = back >= t ? m->prefix : m->begin[t - back];
        if (t > 0 && back == 0) m->window[t] = m->begin[t];
    }
    m->begin[turns] = count;
    m->whole = (struct sequence){.count = count,
                                 .turns = turns,
                                 .token = m->token,
                                 .target = m->target,
                                 .turn = m->turn,
                                 .logp = m->logp,
                                 .entropy = m->entropy,
                                 .version = m->version,
                                 .sampled = true,
                                 .hint = turns ? hint : 0};
}

static void same(const struct sequence *a, const struct sequence *b)
{
    ck_assert_uint_eq(a->count, b->count);
    ck_assert_uint_eq(a->turns, b->turns);
    ck_assert_uint_eq(a->hint, b->hint);
    ck_assert_uint_eq(a->segments, b->segments);
    for (uint32_t i = 0; i < a->count; i++) {
        ck_assert_int_eq(a->token[i], b->token[i]);
        ck_assert_uint_eq(a->target[i], b->target[i]);
        ck_assert_uint_eq(a->turn[i], b->turn[i]);
        ck_assert(a->logp[i] == b->logp[i] && a->entropy[i] == b->entropy[i]);
        ck_assert_int_eq(a->version[i], b->version[i]);
    }
}

static void is_context(const struct made *m, const struct sequence *s, uint32_t t)
{
    uint32_t at = s->segment[t];
    for (uint32_t i = 0; t > 0 && i < m->prefix; i++) ck_assert_int_eq(s->token[at++], m->token[i]);
    for (uint32_t i = m->window[t]; t > 0 && i < m->begin[t]; i++) {
        ck_assert_uint_eq(s->target[at], 0);
        ck_assert_int_eq(s->token[at++], m->token[i]);
    }
    ck_assert_uint_eq(s->own[t], at);
    for (uint32_t i = m->begin[t]; i < m->begin[t + 1]; i++) {
        ck_assert_uint_eq(s->target[at], m->target[i]);
        ck_assert_int_eq(s->token[at++], m->token[i]);
    }
    ck_assert_uint_eq(s->segment[t + 1], at);
    for (uint32_t i = s->segment[t]; i < at; i++) ck_assert_uint_eq(s->turn[i], t);
}

START_TEST(what_is_cut_joins_to_the_same)
{
    struct rng rng;
    rng_init(&rng, 6, 0);
    for (int round = 0; round < 300; round++) {
        struct made made;
        struct sequence cut, back, joined;
        AUTO(arena) arena = {0};
        AUTO(buf) bytes = {0};
        make(&made, &rng);
        ck_assert_msg(segments_cut(&made.whole, made.prefix, made.window, &arena, &cut) == ERR_ok, "%s", err_text());
        ck_assert_uint_eq(cut.segments, made.whole.turns > 1 ? made.whole.turns : 0);
        for (uint32_t t = 0; t < cut.segments; t++) is_context(&made, &cut, t);
        ck_assert_msg(sequence_encode(&cut, &bytes) == ERR_ok, "%s", err_text());
        ck_assert_msg(sequence_decode(buf_span(&bytes), &arena, &back) == ERR_ok, "%s", err_text());
        same(&cut, &back);
        ck_assert_int_eq(segments_join(&back, &arena, &joined), ERR_ok);
        same(&made.whole, &joined);
    }
}
END_TEST

START_TEST(a_window_out_of_place_is_refused)
{
    struct rng rng;
    struct made made;
    struct sequence cut;
    AUTO(arena) arena = {0};
    rng_init(&rng, 7, 0);
    do make(&made, &rng);
    while (made.whole.turns < 3 || made.whole.hint == 0);
    uint32_t kept = made.window[2];
    made.window[2] = made.begin[2] + 1; /* into the turn itself */
    ck_assert_int_eq(segments_cut(&made.whole, made.prefix, made.window, &arena, &cut), ERR_invalid);
    made.window[2] = made.prefix - 1; /* the prefix twice */
    ck_assert_int_eq(segments_cut(&made.whole, made.prefix, made.window, &arena, &cut), ERR_invalid);
    made.window[2] = kept;
    made.turn[made.whole.count - 1] = (uint16_t)made.whole.turns; /* a turn too many */
    ck_assert_int_eq(segments_cut(&made.whole, made.prefix, made.window, &arena, &cut), ERR_invalid);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("segments");
    TCase *tcase = tcase_create("segments");
    tcase_add_test(tcase, what_is_cut_joins_to_the_same);
    tcase_add_test(tcase, a_window_out_of_place_is_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
