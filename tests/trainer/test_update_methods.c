/* LABELS: unit
 * what the methods ask of an update, through the real model: dropped turns, hinted episodes in two contexts, contexts per
 * turn, passes, discarded batches, the value head and its advantages - alone and together. */
#include "tests/trainer/trainer_fixture.h"

#include "trainer/pass.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#define EPISODES 16
#define SEED     33

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

static struct trainee *trainee_with_value(double coefficient)
{
    const struct trainee_config config = {.model = FIXTURE_MODEL,
                                          .adamw = ADAMW_DEFAULTS,
                                          .value = {.units = 6, .lr = 1e-2, .coefficient = coefficient},
                                          .max_tokens = 1024,
                                          .seed = 3};
    struct trainee *trainee = NULL;
    BUG_IF(trainee_new(&trainee, &config, pool) != ERR_ok || !trainee);
    return trainee;
}

static struct update_batch batch_of(int64_t update)
{
    return (struct update_batch){.update = update, .episodes = episodes, .count = EPISODES, .norm_tokens = norm_tokens};
}

static struct diagnostics run(struct trainee *trainee, const struct update_config *config, const struct update_batch *batch,
                              enum update_outcome expected)
{
    struct diagnostics d;
    enum update_outcome outcome;
    err_t err = update_run(trainee, config, batch, NULL, &outcome, &d);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
    ck_assert_int_eq(outcome, expected);
    return d;
}

static void same_weights(const struct trainee *a, const struct trainee *b)
{
    ck_assert_mem_eq(a->model->weights, b->model->weights, a->model->count * sizeof(float));
    ck_assert_mem_eq(a->adamw->m, b->adamw->m, a->model->count * sizeof(float));
    ck_assert_int_eq(a->value != NULL, b->value != NULL);
    if (!a->value) return;
    ck_assert_mem_eq(a->value->head->weights, b->value->head->weights, a->value->head->count * sizeof(float));
    ck_assert_mem_eq(a->value->adamw->v, b->value->adamw->v, a->value->head->count * sizeof(float));
}

/* ---- dropped turns ---- */

START_TEST(dropped_turns_are_switched_off)
{
    static const uint8_t second[] = {0, 1};
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    AUTO_PTR(trainee) twin = fixture_trainee(pool);
    const struct update_config config = fixture_update();
    struct update_batch batch = batch_of(1);
    /* dropping the second turn is as if the episode had ended before it */
    struct episode cut[EPISODES];
    batch.norm_tokens = 0;
    for (size_t i = 0; i < EPISODES; i++) {
        cut[i] = episodes[i];
        cut[i].count = 8;
        cut[i].turns = 1;
        cut[i].action_tokens = cut[i].action_turns = 0;
        for (uint32_t t = 0; t < 8; t++) cut[i].action_tokens += episodes[i].target[t];
        episodes[i].dropped = second;
        episodes[i].action_tokens = cut[i].action_tokens;
        episodes[i].action_turns = 1;
        batch.norm_tokens += cut[i].action_tokens;
    }
    struct update_batch cut_batch = batch;
    cut_batch.episodes = cut;
    struct diagnostics a = run(trainee, &config, &batch, UPDATE_OUTCOME_applied),
                       b = run(twin, &config, &cut_batch, UPDATE_OUTCOME_applied);
    same_weights(trainee, twin);
    ck_assert_double_eq(a.targets, 3 * EPISODES);
    ck_assert_double_eq(a.loss, b.loss);
    /* an episode that lost all its turns trains nothing, and counts */
    static const uint8_t both[] = {1, 1};
    for (size_t i = 0; i < EPISODES; i++) {
        episodes[i].dropped = i % 4 == 0 ? both : second;
        if (i % 4 == 0) episodes[i].action_tokens = episodes[i].action_turns = 0;
    }
    batch.update = 2;
    a = run(trainee, &config, &batch, UPDATE_OUTCOME_applied);
    ck_assert_double_eq(a.targets, 3 * EPISODES * 3 / 4);
    for (size_t i = 0; i < EPISODES; i++) {
        episodes[i].dropped = both;
        episodes[i].action_tokens = episodes[i].action_turns = 0;
    }
    batch.update = 3;
    (void)run(trainee, &config, &batch, UPDATE_OUTCOME_skipped);
    ck_assert_int_eq(trainee->version, 2);
}
END_TEST

START_TEST(counts_follow_from_what_is_dropped)
{
    static const uint8_t second[] = {0, 1};
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    const struct update_config config = fixture_update();
    const struct update_batch batch = batch_of(1);
    enum update_outcome outcome;
    struct diagnostics d;
    episodes[3].dropped = second;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_malformed);
    ck_assert_ptr_nonnull(strstr(err_text(), "episode 103: 3 targets"));
    episodes[3].action_tokens = 3;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_malformed);
    ck_assert_ptr_nonnull(strstr(err_text(), "1 turns"));
    episodes[3].action_turns = 1;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_ok);
}
END_TEST

/* The loss of a policy gradient at theta = prox = behave is -sum of weight times advantage. */
START_TEST(step_mean_weighs_turns_alike)
{
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    struct update_config config = fixture_update();
    config.terms = (struct loss_terms){.clip_low = 0.2, .clip_high = 0.2, .cap = 1};
    config.aggregation = LOSS_AGGREGATION_step_mean;
    double sum = 0;
    for (size_t i = 0; i < EPISODES; i++) sum += 2 * episodes[i].advantage;
    const struct update_batch batch = batch_of(1);
    struct diagnostics d = run(trainee, &config, &batch, UPDATE_OUTCOME_applied);
    ck_assert_double_eq_tol(d.loss, -sum / (2 * EPISODES), 1e-6);
    for (size_t i = 0; i < EPISODES; i += 2) { /* without signal they still count */
        sum -= 2 * episodes[i].advantage;
        episodes[i].signal = false;
        episodes[i].count = 0;
    }
    const struct update_batch half = batch_of(2);
    d = run(trainee, &config, &half, UPDATE_OUTCOME_applied);
    ck_assert_double_eq_tol(d.loss, -sum / (2 * EPISODES), 1e-6);
    episodes[0].action_turns = 0;
    enum update_outcome outcome;
    ck_assert_int_eq(update_run(trainee, &config, &half, NULL, &outcome, &d), ERR_malformed);
    ck_assert_ptr_nonnull(strstr(err_text(), "episode 100"));
}
END_TEST

/* ---- contexts ---- */

/* The episode's tokens again, in two contexts of one turn: the second repeats the first turn's tokens, as no targets. */
struct segmented {
    int32_t token[2 * FIXTURE_TOKENS];
    uint8_t target[2 * FIXTURE_TOKENS];
    float logp[2 * FIXTURE_TOKENS];
    uint16_t turn[2 * FIXTURE_TOKENS];
    uint32_t segment[3];
};

static struct segmented parts[EPISODES];

static struct episode segmented(const struct episode *e, struct segmented *s)
{
    struct episode out = *e;
    uint32_t n = 8;
    memcpy(s->token, e->token, 8 * sizeof *s->token);
    memcpy(s->target, e->target, 8);
    memcpy(s->logp, e->logp, 8 * sizeof *s->logp);
    for (uint32_t i = 0; i < e->count; i++, n++) {
        s->token[n] = e->token[i];
        s->target[n] = i >= 8 && e->target[i];
        s->logp[n] = s->target[n] ? e->logp[i] : 0;
        s->turn[n] = 1;
    }
    s->segment[1] = 8;
    s->segment[2] = n;
    out.token = s->token;
    out.target = s->target;
    out.logp = s->logp;
    out.turn = s->turn;
    out.version = NULL;
    out.count = n;
    out.segments = 2;
    out.segment = s->segment;
    return out;
}

START_TEST(a_context_per_turn_that_repeats_everything_is_the_episode)
{
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    AUTO_PTR(trainee) twin = fixture_trainee(pool);
    struct update_config config = fixture_update();
    config.epochs = 2; /* prox is scored, too */
    const struct update_batch batch = batch_of(1);
    struct episode stepwise[EPISODES];
    for (size_t i = 0; i < EPISODES; i++) stepwise[i] = segmented(&episodes[i], &parts[i]);
    struct update_batch step_batch = batch;
    step_batch.episodes = stepwise;
    struct diagnostics a = run(trainee, &config, &batch, UPDATE_OUTCOME_applied),
                       b = run(twin, &config, &step_batch, UPDATE_OUTCOME_applied);
    ck_assert_double_eq(a.targets, b.targets);
    ck_assert_double_eq_tol(a.loss, b.loss, 1e-6);
    ck_assert_double_eq_tol(a.kl_first_pass, b.kl_first_pass, 1e-6);
    ck_assert_double_eq_tol(a.grad_norm, b.grad_norm, 1e-4 * a.grad_norm);
    ck_assert_double_gt(b.tokens_trained, a.tokens_trained);
    /* a first token that is a target, contexts that do not cover the tokens */
    enum update_outcome outcome;
    parts[2].target[8] = 1;
    step_batch.update = 2;
    ck_assert_int_eq(update_run(twin, &config, &step_batch, NULL, &outcome, &b), ERR_malformed);
    ck_assert_ptr_nonnull(strstr(err_text(), "episode 102: token 8"));
    parts[2].target[8] = 0;
    parts[5].segment[2]--;
    ck_assert_int_eq(update_run(twin, &config, &step_batch, NULL, &outcome, &b), ERR_malformed);
    ck_assert_ptr_nonnull(strstr(err_text(), "episode 105: its contexts"));
}
END_TEST

/* What the model says of an episode's targets, with its first `hint` tokens or without. */
static void say(struct trainee *trainee, const struct episode *e, bool with_hint, float *ret)
{
    struct lesson lesson, *lessons[] = {&lesson};
    struct packing packing;
    const struct packing_options options = {
        .version = -1, .tokens_per_microbatch = 64, .workers = 1, .temperature = 1, .with_hint = with_hint};
    ck_assert_int_eq(lesson_make(&lesson, e, &trainee->arena), ERR_ok);
    ck_assert_int_eq(packing_make(lessons, 1, &options, &trainee->arena, &packing), ERR_ok);
    ck_assert_int_eq(pass_score(trainee, trainee->model, &packing, NULL), ERR_ok);
    memcpy(ret, packing.microbatches[0].theta, e->action_tokens * sizeof *ret);
    arena_clear(&trainee->arena);
}

/* The first three tokens become a hint; behave is what the model says with it. */
static void hint(struct trainee *trainee, size_t i)
{
    float said[FIXTURE_TOKENS];
    uint32_t at = 0;
    episodes[i].hint = 3;
    say(trainee, &episodes[i], true, said);
    for (uint32_t t = 0; t < episodes[i].count; t++) {
        if (tokens[i].target[t]) tokens[i].logp[t] = said[at++];
        tokens[i].version[t] = tokens[i].target[t] ? 0 : -1;
    }
    episodes[i].version = tokens[i].version;
}

START_TEST(hinted_episodes_have_the_ratio_of_two_contexts)
{
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    struct update_config config = fixture_update();
    config.terms.entropy = 0;
    config.terms.guide = (struct loss_guide){.shaping = LOSS_SHAPING_constant, .gamma = 0.1, .certain = 1};
    config.hint = UPDATE_HINT_ratio;
    double targets = 0, log_r = 0, loss = 0;
    for (size_t i = 0; i < EPISODES; i++) {
        if (i % 4 == 1) hint(trainee, i);
        episodes[i].signal = i % 4 == 1;
        if (!episodes[i].signal) continue;
        float with[FIXTURE_TOKENS], without[FIXTURE_TOKENS];
        say(trainee, &episodes[i], true, with);
        say(trainee, &episodes[i], false, without);
        for (uint32_t k = 0; k < episodes[i].action_tokens; k++) {
            double r = exp((double)without[k] - (double)with[k]);
            log_r += log(r);
            loss -= episodes[i].advantage * r / (r + 0.1) / norm_tokens;
            targets += 1;
        }
    }
    const struct update_batch batch = batch_of(1);
    struct diagnostics d = run(trainee, &config, &batch, UPDATE_OUTCOME_applied);
    ck_assert_double_eq(d.hinted_targets, targets);
    ck_assert_double_eq_tol(d.guide_ratio_mean, log_r / targets, 1e-5);
    ck_assert_double_eq_tol(d.loss, loss, 1e-5);
    ck_assert_double_eq_tol(d.guide_gamma, 0.1, 1e-9);
    ck_assert_double_eq(d.mean_w, 1); /* behave is prox, both with the hint */
    ck_assert_double_eq_tol(d.kl_first_pass, 0, 1e-9);
    ck_assert_double_eq(d.own_targets, targets);
    ck_assert_double_lt(d.own_gap_max, 1e-5);
    ck_assert_double_eq(d.unrecorded_share, 0);
    ck_assert_double_eq(d.tokens_trained < norm_tokens, true);
}
END_TEST

START_TEST(a_hint_may_only_be_cut_away)
{
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    AUTO_PTR(trainee) twin = fixture_trainee(pool);
    const struct update_config config = fixture_update(); /* hints are cut away */
    struct episode plain[EPISODES];
    for (size_t i = 0; i < EPISODES; i++) {
        if (i % 4 == 1) hint(trainee, i);
        plain[i] = episodes[i];
        if (i % 4 != 1) continue;
        plain[i].hint = 0;
        plain[i].sampled = false;
        plain[i].count -= 3;
        plain[i].token += 3;
        plain[i].target += 3;
        plain[i].turn += 3;
    }
    const struct update_batch batch = batch_of(1);
    struct update_batch plain_batch = batch;
    plain_batch.episodes = plain;
    struct diagnostics a = run(trainee, &config, &batch, UPDATE_OUTCOME_applied),
                       b = run(twin, &config, &plain_batch, UPDATE_OUTCOME_applied);
    same_weights(trainee, twin);
    ck_assert_double_eq(a.hinted_targets, 0);
    ck_assert_double_gt(a.unrecorded_share, 0);
    ck_assert_double_eq(a.unrecorded_share, b.unrecorded_share);
    /* and only those that were right may be trained on */
    struct update_config positive = config;
    positive.hint_positive = true;
    episodes[1].advantage = -1;
    episodes[5].advantage = 1;
    double targets = 0;
    for (size_t i = 0; i < EPISODES; i++)
        targets += episodes[i].hint == 0 || episodes[i].advantage > 0 ? episodes[i].action_tokens : 0;
    const struct update_batch next = batch_of(2);
    a = run(trainee, &positive, &next, UPDATE_OUTCOME_applied);
    ck_assert_double_eq(a.targets, targets);
    ck_assert_double_lt(a.targets, norm_tokens);
}
END_TEST

START_TEST(a_hint_may_be_left_in)
{
    const enum loss_kind kinds[] = {LOSS_grpo, LOSS_gspo, LOSS_ppo, LOSS_webrl};
    AUTO_PTR(trainee) trainee = trainee_with_value(0.5);
    AUTO_PTR(trainee) twin = trainee_with_value(0.5);
    AUTO_PTR(trainee) cut = trainee_with_value(0.5);
    struct trainee *const all[] = {trainee, twin, cut};
    struct update_config config = fixture_update(), cutting = config;
    struct episode whole[EPISODES];
    for (size_t i = 0; i < EPISODES; i++) {
        if (i % 4 == 1) hint(trainee, i);
        whole[i] = episodes[i];
        whole[i].hint = 0; /* what was played, as if nothing in it were a hint */
    }
    config.loss = cutting.loss = kinds[_i];
    config.terms.kl = cutting.terms.kl = 0.1;
    config.hint = UPDATE_HINT_left;
    cutting.hint = UPDATE_HINT_cut;
    struct update_batch batch = batch_of(1), plain_batch = batch;
    plain_batch.episodes = whole;
    for (size_t i = 0; i < 3; i++) ck_assert_int_eq(trainee_set_reference(all[i]), ERR_ok);
    struct diagnostics a = run(trainee, &config, &batch, UPDATE_OUTCOME_applied),
                       b = run(twin, &config, &plain_batch, UPDATE_OUTCOME_applied),
                       c = run(cut, &cutting, &batch, UPDATE_OUTCOME_applied);
    same_weights(trainee, twin);
    ck_assert_double_eq(a.loss, b.loss);
    ck_assert_double_eq(a.hinted_targets, 0);
    ck_assert_double_eq(a.tokens_trained, b.tokens_trained);
    ck_assert_double_gt(a.tokens_trained, c.tokens_trained); /* the hint goes forward, too */
    ck_assert_double_ne(a.loss, c.loss);
    if (kinds[_i] == LOSS_webrl) return;
    ck_assert_double_eq(a.unrecorded_share, b.unrecorded_share); /* what was recorded under the hint is compared */
    ck_assert_double_lt(a.unrecorded_share, c.unrecorded_share);
}
END_TEST

/* ---- passes ---- */

START_TEST(extra_passes_are_epochs_and_discarded_batches_nothing)
{
    AUTO_PTR(trainee) trainee = fixture_trainee(pool);
    AUTO_PTR(trainee) twin = fixture_trainee(pool);
    struct update_config config = fixture_update(), three = config;
    three.epochs = 3;
    const struct update_batch plain = batch_of(1);
    struct update_batch more = plain;
    more.extra_passes = 2;
    struct diagnostics a = run(trainee, &config, &more, UPDATE_OUTCOME_applied),
                       b = run(twin, &three, &plain, UPDATE_OUTCOME_applied);
    same_weights(trainee, twin);
    ck_assert_double_eq(a.passes, 3);
    ck_assert_double_eq(b.passes, 3);
    ck_assert_double_eq(a.optimizer_steps, 3);
    ck_assert(a.ratio_mean != 1); /* prox is that of the first */
    struct update_batch none = batch_of(2);
    none.discarded = true;
    a = run(trainee, &config, &none, UPDATE_OUTCOME_skipped);
    same_weights(trainee, twin);
    ck_assert_int_eq(trainee->version, 1);
    ck_assert_int_eq(trainee->update, 2);
    ck_assert(isnan(a.mean_w) && isnan(a.fau));
}
END_TEST

/* ---- value head ---- */

START_TEST(the_value_head_learns_the_outcome)
{
    AUTO_PTR(trainee) trainee = trainee_with_value(0);
    AUTO_PTR(trainee) without = fixture_trainee(pool);
    const struct update_config config = fixture_update();
    struct diagnostics first = {0}, last = {0};
    for (int64_t u = 1; u <= 40; u++) {
        const struct update_batch batch = batch_of(u);
        last = run(trainee, &config, &batch, UPDATE_OUTCOME_applied);
        if (u == 1) first = last;
        (void)run(without, &config, &batch, UPDATE_OUTCOME_applied);
    }
    /* detached: the policy is that without a value head, to rounding */
    for (size_t i = 0; i < without->model->count; i++)
        ck_assert_double_eq_tol((double)trainee->model->weights[i], (double)without->model->weights[i], 1e-6);
    ck_assert_double_eq_tol(first.value_loss, log(2), 0.1);
    ck_assert_double_lt(last.value_loss, 0.9 * first.value_loss);
    ck_assert_double_gt(last.explained_variance, 0.2);
    ck_assert(last.fau > 0.05 && last.fau < 0.95);
}
END_TEST

START_TEST(without_signal_only_the_value_head_learns)
{
    AUTO_PTR(trainee) trainee = trainee_with_value(0);
    AUTO_PTR(trainee) twin = trainee_with_value(0);
    const struct update_config config = fixture_update();
    struct episode some[EPISODES];
    for (size_t i = 0; i < EPISODES; i++) {
        episodes[i].signal = i < 8;
        some[i] = episodes[i];
        if (i >= 8) some[i].count = 0;
    }
    const struct update_batch batch = batch_of(1);
    struct update_batch bare = batch;
    bare.episodes = some;
    struct diagnostics a = run(trainee, &config, &batch, UPDATE_OUTCOME_applied),
                       b = run(twin, &config, &bare, UPDATE_OUTCOME_applied);
    ck_assert_double_eq(a.targets, b.targets);
    ck_assert_mem_eq(trainee->model->weights, twin->model->weights, trainee->model->count * sizeof(float));
    ck_assert_int_ne(
        memcmp(trainee->value->head->weights, twin->value->head->weights, trainee->value->head->count * sizeof(float)), 0);
    /* with no signal at all nothing moves: a version names its value head, too */
    for (size_t i = 0; i < EPISODES; i++) episodes[i].signal = false;
    const struct update_batch none = batch_of(2);
    value_keep(trainee->value);
    (void)run(trainee, &config, &none, UPDATE_OUTCOME_skipped);
    ck_assert_mem_eq(trainee->value->head->weights, trainee->value->kept_head->weights,
                     trainee->value->head->count * sizeof(float));
}
END_TEST

/* dL/dW of the whole of policy and shared value loss, by differences in weights of the model */
static double shared_loss(struct trainee *trainee, struct lesson **lessons, size_t n, const struct packing_options *options,
                          const float **ret_gradient)
{
    struct packing packing;
    struct loss_sums sums = {0};
    struct value_sums values = {0};
    const struct loss_terms terms = {.clip_low = 0.2, .clip_high = 0.2, .cap = 1};
    ck_assert_int_eq(packing_make(lessons, n, options, &trainee->arena, &packing), ERR_ok);
    value_zero(trainee->value);
    ck_assert_int_eq(
        pass_gradient(trainee, trainee->model, LOSS_imitation, &terms, &packing, NULL, ret_gradient, &sums, &values), ERR_ok);
    return sums.loss + 0.5 * values.loss * (double)options->state_weight;
}

START_TEST(a_shared_body_gets_the_value_heads_gradient)
{
    AUTO_PTR(trainee) trainee = trainee_with_value(0.5);
    struct lesson lessons[8], *chosen[8];
    const struct loss_norm norm = {.tokens = 300};
    for (size_t i = 0; i < 8; i++) {
        ck_assert_int_eq(lesson_make(&lessons[i], &episodes[i], &trainee->arena), ERR_ok);
        lesson_weigh(&lessons[i], LOSS_AGGREGATION_token_mean, &norm);
        lessons[i].outcome = arena_array(&trainee->arena, float, 2);
        lessons[i].outcome[0] = lessons[i].outcome[1] = (float)(i % 2);
        chosen[i] = &lessons[i];
    }
    const struct packing_options options = {
        .version = -1, .tokens_per_microbatch = 128, .workers = 2, .temperature = 1, .state_weight = 0.5f};
    const float *gradient = NULL;
    (void)shared_loss(trainee, chosen, 8, &options, &gradient);
    float *kept = malloc(trainee->model->count * sizeof *kept);
    memcpy(kept, gradient, trainee->model->count * sizeof *kept);
    struct rng rng;
    rng_init(&rng, SEED, 4);
    for (int k = 0; k < 20; k++) { /* along random directions: single weights drown in rounding */
        size_t n = trainee->model->count;
        double slope = 0;
        float *direction = malloc(n * sizeof *direction), *base = malloc(n * sizeof *base);
        memcpy(base, trainee->model->weights, n * sizeof *base);
        for (size_t i = 0; i < n; i++) {
            direction[i] = (float)rng_normal(&rng);
            slope += (double)direction[i] * (double)kept[i];
        }
        double loss[2];
        for (int side = 0; side < 2; side++) {
            for (size_t i = 0; i < n; i++) trainee->model->weights[i] = base[i] + (side ? 2e-4f : -2e-4f) * direction[i];
            loss[side] = shared_loss(trainee, chosen, 8, &options, &gradient);
        }
        memcpy(trainee->model->weights, base, n * sizeof *base);
        ck_assert_double_eq_tol((loss[1] - loss[0]) / 4e-4, slope, 5e-3 * (1 + fabs(slope)));
        free(direction);
        free(base);
    }
    free(kept);
}
END_TEST

START_TEST(losses_of_the_value_head_need_it)
{
    AUTO_PTR(trainee) bare = fixture_trainee(pool);
    AUTO_PTR(trainee) trainee = trainee_with_value(0);
    struct update_config config = fixture_update();
    const struct update_batch batch = batch_of(1);
    enum update_outcome outcome;
    struct diagnostics d;
    config.loss = LOSS_ppo;
    config.discount = 1;
    config.lambda = 0.95;
    ck_assert_int_eq(update_run(bare, &config, &batch, NULL, &outcome, &d), ERR_invalid);
    ck_assert_ptr_nonnull(strstr(err_text(), "value head"));
    config.loss = LOSS_webrl;
    ck_assert_int_eq(update_run(trainee, &config, &batch, NULL, &outcome, &d), ERR_invalid);
    ck_assert_ptr_nonnull(strstr(err_text(), "reference"));
}
END_TEST

/* The policy gradient's loss at theta = prox is minus the mean advantage: that of GAE with V of the start. */
START_TEST(ppo_takes_its_advantages_from_the_values)
{
    AUTO_PTR(trainee) trainee = trainee_with_value(0);
    struct update_config config = fixture_update();
    config.loss = LOSS_ppo;
    config.discount = 0.9;
    config.lambda = 0.8;
    config.aggregation = LOSS_AGGREGATION_step_mean;
    config.terms = (struct loss_terms){.clip_low = 0.2, .clip_high = 0.2, .cap = 1};
    struct lesson lessons[EPISODES], *chosen[EPISODES];
    for (size_t i = 0; i < EPISODES; i++) {
        ck_assert_int_eq(lesson_make(&lessons[i], &episodes[i], &trainee->arena), ERR_ok);
        chosen[i] = &lessons[i];
        episodes[i].advantage = 1e3; /* of the group: not read */
    }
    const struct packing_options options = {
        .version = -1, .tokens_per_microbatch = 128, .workers = 2, .temperature = 1, .state_weight = 1};
    struct packing packing;
    ck_assert_int_eq(packing_make(chosen, EPISODES, &options, &trainee->arena, &packing), ERR_ok);
    ck_assert_uint_eq(packing.states, 2 * EPISODES);
    ck_assert_int_eq(pass_score(trainee, trainee->model, &packing, NULL), ERR_ok);
    double V[EPISODES][2], sum = 0;
    for (size_t b = 0; b < packing.count; b++) {
        const struct microbatch *m = &packing.microbatches[b];
        for (size_t i = 0, s = 0; i < m->states; i++) {
            while (m->state[i].target >= m->first[s + 1]) s++;
            V[m->lesson[s] - lessons][m->state[i].turn] = (double)m->state[i].value;
        }
    }
    arena_clear(&trainee->arena);
    for (size_t i = 0; i < EPISODES; i++) {
        double last = (double)(i % 2) - V[i][1], delta = 0.9 * V[i][1] - V[i][0];
        sum += last + delta + 0.9 * 0.8 * last;
    }
    const struct update_batch batch = batch_of(1);
    struct diagnostics d = run(trainee, &config, &batch, UPDATE_OUTCOME_applied);
    ck_assert_double_eq_tol(d.loss, -sum / (2 * EPISODES), 1e-5);
    ck_assert_double_gt(d.value_loss, 0);
}
END_TEST

START_TEST(webrl_moves_towards_what_worked)
{
    AUTO_PTR(trainee) trainee = trainee_with_value(0);
    struct update_config config = fixture_update();
    config.loss = LOSS_webrl;
    config.mix = 0.5;
    config.terms = (struct loss_terms){.cap = 1, .regression = {.beta = 0.3}};
    config.aggregation = LOSS_AGGREGATION_step_mean;
    ck_assert_int_eq(trainee_set_reference(trainee), ERR_ok);
    float before[EPISODES][FIXTURE_TOKENS], after[EPISODES][FIXTURE_TOKENS];
    for (size_t i = 0; i < EPISODES; i++) say(trainee, &episodes[i], true, before[i]);
    struct diagnostics first = {0}, last = {0};
    for (int64_t u = 1; u <= 30; u++) {
        const struct update_batch batch = batch_of(u);
        last = run(trainee, &config, &batch, UPDATE_OUTCOME_applied);
        if (u == 1) first = last;
    }
    ck_assert_double_lt(last.loss, first.loss);
    ck_assert_double_eq(last.mean_w, 1);
    double moved[2] = {0};
    for (size_t i = 0; i < EPISODES; i++) {
        say(trainee, &episodes[i], true, after[i]);
        for (uint32_t k = 0; k < episodes[i].action_tokens; k++) moved[i % 2] += (double)(after[i][k] - before[i][k]);
    }
    ck_assert_double_gt(moved[1], moved[0]); /* odd ones were rewarded */
    ck_assert_double_gt(moved[1], 0);
}
END_TEST

/* ---- together ---- */

/* Hinted episodes, dropped turns, contexts per turn, imported ones, a value head, minibatches and extra passes. */
static void mix(struct trainee *trainee, struct episode *all)
{
    static const uint8_t first[] = {1, 0};
    for (size_t i = 0; i < EPISODES; i++) {
        if (i % 8 == 1) hint(trainee, i);
        all[i] = episodes[i];
        if (i % 8 == 2) {
            all[i].dropped = first;
            all[i].action_tokens -= 3;
            all[i].action_turns = 1;
        }
        if (i % 8 == 3) all[i] = segmented(&episodes[i], &parts[i]);
        if (i % 8 == 4) all[i].sampled = false;
        if (i % 8 == 5) all[i].signal = false;
    }
}

/* The trainee again from its checkpoint. */
static struct trainee *again(const struct trainee *trainee, double coefficient)
{
    struct checkpoint state, read;
    uint8_t header[CHECKPOINT_HEADER_BYTES];
    struct span spans[CHECKPOINT_SPANS];
    size_t count = 0, at = 0;
    ck_assert_int_eq(trainee_checkpoint(trainee, &state), ERR_ok);
    const struct checkpoint_parts sections = checkpoint_parts(&state);
    size_t size = checkpoint_bytes(&state.config, &sections);
    checkpoint_encode(&state, header, spans, &count);
    uint8_t *file = aligned_alloc(64, (size + 63) / 64 * 64);
    ck_assert_ptr_nonnull(file);
    for (size_t i = 0; i < count; at += spans[i++].size) memcpy(file + at, spans[i].data, spans[i].size);
    ck_assert_uint_eq(at, size);
    ck_assert_int_eq(checkpoint_open(span_of(file, size), &read), ERR_ok);
    struct trainee_config config = {.model = FIXTURE_MODEL,
                                    .adamw = ADAMW_DEFAULTS,
                                    .value = {.units = 6, .lr = 1e-2, .coefficient = coefficient},
                                    .max_tokens = 1024,
                                    .seed = 3};
    struct trainee *resumed = NULL, *other = NULL;
    err_t err = trainee_resume(&resumed, &config, &read, pool);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
    config.value.units = 5;
    ck_assert_int_eq(trainee_resume(&other, &config, &read, pool), ERR_conflict);
    free(file);
    return resumed;
}

START_TEST(everything_at_once)
{
    const enum loss_kind kinds[] = {LOSS_grpo, LOSS_gspo, LOSS_ppo, LOSS_webrl};
    for (size_t k = 0; k < 4; k++) {
        AUTO_PTR(trainee) trainee = trainee_with_value(k % 2 ? 0.5 : 0);
        AUTO_PTR(trainee) twin = trainee_with_value(k % 2 ? 0.5 : 0);
        struct episode all[EPISODES];
        mix(trainee, all);
        struct update_config config = fixture_update();
        config.loss = kinds[k];
        config.hint = UPDATE_HINT_ratio;
        config.discount = config.lambda = 0.95;
        config.mix = 0.5;
        config.minibatches = 2;
        config.terms.kl = 0.1;
        config.terms.guide = (struct loss_guide){.shaping = LOSS_SHAPING_quantile, .quantile = 0.9, .certain = 0.99};
        config.terms.regression.beta = 0.1;
        config.aggregation = LOSS_AGGREGATION_step_mean;
        struct update_batch batch = batch_of(1);
        batch.episodes = all;
        batch.extra_passes = 2;
        ck_assert_int_eq(trainee_set_reference(trainee), ERR_ok);
        ck_assert_int_eq(trainee_set_reference(twin), ERR_ok);
        double live = 0;
        for (size_t i = 0; i < EPISODES; i++) live += all[i].signal ? all[i].action_tokens : 0;
        struct diagnostics a = run(trainee, &config, &batch, UPDATE_OUTCOME_applied),
                           b = run(twin, &config, &batch, UPDATE_OUTCOME_applied);
        same_weights(trainee, twin);
        ck_assert_double_eq(a.targets, 3 * live);
        ck_assert_double_eq(a.loss, b.loss);
        ck_assert_double_eq(a.hinted_targets,
                            kinds[k] == LOSS_webrl ? 0 : 3.0 * (all[1].action_tokens + all[9].action_tokens));
        ck_assert_double_eq(a.optimizer_steps, 6);
        ck_assert(a.fau > 0 && a.unrecorded_share > 0 && a.kl_reference >= 0);
        /* a cancellation in the middle leaves no trace in either optimizer */
        const atomic_bool cancel = true;
        enum update_outcome outcome;
        batch.update = 2;
        AUTO_PTR(trainee) resumed = again(trainee, k % 2 ? 0.5 : 0);
        ck_assert_int_eq(update_run(trainee, &config, &batch, &cancel, &outcome, &a), ERR_conflict);
        same_weights(trainee, twin);
        struct update_config far = config;
        far.schedule.peak = 1e38;
        ck_assert_int_eq(update_run(trainee, &far, &batch, NULL, &outcome, &a), ERR_numeric);
        same_weights(trainee, twin);
        /* and going on from a checkpoint gives the same bits */
        (void)run(trainee, &config, &batch, UPDATE_OUTCOME_applied);
        (void)run(resumed, &config, &batch, UPDATE_OUTCOME_applied);
        same_weights(trainee, resumed);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("update_methods");
    TCase *tcase = tcase_create("update_methods");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, dropped_turns_are_switched_off);
    tcase_add_test(tcase, counts_follow_from_what_is_dropped);
    tcase_add_test(tcase, step_mean_weighs_turns_alike);
    tcase_add_test(tcase, a_context_per_turn_that_repeats_everything_is_the_episode);
    tcase_add_test(tcase, hinted_episodes_have_the_ratio_of_two_contexts);
    tcase_add_test(tcase, a_hint_may_only_be_cut_away);
    tcase_add_loop_test(tcase, a_hint_may_be_left_in, 0, 4);
    tcase_add_test(tcase, extra_passes_are_epochs_and_discarded_batches_nothing);
    tcase_add_test(tcase, the_value_head_learns_the_outcome);
    tcase_add_test(tcase, without_signal_only_the_value_head_learns);
    tcase_add_test(tcase, a_shared_body_gets_the_value_heads_gradient);
    tcase_add_test(tcase, losses_of_the_value_head_need_it);
    tcase_add_test(tcase, ppo_takes_its_advantages_from_the_values);
    tcase_add_test(tcase, webrl_moves_towards_what_worked);
    tcase_add_test(tcase, everything_at_once);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
