/* LABELS: unit
 * the trainer learns: a bandit by update.c from nothing but rewards, a copying task by the warm start. */
#include "tests/trainer/trainer_fixture.h"

#include "trainer/model/decoder.h"
#include "trainer/warmstart.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#define GROUPS 8
#define SIZE   8 /* episodes of a group */
#define LUCKY  5 /* the action that pays */
#define PROMPT 4
#define DEMOS  64
#define SEED   31

/* Samples one token after the prompt; its log-prob. */
static int32_t sample(const float *logits, struct rng *rng, float *ret_logp)
{
    double sum = 0, max = (double)logits[0], at;
    for (int32_t v = 1; v < FIXTURE_MODEL.vocab; v++) max = fmax(max, (double)logits[v]);
    for (int32_t v = 0; v < FIXTURE_MODEL.vocab; v++) sum += exp((double)logits[v] - max);
    at = rng_unit(rng) * sum;
    int32_t token = 0;
    while (token + 1 < FIXTURE_MODEL.vocab && (at -= exp((double)logits[token] - max)) >= 0) token++;
    *ret_logp = (float)((double)logits[token] - max - log(sum));
    return token;
}

/* Plays the bandit with the trainee's weights: prompt, one action. Returns the mean reward. */
static double play(struct trainee *trainee, struct decoder *decoder, struct rng *rng, struct fixture_tokens *tokens,
                   struct episode *episodes)
{
    double all = 0;
    for (size_t g = 0; g < GROUPS; g++) {
        double rewards[SIZE], mean = 0;
        for (size_t i = 0; i < SIZE; i++) {
            struct fixture_tokens *t = &tokens[g * SIZE + i];
            for (size_t k = 0; k < PROMPT; k++) t->token[k] = (int32_t)(1 + (g + k) % 12);
            float logits[16];
            const struct decoder_item item = {0, t->token, PROMPT, logits};
            decoder_reset(decoder, 0);
            ck_assert_int_eq(decoder_step(decoder, trainee->model, (uint64_t)trainee->version, &item, 1), ERR_ok);
            t->token[PROMPT] = sample(logits, rng, &t->logp[PROMPT]);
            t->target[PROMPT] = 1;
            t->version[PROMPT] = (int32_t)trainee->version;
            rewards[i] = t->token[PROMPT] == LUCKY;
            mean += rewards[i] / SIZE;
        }
        for (size_t i = 0; i < SIZE; i++) {
            const struct fixture_tokens *t = &tokens[g * SIZE + i];
            episodes[g * SIZE + i] = (struct episode){.id = i,
                                                      .group = g,
                                                      .signal = mean > 0 && mean < 1,
                                                      .sampled = true,
                                                      .count = PROMPT + 1,
                                                      .action_tokens = 1,
                                                      .token = t->token,
                                                      .target = t->target,
                                                      .logp = t->logp,
                                                      .turns = 1,
                                                      .version = t->version,
                                                      .advantage = rewards[i] - mean};
        }
        all += mean / GROUPS;
    }
    return all;
}

START_TEST(a_bandit_is_learned_from_rewards)
{
    AUTO_PTR(pool) pool = NULL;
    ck_assert_int_eq(pool_new(&pool, 2), ERR_ok);
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    AUTO_PTR(decoder) decoder = NULL;
    ck_assert_int_eq(decoder_new(&decoder, &FIXTURE_MODEL, &(struct decoder_options){1, 32, false}, pool), ERR_ok);
    static struct fixture_tokens tokens[GROUPS * SIZE];
    static struct episode episodes[GROUPS * SIZE];
    struct update_config config = fixture_update();
    config.schedule = (struct schedule){.kind = SCHEDULE_linear, .peak = 1e-2, .warmup = 3, .total = 60};
    struct rng rng;
    rng_init(&rng, SEED, 0);
    double first = 0, reward = 0;
    for (int64_t u = 1; u <= 60; u++) {
        reward = play(trainee, decoder, &rng, tokens, episodes);
        if (u == 1) first = reward;
        const struct update_batch batch = {
            .update = u, .episodes = episodes, .count = GROUPS * SIZE, .norm_tokens = GROUPS * SIZE};
        enum update_outcome outcome;
        struct diagnostics d;
        ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_ok);
        /* the sampler and the learner agree on the same tokens under the same weights */
        ck_assert_double_lt(d.kl_first_pass, 1e-9);
        ck_assert_double_lt(d.logp_gap_p99, 1e-4);
        ck_assert_double_eq(d.own_targets, d.targets);
        ck_assert_double_lt(d.own_gap_max, 1e-4);
    }
    ck_assert_msg(first < 0.4 && reward > 0.9, "reward %.2f at first, %.2f at last (seed %d)", first, reward, SEED);
}
END_TEST

/* demonstrations of "repeat the second token" */
static void make_demos(struct fixture_tokens *tokens, struct episode *episodes)
{
    struct rng rng;
    rng_init(&rng, SEED, 1);
    for (size_t i = 0; i < DEMOS; i++) {
        for (size_t k = 0; k < PROMPT; k++) tokens[i].token[k] = (int32_t)(1 + rng_below(&rng, 12));
        tokens[i].token[PROMPT] = tokens[i].token[1];
        tokens[i].target[PROMPT] = 1;
        episodes[i] = (struct episode){.id = i,
                                       .signal = true,
                                       .count = PROMPT + 1,
                                       .action_tokens = 1,
                                       .token = tokens[i].token,
                                       .target = tokens[i].target,
                                       .turns = 1};
    }
}

START_TEST(the_warm_start_imitates)
{
    AUTO_PTR(pool) pool = NULL;
    ck_assert_int_eq(pool_new(&pool, 2), ERR_ok);
    static struct fixture_tokens tokens[DEMOS];
    static struct episode episodes[DEMOS];
    make_demos(tokens, episodes);
    struct warmstart_config config = {.updates = 5, .batch = 16, .lr = 1e-2, .tokens_per_microbatch = 64, .temperature = 1};
    struct digest digests[2];
    struct diagnostics before, after;
    for (int i = 0; i < 2; i++) { /* the same bits twice */
        AUTO_PTR(trainee) trainee = fixture_trainee(pool);
        ck_assert_int_eq(warmstart_run(trainee, &config, episodes, DEMOS, NULL, &before), ERR_ok);
        ck_assert_int_eq(model_digest(trainee->model, &digests[i]), ERR_ok);
        ck_assert_uint_eq(trainee->adamw->step, 0); /* the optimizer starts afresh */
        ck_assert_int_eq(trainee->version, 0);
    }
    ck_assert_str_eq(digests[0].hex, digests[1].hex);
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    config.updates = 150;
    ck_assert_int_eq(warmstart_run(trainee, &config, episodes, DEMOS, NULL, &after), ERR_ok);
    ck_assert_double_gt(before.loss, 1.5);
    ck_assert_double_lt(after.loss, 0.5);
    ck_assert_double_eq(after.targets, 150 * 16);
    ck_assert_double_eq(after.tokens_trained, 150 * 16 * (PROMPT + 1));
}
END_TEST

START_TEST(a_refused_warm_start_leaves_no_trace)
{
    AUTO_PTR(pool) pool = NULL;
    ck_assert_int_eq(pool_new(&pool, 1), ERR_ok);
    static struct fixture_tokens tokens[DEMOS];
    static struct episode episodes[DEMOS];
    make_demos(tokens, episodes);
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    struct digest before, after;
    struct diagnostics d;
    ck_assert_int_eq(model_digest(trainee->model, &before), ERR_ok);
    const struct warmstart_config wild = {
        .updates = 9, .batch = 16, .lr = 1e38, .tokens_per_microbatch = 64, .temperature = 1};
    ck_assert_int_eq(warmstart_run(trainee, &wild, episodes, DEMOS, NULL, &d), ERR_numeric);
    const struct warmstart_config config = {
        .updates = 9, .batch = 100, .lr = 1e-3, .tokens_per_microbatch = 64, .temperature = 1};
    const atomic_bool cancel = true;
    ck_assert_int_eq(warmstart_run(trainee, &config, episodes, DEMOS, &cancel, &d), ERR_conflict);
    ck_assert_int_eq(warmstart_run(trainee, &config, episodes, 0, NULL, &d), ERR_invalid);
    episodes[3].signal = false;
    ck_assert_int_eq(warmstart_run(trainee, &config, episodes, DEMOS, NULL, &d), ERR_malformed);
    ck_assert_int_eq(model_digest(trainee->model, &after), ERR_ok);
    ck_assert_str_eq(before.hex, after.hex);
    episodes[3].signal = true;
    ck_assert_int_eq(warmstart_run(trainee, &config, episodes, DEMOS, NULL, &d), ERR_ok); /* a batch of all there are */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("learning");
    TCase *tcase = tcase_create("learning");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, a_bandit_is_learned_from_rewards);
    tcase_add_test(tcase, the_warm_start_imitates);
    tcase_add_test(tcase, a_refused_warm_start_leaves_no_trace);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
