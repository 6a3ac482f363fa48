/* LABELS: unit
 * decoder: log-probs from ragged, arbitrarily cut feeding are the learner's, on one thread and on two; slots keep apart. */
#include "tests/trainer/model/reference.h"
#include "trainer/model/decoder.h"

#include <stdio.h>

#define SLOTS   7
#define CONTEXT 80
#define VOCAB   279

struct play {
    struct model_config config;
    struct model *model;
    struct pool *pool;
    struct decoder *decoder;
    int32_t tokens[SLOTS][CONTEXT];
    float logp[SLOTS][CONTEXT]; /* the learner's, of token t >= 1 */
};

static void learn(struct play *p, size_t slot, uint32_t count)
{
    AUTO_PTR(learner) learner = NULL;
    ck_assert_int_eq(learner_new(&learner, &p->config, 1, CONTEXT, LEARNER_KIND_forward), ERR_ok);
    uint32_t start[] = {0, count}, target[CONTEXT];
    float entropy[CONTEXT];
    for (uint32_t i = 1; i < count; i++) target[i - 1] = i;
    struct learner_batch batch = {1, start, p->tokens[slot], count - 1, target, 1};
    struct learner_out out = {p->logp[slot] + 1, entropy, NULL};
    ck_assert_int_eq(learner_forward(learner, 0, p->model, &batch, &out), ERR_ok);
}

static void play_init(struct play *p, const char *preset, size_t threads, bool bias, bool half, struct rng *rng)
{
    const struct decoder_options options = {SLOTS, CONTEXT, half};
    ck_assert_int_eq(model_preset(preset, VOCAB, &p->config), ERR_ok);
    p->config.qkv_bias = bias;
    ck_assert_int_eq(model_new(&p->model, &p->config), ERR_ok);
    spread_weights(p->model, rng_u64(rng));
    ck_assert_int_eq(pool_new(&p->pool, threads), ERR_ok);
    ck_assert_int_eq(decoder_new(&p->decoder, &p->config, &options, p->pool), ERR_ok);
    for (size_t s = 0; s < SLOTS; s++) {
        for (size_t t = 0; t < CONTEXT; t++) p->tokens[s][t] = (int32_t)rng_below(rng, VOCAB);
        learn(p, s, CONTEXT);
    }
}

static void play_fini(struct play *p)
{
    decoder_free(&p->decoder);
    pool_free(&p->pool);
    model_free(&p->model);
}

static double logp_of(const float *logits, int32_t token)
{
    double sum = 0, top = -1e300;
    for (size_t i = 0; i < VOCAB; i++) top = (double)logits[i] > top ? (double)logits[i] : top;
    for (size_t i = 0; i < VOCAB; i++) sum += exp((double)logits[i] - top);
    return (double)logits[token] - top - log(sum);
}

/* one step of a random set of slots, each fed a random number of its next tokens */
static void random_step(struct play *p, struct rng *rng, float (*logits)[VOCAB], uint64_t version)
{
    struct decoder_item items[SLOTS];
    size_t count = 0;
    for (uint32_t s = 0; s < SLOTS; s++) {
        uint32_t used = decoder_used(p->decoder, s), most = rng_below(rng, 4) == 0 ? 60 : 4;
        if (used == CONTEXT || rng_below(rng, 3) == 0) continue;
        uint32_t n = 1 + rng_below(rng, most);
        if (n > CONTEXT - used) n = CONTEXT - used;
        items[count++] = (struct decoder_item){s, p->tokens[s] + used, n, rng_below(rng, 5) > 0 ? logits[s] : NULL};
    }
    ck_assert_int_eq(decoder_step(p->decoder, p->model, version, items, count), ERR_ok);
    for (size_t i = 0; i < count; i++) {
        uint32_t s = items[i].slot, used = decoder_used(p->decoder, s);
        if (!items[i].logits || used == CONTEXT) continue;
        double got = logp_of(items[i].logits, p->tokens[s][used]), want = (double)p->logp[s][used];
        ck_assert_msg(fabs(got - want) < 1e-4, "slot %u position %u: %.7f, learner %.7f", s, used, got, want);
    }
}

static void agree(const char *preset, size_t threads, bool bias, uint64_t seed)
{
    (void)printf("decoder seed %llu\n", (unsigned long long)seed);
    struct rng rng;
    rng_init(&rng, seed, 2);
    AUTO(play) p = {0};
    play_init(&p, preset, threads, bias, false, &rng);
    float logits[SLOTS][VOCAB];
    for (uint64_t round = 0; round < 60; round++) {
        random_step(&p, &rng, logits, 1);
        uint32_t slot = rng_below(&rng, SLOTS);
        if (rng_below(&rng, 6) == 0 || decoder_used(p.decoder, slot) == CONTEXT) decoder_reset(p.decoder, slot);
    }
}

START_TEST(agrees_with_the_learner)
{
    agree("tiny-0.1m", 1, false, 11);
    agree("tiny-0.1m", 2, true, 12);
    agree("small-3m", 2, false, 13);
}
END_TEST

/* the same weights and items: the same logits, to the bit, whatever thread took them */
START_TEST(two_threads_same_bits)
{
    struct rng rng;
    rng_init(&rng, 14, 2);
    AUTO(play) p = {0};
    play_init(&p, "tiny-0.1m", 2, false, false, &rng);
    float first[SLOTS][VOCAB], again[SLOTS][VOCAB];
    struct decoder_item items[SLOTS];
    for (int round = 0; round < 20; round++) {
        for (uint32_t s = 0; s < SLOTS; s++) {
            decoder_reset(p.decoder, s);
            items[s] = (struct decoder_item){s, p.tokens[s], 30 + s, round == 0 ? first[s] : again[s]};
        }
        ck_assert_int_eq(decoder_step(p.decoder, p.model, 1, items, SLOTS), ERR_ok);
        if (round > 0) ck_assert_mem_eq(first, again, sizeof first);
    }
}
END_TEST

/* new weights under a new version are used, and the old version's are still those */
START_TEST(versions_keep_apart)
{
    struct rng rng;
    rng_init(&rng, 15, 2);
    AUTO(play) p = {0};
    play_init(&p, "tiny-0.1m", 1, false, false, &rng);
    AUTO_PTR(model) other = NULL;
    ck_assert_int_eq(model_new(&other, &p.config), ERR_ok);
    spread_weights(other, 99);
    float logits[3][VOCAB];
    for (uint32_t round = 0; round < 3; round++) {
        const struct model *model = round == 1 ? other : p.model;
        struct decoder_item item = {round, p.tokens[0], 5, logits[round]};
        ck_assert_int_eq(decoder_step(p.decoder, model, round == 1 ? 8 : 7, &item, 1), ERR_ok);
    }
    ck_assert_mem_eq(logits[0], logits[2], sizeof logits[0]);
    ck_assert_mem_ne(logits[0], logits[1], sizeof logits[0]);
    /* more versions than are kept packed */
    for (uint64_t version = 20; version < 24; version++) {
        struct decoder_item item = {4, p.tokens[0], 5, logits[1]};
        decoder_reset(p.decoder, 4);
        ck_assert_int_eq(decoder_step(p.decoder, p.model, version, &item, 1), ERR_ok);
        ck_assert_mem_eq(logits[0], logits[1], sizeof logits[0]);
    }
}
END_TEST

/* the reference: slot 0 is fed token by token, alone */
static void feed_one_by_one(struct play *p, uint32_t slot, const int32_t *tokens, uint32_t count, float *logits)
{
    decoder_reset(p->decoder, slot);
    for (uint32_t t = 0; t < count; t++) {
        const struct decoder_item item = {slot, tokens + t, 1, logits};
        ck_assert_int_eq(decoder_step(p->decoder, p->model, 1, &item, 1), ERR_ok);
    }
}

static void batching(bool half)
{
    struct rng rng;
    rng_init(&rng, 17, 2);
    AUTO(play) p = {0};
    play_init(&p, "small-3m", 2, false, half, &rng);
    float alone[SLOTS][VOCAB], together[SLOTS][VOCAB];
    struct decoder_item items[SLOTS];
    for (uint32_t s = 0; s < SLOTS; s++) feed_one_by_one(&p, s, p.tokens[s], 30 + 5 * s, alone[s]);
    /* in two pieces each, all slots in a step */
    for (uint32_t s = 0; s < SLOTS; s++) {
        decoder_reset(p.decoder, s);
        items[s] = (struct decoder_item){s, p.tokens[s], 7 + s, NULL};
    }
    ck_assert_int_eq(decoder_step(p.decoder, p.model, 1, items, SLOTS), ERR_ok);
    for (uint32_t s = 0; s < SLOTS; s++)
        items[s] = (struct decoder_item){s, p.tokens[s] + 7 + s, 30 + 5 * s - 7 - s, together[s]};
    ck_assert_int_eq(decoder_step(p.decoder, p.model, 1, items, SLOTS), ERR_ok);
    ck_assert_mem_eq(alone, together, sizeof alone);
}

START_TEST(batching_changes_no_bit)
{
    batching(false);
    batching(true);
}
END_TEST

/* Single tokens of a few slots in a step, few enough to be split, after prompts of other lengths, by so many threads. */
static void single_tokens(size_t threads, bool bias, bool half, float (*logits)[VOCAB])
{
    enum { FEW = 3 };
    struct rng rng;
    rng_init(&rng, 20, 2);
    AUTO(play) p = {0};
    play_init(&p, "small-3m", threads, bias, half, &rng);
    struct decoder_item items[FEW];
    for (uint32_t s = 0; s < FEW; s++) items[s] = (struct decoder_item){2 * s, p.tokens[s], 1 + 19 * s, NULL};
    ck_assert_int_eq(decoder_step(p.decoder, p.model, 1, items, FEW), ERR_ok);
    for (uint32_t step = 0; step < 12; step++) {
        for (uint32_t s = 0; s < FEW; s++)
            items[s] = (struct decoder_item){2 * s, p.tokens[s] + decoder_used(p.decoder, 2 * s), 1, logits[s]};
        ck_assert_int_eq(decoder_step(p.decoder, p.model, 1, items, FEW), ERR_ok);
    }
}

/* workers that take each product together change no bit either */
START_TEST(splitting_changes_no_bit)
{
    float one[SLOTS][VOCAB] = {{0}}, more[SLOTS][VOCAB] = {{0}};
    for (int kind = 0; kind < 4; kind++) {
        single_tokens(1, kind % 2, kind / 2, one);
        for (size_t threads = 2; threads <= 3; threads++) {
            single_tokens(threads, kind % 2, kind / 2, more);
            ck_assert_mem_eq(one, more, sizeof one);
        }
    }
}
END_TEST

static void sharing(bool half, uint32_t common)
{
    struct rng rng;
    rng_init(&rng, 18, 2);
    AUTO(play) p = {0};
    play_init(&p, "tiny-0.1m", 1, false, half, &rng);
    float alone[VOCAB], shared[VOCAB];
    int32_t other[CONTEXT];
    memcpy(other, p.tokens[0], sizeof other);
    for (uint32_t t = common; t < CONTEXT; t++) other[t] = p.tokens[1][t];
    feed_one_by_one(&p, 1, other, CONTEXT, alone);
    feed_one_by_one(&p, 0, p.tokens[0], CONTEXT - 3, shared); /* goes on past what is shared */
    decoder_share(p.decoder, 2, 0, common);
    ck_assert_uint_eq(decoder_used(p.decoder, 2), common);
    const struct decoder_item item = {2, other + common, CONTEXT - common, shared};
    ck_assert_int_eq(decoder_step(p.decoder, p.model, 1, &item, 1), ERR_ok);
    ck_assert_mem_eq(alone, shared, sizeof alone);
}

START_TEST(a_shared_beginning_is_that_of_ones_own)
{
    for (uint32_t common = 1; common < CONTEXT - 3; common += 15) {
        sharing(false, common);
        sharing(true, common);
    }
}
END_TEST

/* log-probs from a cache of halves, beside the learner's */
START_TEST(halves_are_close)
{
    struct rng rng;
    rng_init(&rng, 19, 2);
    AUTO(play) p = {0};
    play_init(&p, "small-3m", 1, false, true, &rng);
    float logits[VOCAB];
    double worst = 0;
    for (uint32_t t = 0; t + 1 < CONTEXT; t++) {
        const struct decoder_item item = {0, p.tokens[0] + t, 1, logits};
        ck_assert_int_eq(decoder_step(p.decoder, p.model, 1, &item, 1), ERR_ok);
        double gap = fabs(logp_of(logits, p.tokens[0][t + 1]) - (double)p.logp[0][t + 1]);
        worst = gap > worst ? gap : worst;
    }
    (void)printf("halves: log-probs within %.2g\n", worst);
    ck_assert_double_lt(worst, 2e-2);
    ck_assert_double_gt(worst, 1e-6);
    struct decoder_options half = {SLOTS, CONTEXT, true}, whole = {SLOTS, CONTEXT, false};
    ck_assert_uint_eq(2 * decoder_token_bytes(&p.config, true), decoder_token_bytes(&p.config, false));
    ck_assert_uint_lt(decoder_bytes_of(&p.config, &half, 1, 1), decoder_bytes_of(&p.config, &whole, 1, 1));
}
END_TEST

START_TEST(wrong_items_feed_nothing)
{
    struct rng rng;
    rng_init(&rng, 16, 2);
    AUTO(play) p = {0};
    play_init(&p, "tiny-0.1m", 2, false, false, &rng);
    struct decoder_item good = {2, p.tokens[0], 3, NULL};
    ck_assert_int_eq(decoder_step(p.decoder, p.model, 1, &good, 1), ERR_ok);
    const int32_t bad_token[] = {VOCAB}, negative[] = {-1};
    const struct decoder_item bad[] = {
        {SLOTS, p.tokens[0], 1, NULL}, {2, p.tokens[0], 1, NULL}, {3, bad_token, 1, NULL},
        {3, negative, 1, NULL},        {3, p.tokens[0], 0, NULL},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct decoder_item items[] = {good, bad[i]};
        ck_assert_int_eq(decoder_step(p.decoder, p.model, 1, items, 2), ERR_invalid);
        ck_assert_uint_eq(decoder_used(p.decoder, 2), 3);
    }
    const struct decoder_item large = {2, p.tokens[0], CONTEXT - 2, NULL};
    ck_assert_int_eq(decoder_step(p.decoder, p.model, 1, &large, 1), ERR_too_large);
    ck_assert_int_eq(decoder_step(p.decoder, p.model, 1, NULL, 0), ERR_ok);
    struct decoder *none = NULL;
    ck_assert_int_eq(decoder_new(&none, &p.config, &(struct decoder_options){0, CONTEXT, false}, p.pool), ERR_invalid);
    ck_assert_int_eq(decoder_new(&none, &p.config, &(struct decoder_options){1, 1025, false}, p.pool), ERR_invalid);
    ck_assert_ptr_null(none);
    ck_assert_uint_gt(decoder_bytes(p.decoder), p.model->count * sizeof(float));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("decoder");
    TCase *tcase = tcase_create("decoder");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, agrees_with_the_learner);
    tcase_add_test(tcase, two_threads_same_bits);
    tcase_add_test(tcase, versions_keep_apart);
    tcase_add_test(tcase, batching_changes_no_bit);
    tcase_add_test(tcase, splitting_changes_no_bit);
    tcase_add_test(tcase, a_shared_beginning_is_that_of_ones_own);
    tcase_add_test(tcase, halves_are_close);
    tcase_add_test(tcase, wrong_items_feed_nothing);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
