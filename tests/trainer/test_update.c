/* LABELS: unit
 * updates through the real model: packing changes nothing, groups without signal only count, on-policy data has KL 0, an
 * update that is refused leaves no trace, going on from a checkpoint gives the same bits, and so does recomputation. */
#include "tests/trainer/trainer_fixture.h"

#include "trainer/packing.h"
#include "trainer/pass.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define EPISODES 32
#define SEED     21

static struct fixture_tokens tokens[EPISODES];
static struct episode episodes[EPISODES];
static double norm_tokens;
static struct pool *pool;

static void setup(void)
{
    struct rng rng;
    rng_init(&rng, SEED, 0);
    norm_tokens = fixture_episodes(&rng, tokens, episodes, EPISODES);
    ck_assert_int_eq(pool_new(&pool, 2), ERR_ok);
}

static void teardown(void)
{
    pool_free(&pool);
}

static struct update_batch batch_of(int64_t update)
{
    return (struct update_batch){.update = update, .episodes = episodes, .count = EPISODES, .norm_tokens = norm_tokens};
}

static struct lesson lessons[EPISODES];
static struct lesson *chosen[EPISODES];

/* Lessons of the episodes with signal, each target with this denominator. */
static size_t choose(struct arena *arena, double norm)
{
    size_t n = 0;
    const struct loss_norm norms = {.tokens = norm};
    for (size_t i = 0; i < EPISODES; i++) {
        if (!episodes[i].signal) continue;
        ck_assert_int_eq(lesson_make(&lessons[i], &episodes[i], arena), ERR_ok);
        lesson_weigh(&lessons[i], LOSS_AGGREGATION_token_mean, &norms);
        chosen[n++] = &lessons[i];
    }
    return n;
}

static struct packing_options options_of(size_t tokens_per_microbatch)
{
    return (struct packing_options){
        .version = -1, .tokens_per_microbatch = tokens_per_microbatch, .workers = 2, .temperature = 1};
}

/* The gradient of the episodes with signal, copied. */
static float *gradient_of(struct trainee *trainee, size_t tokens_per_microbatch, double norm, struct loss_sums *ret_sums)
{
    const struct packing_options options = options_of(tokens_per_microbatch);
    const struct update_config config = fixture_update();
    struct packing packing;
    const float *gradient = NULL;
    size_t n = choose(&trainee->arena, norm);
    ck_assert_int_eq(packing_make(chosen, n, &options, &trainee->arena, &packing), ERR_ok);
    *ret_sums = (struct loss_sums){0};
    ck_assert_int_eq(
        pass_gradient(trainee, trainee->model, LOSS_grpo, &config.terms, &packing, NULL, &gradient, ret_sums, NULL), ERR_ok);
    float *copy = malloc(trainee->model->count * sizeof *copy);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, gradient, trainee->model->count * sizeof *copy);
    arena_clear(&trainee->arena);
    return copy;
}

static double norm_of(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

START_TEST(packing_does_not_change_the_gradient)
{
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    size_t count = trainee->model->count;
    struct loss_sums narrow_sums, wide_sums;
    float *narrow = gradient_of(trainee, 64, norm_tokens, &narrow_sums),
          *wide = gradient_of(trainee, 1024, norm_tokens, &wide_sums);
    ck_assert_double_eq_tol(narrow_sums.loss, wide_sums.loss, 1e-6);
    ck_assert_double_eq(narrow_sums.targets, norm_tokens);
    double norm = norm_of(wide, count);
    ck_assert_double_gt(norm, 1e-3);
    for (size_t i = 0; i < count; i++) narrow[i] -= wide[i];
    ck_assert_double_lt(norm_of(narrow, count), 1e-5 * norm);
    free(narrow);
    free(wide);
}
END_TEST

/* tokens up to and including the last target */
static uint32_t trimmed(const struct episode *e)
{
    uint32_t n = e->count;
    while (n > 0 && !e->target[n - 1]) n--;
    return n;
}

START_TEST(micro_batches_hold_every_target_once)
{
    AUTO(arena) arena = {0};
    arena_init(&arena, 0);
    size_t n = choose(&arena, 1);
    for (size_t size = 64; size <= 1024; size *= 2) {
        const struct packing_options options = options_of(size);
        struct packing packing;
        ck_assert_int_eq(packing_make(chosen, n, &options, &arena, &packing), ERR_ok);
        bool seen[EPISODES] = {false};
        size_t all = 0;
        for (size_t b = 0; b < packing.count; b++) {
            const struct microbatch *m = &packing.microbatches[b];
            ck_assert_uint_le(m->start[m->batch.sequences], size);
            for (size_t s = 0; s < m->batch.sequences; s++) {
                size_t which = (size_t)(m->lesson[s] - lessons);
                const struct episode *e = m->lesson[s]->episode;
                ck_assert(!seen[which]);
                seen[which] = true;
                ck_assert_uint_eq(m->start[s + 1] - m->start[s], trimmed(e));
                ck_assert_uint_eq(m->first[s + 1] - m->first[s], e->action_tokens);
                ck_assert_mem_eq(m->tokens + m->start[s], e->token, trimmed(e) * sizeof *e->token);
                all += e->action_tokens;
            }
            ck_assert_uint_eq(m->batch.targets, m->loss.targets);
        }
        ck_assert_uint_eq(all, packing.targets);
        ck_assert_uint_eq(all, packing.live);
        ck_assert_double_eq((double)all, norm_tokens);
        if (size >= 512) ck_assert_uint_eq(packing.count % 2, 0);
    }
}
END_TEST

START_TEST(groups_without_signal_only_count)
{
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    size_t count = trainee->model->count;
    for (size_t i = EPISODES / 2; i < EPISODES; i++) {
        episodes[i].signal = false;
        episodes[i].token = NULL; /* no payload travels for them */
        episodes[i].target = NULL;
        episodes[i].logp = NULL;
        episodes[i].count = 0;
    }
    /* through update_run: the loss is that of the signal, over the denominator of all */
    struct loss_sums sums;
    float *gradient = gradient_of(trainee, 128, norm_tokens, &sums);
    const struct update_config config = fixture_update();
    const struct update_batch batch = batch_of(1);
    enum update_outcome outcome;
    struct diagnostics figures;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &figures), ERR_ok);
    ck_assert_int_eq(outcome, UPDATE_OUTCOME_applied);
    ck_assert_double_eq_tol(figures.loss, sums.loss, 1e-9);
    ck_assert_double_eq_tol(figures.grad_norm, norm_of(gradient, count), 1e-6);
    ck_assert_double_eq(figures.episodes_trained, EPISODES / 2);
    ck_assert_double_eq(figures.norm_tokens, norm_tokens);
    ck_assert_double_lt(figures.targets, norm_tokens);
    free(gradient);
    /* and with none at all nothing moves but the update's number */
    for (size_t i = 0; i < EPISODES; i++) episodes[i].signal = false;
    struct digest before, after;
    ck_assert_int_eq(model_digest(trainee->model, &before), ERR_ok);
    const struct update_batch empty = batch_of(2);
    ck_assert_int_eq(update_run(trainee, &config, &empty, NULL, &outcome, &figures), ERR_ok);
    ck_assert_int_eq(outcome, UPDATE_OUTCOME_skipped);
    ck_assert_int_eq(model_digest(trainee->model, &after), ERR_ok);
    ck_assert_str_eq(before.hex, after.hex);
    ck_assert_int_eq(trainee->version, 1);
    ck_assert_int_eq(trainee->update, 2);
    ck_assert_uint_eq(trainee->adamw->step, 1);
}
END_TEST

/* Its first observation filled the context: it has tokens and no action, and teaches nothing. */
START_TEST(an_episode_cut_off_at_its_start_is_passed_by)
{
    struct digest digest[2];
    for (int without = 0; without < 2; without++) {
        AUTO_PTR(trainee) trainee = fixture_trainee(pool);
        const struct update_config config = fixture_update();
        const struct update_batch batch = batch_of(1);
        enum update_outcome outcome;
        struct diagnostics d;
        episodes[7].action_tokens = episodes[7].action_turns = 0;
        memset(tokens[7].target, 0, sizeof tokens[7].target);
        episodes[7].signal = !without;
        ck_assert_msg(update_run(trainee, &config, &batch, NULL, &outcome, &d) == ERR_ok, "%s", err_text());
        ck_assert_int_eq(outcome, UPDATE_OUTCOME_applied);
        ck_assert_int_eq(model_digest(trainee->model, &digest[without]), ERR_ok);
    }
    ck_assert_str_eq(digest[0].hex, digest[1].hex);
}
END_TEST

/* Puts the model's own log-probs in the place of the recorded ones. */
static void record_on_policy(struct trainee *trainee)
{
    const struct packing_options options = options_of(128);
    struct packing packing;
    ck_assert_int_eq(packing_make(chosen, choose(&trainee->arena, 1), &options, &trainee->arena, &packing), ERR_ok);
    ck_assert_int_eq(pass_score(trainee, trainee->model, &packing, NULL), ERR_ok);
    for (size_t b = 0; b < packing.count; b++) {
        const struct microbatch *m = &packing.microbatches[b];
        const float *theta = m->theta;
        for (size_t s = 0; s < m->batch.sequences; s++) {
            size_t which = (size_t)(m->lesson[s] - lessons);
            for (uint32_t t = 0; t < trimmed(&episodes[which]); t++) {
                if (episodes[which].target[t]) tokens[which].logp[t] = *theta++;
            }
        }
    }
    arena_clear(&trainee->arena);
}

START_TEST(on_policy_data_has_no_kl)
{
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    record_on_policy(trainee);
    struct update_config config = fixture_update();
    struct update_batch batch = batch_of(1);
    enum update_outcome outcome;
    struct diagnostics d;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_ok);
    ck_assert_double_eq(d.kl_first_pass, 0);
    ck_assert_double_eq(d.logp_gap_p99, 0);
    ck_assert_double_eq(d.ess, 1);
    ck_assert_double_eq(d.mean_w, 1);
    ck_assert_double_eq(d.clip_share, 0);
    ck_assert_double_eq(d.ratio_mean, 1);
    /* now one update off policy */
    batch.update = 2;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_ok);
    ck_assert_double_gt(d.kl_first_pass, 0);
    ck_assert_double_gt(d.logp_gap_p99, 0);
    ck_assert_double_lt(d.ess, 1);
}
END_TEST

START_TEST(more_steps_use_the_start_as_prox)
{
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    record_on_policy(trainee);
    struct update_config config = fixture_update();
    config.epochs = 3;
    config.minibatches = 2;
    config.schedule.peak = 3e-3;
    config.aggregation = LOSS_AGGREGATION_seq_mean;
    const struct update_batch batch = batch_of(1);
    enum update_outcome outcome;
    struct diagnostics d;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_ok);
    ck_assert_double_eq(d.optimizer_steps, 6);
    ck_assert_uint_eq(trainee->adamw->step, 6);
    ck_assert_double_eq(d.targets, 3 * norm_tokens);
    ck_assert_double_eq(d.kl_first_pass, 0); /* prox is from before all steps */
    ck_assert(d.ratio_mean != 1);
    ck_assert_double_gt(d.clip_share, 0);
}
END_TEST

START_TEST(the_reference_holds_the_policy)
{
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    struct update_config config = fixture_update();
    config.terms.kl = 0.5;
    struct update_batch batch = batch_of(1);
    enum update_outcome outcome;
    struct diagnostics d;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_invalid);
    ck_assert_int_eq(trainee_set_reference(trainee), ERR_ok);
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_ok);
    ck_assert_double_eq(d.kl_reference, 0);
    batch.update = 2;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_ok);
    ck_assert_double_gt(d.kl_reference, 0);
}
END_TEST

static struct checkpoint state_of(const struct trainee *trainee)
{
    struct checkpoint state;
    ck_assert_int_eq(trainee_checkpoint(trainee, &state), ERR_ok);
    return state;
}

/* weights, moments, counters and random state, as bytes */
static void same_state(const struct trainee *a, const struct trainee *b)
{
    const struct checkpoint x = state_of(a), y = state_of(b);
    size_t bytes = x.count * sizeof(float);
    ck_assert_mem_eq(x.weights, y.weights, bytes);
    ck_assert_mem_eq(x.m, y.m, bytes);
    ck_assert_mem_eq(x.v, y.v, bytes);
    ck_assert_uint_eq(x.optimizer_step, y.optimizer_step);
    ck_assert_int_eq(x.update, y.update);
    ck_assert_int_eq(x.version, y.version);
    ck_assert_mem_eq(&x.rng, &y.rng, sizeof x.rng);
}

START_TEST(refused_updates_leave_no_trace)
{
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    AUTO_PTR(trainee) twin = fixture_trainee(pool);
    struct update_config config = fixture_update();
    config.minibatches = 3;
    struct update_batch batch = batch_of(1);
    enum update_outcome outcome;
    struct diagnostics d;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_ok);
    ck_assert_int_eq(update_run(twin, &config, &batch, NULL, &outcome, &d), ERR_ok);
    same_state(trainee, twin);
    batch.update = 2;
    /* a learning rate that throws the weights out after the first of three steps */
    struct update_config wild = config;
    wild.schedule.peak = 1e38;
    ck_assert_int_eq(update_run(trainee, &wild, &batch, NULL, &outcome, &d), ERR_numeric);
    same_state(trainee, twin);
    /* cancelled */
    const atomic_bool cancel = true;
    ck_assert_int_eq(update_run(trainee, &config, &batch, &cancel, &outcome, &d), ERR_conflict);
    same_state(trainee, twin);
    /* a weight that is not finite */
    trainee->model->weights[100] = twin->model->weights[100] = NAN;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_numeric);
    same_state(trainee, twin);
}
END_TEST

START_TEST(broken_episodes_are_named)
{
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    const struct update_config config = fixture_update();
    const struct update_batch batch = batch_of(1);
    enum update_outcome outcome;
    struct diagnostics d;
    const struct episode whole = episodes[7];
    episodes[7].action_tokens--;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_malformed);
    ck_assert_ptr_nonnull(strstr(err_text(), "episode 107"));
    episodes[7] = whole;
    tokens[7].token[3] = 13;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_malformed);
    ck_assert_ptr_nonnull(strstr(err_text(), "vocabulary"));
    tokens[7].token[3] = 1;
    tokens[7].target[0] = 1;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_malformed);
    tokens[7].target[0] = 0;
    episodes[7].advantage = (double)INFINITY;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_malformed);
    episodes[7] = whole;
    const struct update_batch no_norm = {.update = 1, .episodes = episodes, .count = EPISODES};
    ck_assert_int_eq(update_run(trainee, &config, &no_norm, NULL, &outcome, &d), ERR_malformed);
    ck_assert_int_eq(trainee->update, 0);
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_ok);
}
END_TEST

static void run_updates(struct trainee *trainee, int64_t from, int64_t to)
{
    struct update_config config = fixture_update();
    config.epochs = 2;
    config.minibatches = 3;
    config.terms.kl = 0.1;
    config.schedule = (struct schedule){.kind = SCHEDULE_linear, .peak = 2e-3, .warmup = 2, .total = 6};
    for (int64_t u = from; u <= to; u++) {
        const struct update_batch batch = batch_of(u);
        enum update_outcome outcome;
        struct diagnostics d;
        ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_ok);
    }
}

START_TEST(going_on_from_a_checkpoint_gives_the_same_bits)
{
    AUTO_PTR(trainee) whole = fixture_trainee(pool);
    ck_assert_int_eq(trainee_set_reference(whole), ERR_ok);
    run_updates(whole, 1, 3);
    const struct checkpoint state = state_of(whole);
    uint8_t header[CHECKPOINT_HEADER_BYTES];
    struct span spans[CHECKPOINT_SPANS];
    const struct checkpoint_parts parts = checkpoint_parts(&state);
    size_t count = 0, size = checkpoint_bytes(&state.config, &parts), at = 0;
    checkpoint_encode(&state, header, spans, &count);
    uint8_t *file = aligned_alloc(64, (size + 63) / 64 * 64);
    ck_assert_ptr_nonnull(file);
    for (size_t i = 0; i < count; at += spans[i++].size) memcpy(file + at, spans[i].data, spans[i].size);
    ck_assert_uint_eq(at, size);
    run_updates(whole, 4, 6);
    struct checkpoint read;
    ck_assert_int_eq(checkpoint_open(span_of(file, size), &read), ERR_ok);
    struct trainee_config config = {.model = FIXTURE_MODEL, .adamw = ADAMW_DEFAULTS, .max_tokens = 1024, .seed = 3};
    AUTO_PTR(trainee) resumed = NULL;
    ck_assert_int_eq(trainee_resume(&resumed, &config, &read, pool), ERR_ok);
    config.model.ff = 32;
    AUTO_PTR(trainee) other = NULL;
    ck_assert_int_eq(trainee_resume(&other, &config, &read, pool), ERR_conflict);
    free(file);
    run_updates(resumed, 4, 6);
    same_state(whole, resumed);
}
END_TEST

START_TEST(recomputation_gives_the_same_bits)
{
    struct trainee_config config = {.model = FIXTURE_MODEL, .adamw = ADAMW_DEFAULTS, .max_tokens = 1024, .seed = 3};
    const struct update_config how = fixture_update();
    struct digest digests[2];
    for (int i = 0; i < 2; i++) {
        struct trainee *trainee = NULL;
        enum update_outcome outcome;
        struct diagnostics figures;
        config.recompute = i == 1;
        ck_assert_int_eq(trainee_new(&trainee, &config, pool), ERR_ok);
        for (int64_t update = 1; update <= 3; update++) {
            const struct update_batch batch = batch_of(update);
            ck_assert_int_eq(update_run(trainee, &how, &batch, NULL, &outcome, &figures), ERR_ok);
        }
        ck_assert_int_eq(model_digest(trainee->model, &digests[i]), ERR_ok);
        trainee_free(&trainee);
    }
    ck_assert_str_eq(digests[0].hex, digests[1].hex);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("update");
    TCase *tcase = tcase_create("update");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, packing_does_not_change_the_gradient);
    tcase_add_test(tcase, micro_batches_hold_every_target_once);
    tcase_add_test(tcase, groups_without_signal_only_count);
    tcase_add_test(tcase, an_episode_cut_off_at_its_start_is_passed_by);
    tcase_add_test(tcase, on_policy_data_has_no_kl);
    tcase_add_test(tcase, more_steps_use_the_start_as_prox);
    tcase_add_test(tcase, the_reference_holds_the_policy);
    tcase_add_test(tcase, refused_updates_leave_no_trace);
    tcase_add_test(tcase, broken_episodes_are_named);
    tcase_add_test(tcase, recomputation_gives_the_same_bits);
    tcase_add_test(tcase, going_on_from_a_checkpoint_gives_the_same_bits);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
