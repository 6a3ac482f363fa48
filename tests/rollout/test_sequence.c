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
    struct sequence sequence;
};

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
    m->sequence = (struct sequence){count,      count ? turn + 1 : 0, m->token, m->target, m->turn, m->logp,
                                    m->entropy, m->version,           sampled,  0,         0,       NULL};
}

static void same(const struct sequence *a, const struct sequence *b)
{
    ck_assert_uint_eq(a->count, b->count);
    ck_assert_uint_eq(a->turns, b->turns);
    ck_assert(a->sampled == b->sampled);
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
    struct sequence s = {1, 1, &token, &target, &turn, &zero, &zero, &version, false, 0, 0, NULL};
    ck_assert_int_eq(sequence_encode(&s, &bytes), ERR_invalid);
    token = 5;
    turn = 1; /* of one turn */
    ck_assert_int_eq(sequence_encode(&s, &bytes), ERR_invalid);
    s.count = SEQUENCE_MAX_TOKENS + 1;
    ck_assert_int_eq(sequence_encode(&s, &bytes), ERR_too_large);
    ck_assert_uint_eq(bytes.size, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sequence");
    TCase *tcase = tcase_create("sequence");
    tcase_add_test(tcase, what_is_encoded_decodes_to_the_same);
    tcase_add_test(tcase, broken_bytes_are_refused_or_sound);
    tcase_add_test(tcase, bounds_are_kept);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
