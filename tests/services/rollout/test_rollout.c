/* LABELS: unit
 * pal-rollout with a scripted data manager and the real lake: scripts are played as they are, prompts and stored episodes
 * are measured under the version that is asked for, an outcome reward model gives the reward. */
#include "rollout/judge.h"
#include "rollout/runner.h"
#include "tests/services/rollout/stage.h"

#include <math.h>

static const char SPEC[] = "{\"name\": \"stage\", \"seed\": 5, \"environments\": [{\"name\": \"lake\", \"slots\": 8}],"
                           " \"policy\": {\"init\": {\"preset\": \"tiny-0.1m\"}, \"warmstart\": null},"
                           " \"rollout\": {\"max_context\": 256, \"temperature\": 1.5}}";

static struct env_task task;

/* the expert's actions for the task, one a line; the last `less` are left out */
static void solution(const struct env_class *env, size_t less, char *script, size_t size)
{
    struct env_obs obs = {0};
    struct rng rng;
    char actions[32][ENV_ACTION_BYTES];
    size_t count = 0;
    void *state = aligned_alloc(64, (env->state_bytes + 63) / 64 * 64);
    memset(state, 0, env->state_bytes);
    rng_init(&rng, 1, 0);
    ck_assert_int_eq(env->reset(state, span_text(task.text), 0, &obs), ERR_ok);
    while (!obs.terminated) {
        ck_assert_uint_lt(count, 32);
        env->expert(state, 0, &rng, actions[count]);
        ck_assert_int_eq(env->step(state, span_text(actions[count++]), &obs), ERR_ok);
    }
    ck_assert_double_eq(obs.reward, 1);
    free(state);
    script[0] = 0;
    for (size_t i = 0; i + less < count; i++) {
        size_t n = strlen(script);
        (void)snprintf(script + n, size - n, "%s\n", actions[i]);
    }
}

static struct wire_lease lease_of(uint64_t episode, const char *source)
{
    return (struct wire_lease){.episode = episode,
                               .source = span_text(source),
                               .task_text = span_text(task.text),
                               .seed = episode,
                               .pin_version = -1};
}

/* log-probs of the targets of tokens [from, to), each by the definition's other implementation's call: one sequence */
static double mean_logp(struct stage *stage, const struct model *model, const struct sequence *s, uint32_t from)
{
    struct learner *learner = NULL;
    uint32_t start[2] = {0, s->count - from}, target[256];
    float logp[256], entropy[256];
    size_t targets = 0;
    double sum = 0;
    for (uint32_t i = from; i < s->count; i++) {
        if (s->target[i]) target[targets++] = i - from;
    }
    ck_assert_int_eq(learner_new(&learner, &stage->config, 1, 256, LEARNER_KIND_forward), ERR_ok);
    const struct learner_batch batch = {1, start, s->token + from, targets, target, 1.5f};
    ck_assert_int_eq(learner_forward(learner, 0, model, &batch, &(struct learner_out){logp, entropy, NULL}), ERR_ok);
    learner_free(&learner);
    for (size_t i = 0; i < targets; i++) sum += (double)logp[i];
    return sum / (double)targets;
}

static void setup(void)
{
    ck_assert_int_eq(env_find("lake")->generate(1, 11, NULL, &task), ERR_ok);
}

START_TEST(a_script_is_played)
{
    struct stage stage;
    char script[1024];
    stage_open(&stage, SPEC);
    solution(stage.env, 0, script, sizeof script);
    struct wire_lease lease = lease_of(1, "import");
    lease.script = span_text(script);
    const struct stage_end *end = stage_play(&stage, lease); /* no policy is known, and none is needed */
    ck_assert_str_eq(end->outcome, "ok");
    ck_assert_double_eq(end->reward, 1);
    ck_assert_int_eq(end->version_min, -1);
    ck_assert_uint_eq(end->turns, 0);
    struct sequence s = stage_sequence(&stage, end);
    ck_assert(!s.sampled);
    AUTO(buf) text = {0};
    for (uint32_t i = 0; i < s.count; i++) {
        if (s.target[i]) ck_assert_int_eq(tokenizer_decode(stage.tokenizer, &s.token[i], 1, &text), ERR_ok);
    }
    ck_assert_str_eq(buf_chars(&text), script); /* the targets are the script, newlines included */

    solution(stage.env, 1, script, sizeof script);
    lease = lease_of(2, "import");
    lease.script = span_text(script);
    end = stage_play(&stage, lease);
    ck_assert_str_eq(end->outcome, "truncated"); /* the script is over, the episode is not */
    ck_assert_double_eq(end->reward, 0);

    char longest[RUNNER_ACTION_BYTES + 2];
    memset(longest, 'x', sizeof longest);
    lease = lease_of(3, "import");
    lease.script = span_of(longest, RUNNER_ACTION_BYTES + 1);
    end = stage_play(&stage, lease);
    ck_assert_str_eq(end->outcome, "poisoned");
    ck_assert_ptr_nonnull(strstr(end->error, "action 1 of the script"));
    stage_close(&stage);
}
END_TEST

/* hidden states [T, D] of a prompt, by a learner of the test's own */
static float *hidden_of(struct stage *stage, const struct model *model, const struct sequence *s)
{
    size_t D = (size_t)stage->config.width;
    struct learner *learner = NULL;
    int32_t tokens[257];
    uint32_t target[256], start[2] = {0, s->count + 1};
    float numbers[512], *hidden = calloc(256 * D, sizeof *hidden);
    for (uint32_t i = 0; i < s->count; i++) {
        tokens[i] = s->token[i];
        target[i] = i + 1;
    }
    tokens[s->count] = 1; /* whatever stands behind */
    ck_assert_int_eq(learner_new(&learner, &stage->config, 1, 257, LEARNER_KIND_forward), ERR_ok);
    const struct learner_batch batch = {1, start, tokens, s->count, target, 1};
    ck_assert_int_eq(learner_forward(learner, 0, model, &batch, &(struct learner_out){numbers, numbers + 256, hidden}),
                     ERR_ok);
    learner_free(&learner);
    return hidden;
}

/* the definition of ALGORITHMS B 4.1 */
static double c_intra(struct stage *stage, const struct model *model, const struct sequence *s)
{
    size_t D = (size_t)stage->config.width;
    float *hidden = hidden_of(stage, model, s);
    double sum = 0;
    for (size_t i = 0; i < s->count; i++) {
        for (size_t j = 0; j < s->count; j++) {
            double ij = 0, ii = 0, jj = 0;
            for (size_t d = 0; d < D; d++) {
                ij += (double)hidden[i * D + d] * (double)hidden[j * D + d];
                ii += (double)hidden[i * D + d] * (double)hidden[i * D + d];
                jj += (double)hidden[j * D + d] * (double)hidden[j * D + d];
            }
            sum += ij / sqrt(ii * jj);
        }
    }
    free(hidden);
    return sum / ((double)s->count * (double)s->count);
}

static double value_of(struct stage *stage, const struct model *model, const struct value_head *head,
                       const struct sequence *s)
{
    float *hidden = hidden_of(stage, model, s), active[64], value = 0;
    value_head_forward(head, hidden + (s->count - 1) * (size_t)stage->config.width, 1, active, &value);
    free(hidden);
    return (double)value;
}

START_TEST(a_prompt_is_measured)
{
    struct stage stage;
    struct env_obs obs;
    stage_open(&stage, SPEC);
    struct value_head *head = NULL;
    ck_assert_int_eq(value_head_new(&head, (size_t)stage.config.width, 64), ERR_ok);
    value_head_init(head, 9);
    struct model *old = stage_policy(&stage, 4, 21), *new = stage_publish(&stage, false, 5, 22, head);
    struct wire_lease lease = lease_of(1, "score");
    lease.score = span_text("prompt");
    lease.pin_version = 4;
    const struct stage_end *end = stage_play(&stage, lease);
    ck_assert_str_eq(end->outcome, "ok");
    struct sequence s = stage_sequence(&stage, end);
    ck_assert_uint_eq(end->action_tokens, 0);
    ck_assert_uint_eq(end->prompt_tokens, s.count);
    ck_assert_double_eq(stage_score(end, "tokens"), (double)s.count);
    AUTO(buf) text = {0};
    ck_assert_int_eq(tokenizer_decode(stage.tokenizer, s.token, s.count, &text), ERR_ok);
    void *state = aligned_alloc(64, (stage.env->state_bytes + 63) / 64 * 64);
    ck_assert_int_eq(stage.env->reset(state, span_text(task.text), 0, &obs), ERR_ok);
    free(state);
    AUTO(buf) wanted = {0};
    ck_assert_int_eq(buf_printf(&wanted, "%s\n>", obs.text), ERR_ok);
    ck_assert_str_eq(buf_chars(&text), buf_chars(&wanted));
    ck_assert_double_eq_tol(stage_score(end, "c_intra"), c_intra(&stage, old, &s), 1e-6);
    ck_assert_double_eq(stage_score(end, "c_inter"), 0); /* nothing stands before the task's own text */

    ck_assert_uint_eq(end->score_count, 3); /* no value head, no value */

    lease.episode = 2;
    lease.pin_version = 5;
    end = stage_play(&stage, lease);
    ck_assert_double_eq_tol(stage_score(end, "value"), value_of(&stage, new, head, &s), 1e-6);
    value_head_free(&head);
    ck_assert_double_eq_tol(stage_score(end, "c_intra"), c_intra(&stage, new, &s), 1e-6);
    model_free(&old);
    model_free(&new);
    stage_close(&stage);
}
END_TEST

START_TEST(a_stored_episode_is_measured)
{
    struct stage stage;
    char script[1024];
    stage_open(&stage, SPEC);
    struct model *model = stage_policy(&stage, 4, 21);
    solution(stage.env, 0, script, sizeof script);
    struct wire_lease lease = lease_of(1, "import");
    lease.script = span_text(script);
    lease.hint = span_text("go {environment}");
    const struct stage_end *played = stage_play(&stage, lease);
    struct sequence s = stage_sequence(&stage, played);
    ck_assert_uint_gt(s.hint, 0);
    size_t resets = stage.resets;
    lease = lease_of(2, "score");
    lease.score = span_text("replay");
    lease.payload = buf_span(&played->payload);
    lease.payload_raw = played->payload_raw;
    const struct stage_end *end = stage_play(&stage, lease);
    ck_assert_str_eq(end->outcome, "ok");
    ck_assert_uint_eq(end->payload_raw, 0);
    ck_assert_uint_eq(stage.resets, resets); /* nothing was played */
    /* under the plain context: the hint is no part of it */
    ck_assert_double_eq_tol(log(stage_score(end, "perplexity")), -mean_logp(&stage, model, &s, s.hint), 1e-5);

    lease.episode = 3;
    lease.payload_raw--;
    end = stage_play(&stage, lease);
    ck_assert_str_eq(end->outcome, "poisoned");
    model_free(&model);
    stage_close(&stage);
}
END_TEST

/* log P(token) behind the layout, for the judge's verdict by the test's own learner */
static double verdict(struct stage *stage, const struct model *model, const struct sequence *s)
{
    struct judge judge;
    struct learner *learner = NULL;
    int32_t tokens[257];
    float logp[2], entropy;
    ck_assert_int_eq(judge_init(&judge, stage->tokenizer), ERR_ok);
    uint32_t n = judge_layout(&judge, s, tokens, 256), start[2] = {0, n + 1};
    ck_assert_int_eq(learner_new(&learner, &stage->config, 1, 257, LEARNER_KIND_forward), ERR_ok);
    for (int i = 0; i < 2; i++) {
        tokens[n] = i ? judge.yes : judge.no;
        const struct learner_batch batch = {1, start, tokens, 1, &n, 1};
        ck_assert_int_eq(learner_forward(learner, 0, model, &batch, &(struct learner_out){&logp[i], &entropy, NULL}), ERR_ok);
    }
    learner_free(&learner);
    return 1 / (1 + exp((double)logp[0] - (double)logp[1]));
}

START_TEST(a_reward_model_judges)
{
    struct stage stage;
    char script[1024];
    bool solved[2] = {false, false};
    stage_open(&stage, SPEC);
    struct model *policy = stage_policy(&stage, 4, 21);
    solution(stage.env, 0, script, sizeof script);
    struct wire_lease unknown = lease_of(9, "import");
    unknown.script = span_text(script);
    unknown.judge = 77; /* never announced: waited for while the others play */
    stage_grant(&stage, unknown);
    for (uint64_t version = 1; version <= 6; version++) {
        struct model *orm = stage_publish(&stage, true, (int64_t)version, 50 + version, NULL);
        bool sampled = version % 2 == 0; /* a policy's episode, or a script's */
        struct wire_lease lease = lease_of(version, sampled ? "fresh" : "import");
        lease.script = span_text(sampled ? "" : script);
        lease.judge = (int64_t)version;
        const struct stage_end *end = stage_play(&stage, lease);
        struct sequence s = stage_sequence(&stage, end);
        double score = stage_score(end, "score");
        ck_assert(end->judged);
        if (!sampled) ck_assert_double_eq(end->verified, 1);
        ck_assert_double_eq_tol(score, verdict(&stage, orm, &s), 1e-5);
        ck_assert_double_eq(end->reward, score >= 0.5 ? 1 : 0);
        solved[score >= 0.5] = true;
        if (sampled) ck_assert_int_eq(end->version_min, 4);
        model_free(&orm);
    }
    ck_assert_msg(solved[0] && solved[1], "the seeds show only one verdict");
    const struct stage_end *unjudged = stage_await(&stage, 9);
    ck_assert_str_eq(unjudged->outcome, "judge_error");
    ck_assert(!unjudged->judged);
    model_free(&policy);
    stage_close(&stage);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rollout");
    TCase *tcase = tcase_create("rollout");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, a_script_is_played);
    tcase_add_test(tcase, a_prompt_is_measured);
    tcase_add_test(tcase, a_stored_episode_is_measured);
    tcase_add_test(tcase, a_reward_model_judges);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
