#include "services/trainer/assignment.h"

#include "services/common/origin/origin.h"

#include <stdlib.h>

#define ARENA_MAX_BYTES ((size_t)16 << 20) /* the job's text and what parsing it takes */

/* the job's choices are stored as indices; the trainer's enums have the same order */
_Static_assert((int)JOB_IMPORTANCE_OFF == (int)LOSS_IMPORTANCE_off, "importance");
_Static_assert((int)JOB_IMPORTANCE_TIS == (int)LOSS_IMPORTANCE_tis, "importance");
_Static_assert((int)JOB_IMPORTANCE_MASKED == (int)LOSS_IMPORTANCE_masked, "importance");
_Static_assert((int)JOB_AGGREGATION_TOKEN_MEAN == (int)LOSS_AGGREGATION_token_mean, "aggregation");
_Static_assert((int)JOB_AGGREGATION_SEQ_MEAN == (int)LOSS_AGGREGATION_seq_mean, "aggregation");
_Static_assert((int)JOB_AGGREGATION_STEP_MEAN == (int)LOSS_AGGREGATION_step_mean, "aggregation");
_Static_assert((int)JOB_LOSS_GRPO == (int)LOSS_grpo && (int)JOB_LOSS_GSPO == (int)LOSS_gspo, "loss");
_Static_assert((int)JOB_LOSS_PPO == (int)LOSS_ppo && (int)JOB_LOSS_WEBRL == (int)LOSS_webrl, "loss");
_Static_assert((int)JOB_GUIDE_SHAPING_NONE == (int)LOSS_SHAPING_none, "shaping");
_Static_assert((int)JOB_GUIDE_SHAPING_CONSTANT == (int)LOSS_SHAPING_constant, "shaping");
_Static_assert((int)JOB_GUIDE_SHAPING_QUANTILE == (int)LOSS_SHAPING_quantile, "shaping");
_Static_assert((int)JOB_GUIDE_SHAPING_POWER == (int)LOSS_SHAPING_power, "shaping");

static err_t copy_message(struct assignment *a, const struct wire_job_assign *message)
{
    a->spec_text = arena_text(&a->arena, message->spec);
    a->resume_path = arena_text(&a->arena, message->resume_path);
    a->resume_sha256 = arena_text(&a->arena, message->resume_sha256);
    return a->spec_text && a->resume_path && a->resume_sha256 ? ERR_ok : ERR_memory;
}

err_t assignment_new(struct assignment **ret, const struct wire_job_assign *message)
{
    struct assignment *a = calloc(1, sizeof *a);
    if (!a) return err_set(ERR_memory, "an assignment");
    a->job = message->job;
    a->lineage = message->lineage;
    a->resume_version = message->resume_version;
    a->saved_version = -1;
    arena_init(&a->arena, ARENA_MAX_BYTES);
    err_t err = copy_message(a, message);
    if (err != ERR_ok)
        assignment_free(&a);
    else
        *ret = a;
    return err;
}

void assignment_free(struct assignment **assignment)
{
    struct assignment *a = *assignment;
    *assignment = NULL;
    if (!a) return;
    intake_free(&a->batch);
    trainee_free(&a->trainee);
    arena_fini(&a->arena);
    free(a);
}

static err_t parse(struct assignment *a)
{
    struct job_problems problems = {0};
    err_t err = job_parse(span_text(a->spec_text), &a->arena, &a->spec, &problems);
    if (err == ERR_ok || problems.count == 0) return err;
    return err_set(err, "the job's %s %s (%zu problems)", problems.rows[0].pointer, problems.rows[0].detail, problems.count);
}

/* tokens_per_microbatch, but no more than a batch can hold: the learner's memory grows with it */
static size_t microbatch_tokens(const struct job_spec *spec, size_t longest)
{
    size_t episodes = (size_t)(spec->trainer.groups_per_update * spec->rollout.group_size),
           batch = (size_t)spec->warmstart.batch;
    size_t most = (episodes > batch ? episodes : batch) * longest, wanted = (size_t)spec->trainer.tokens_per_microbatch;
    return wanted < most ? wanted : most;
}

static struct loss_terms terms_of(const struct job_spec *spec)
{
    const struct job_trainer *t = &spec->trainer;
    const struct job_guide *g = &spec->guide;
    return (struct loss_terms){.clip_low = t->clip_low,
                               .clip_high = t->clip_high,
                               .dual_clip = t->dual_clip,
                               .importance = (enum loss_importance)t->importance.mode,
                               .cap = t->importance.cap,
                               .behave_ratio = t->old_policy == JOB_OLD_POLICY_BEHAVE,
                               .entropy = t->entropy,
                               .kl = t->kl,
                               .guide = {.shaping = (enum loss_shaping)g->shaping,
                                         .gamma = g->gamma,
                                         .quantile = g->quantile,
                                         .power = g->power,
                                         .certain = g->certain,
                                         .clip = g->clip},
                               .regression = {.beta = t->regression.beta,
                                              .mean = t->regression.log_ratio == JOB_LOG_RATIO_MEAN,
                                              .released = t->regression.form == JOB_REGRESSION_FORM_RELEASED}};
}

static enum update_hint hint_of(enum job_guide_correction correction)
{
    switch (correction) {
    case JOB_GUIDE_CORRECTION_RATIO:
        return UPDATE_HINT_ratio;
    case JOB_GUIDE_CORRECTION_OFF:
        return UPDATE_HINT_cut;
    case JOB_GUIDE_CORRECTION_HINTED:
        return UPDATE_HINT_left;
    }
    return UPDATE_HINT_cut;
}

static struct update_config update_of(const struct job_spec *spec, size_t microbatch)
{
    const struct job_trainer *t = &spec->trainer;
    return (struct update_config){
        .loss = (enum loss_kind)t->loss,
        .terms = terms_of(spec),
        .aggregation = (enum loss_aggregation)t->aggregation,
        .hint = hint_of(spec->guide.correction),
        .hint_positive = spec->guide.positive_only,
        .discount = t->value.discount,
        .lambda = t->value.gae_lambda,
        .mix = t->regression.lambda,
        .minibatches = (size_t)t->minibatches,
        .epochs = (size_t)t->epochs,
        .tokens_per_microbatch = microbatch,
        .temperature = (float)spec->rollout.temperature,
        .schedule = {.kind = t->schedule == JOB_SCHEDULE_LINEAR ? SCHEDULE_linear : SCHEDULE_constant,
                     .peak = t->lr,
                     .warmup = (uint64_t)t->warmup,
                     .total = (uint64_t)t->updates},
    };
}

/* The value head, where something reads it. */
static struct value_config value_of(const struct job_spec *spec)
{
    const struct job_trainer *t = &spec->trainer;
    bool wanted = t->loss == JOB_LOSS_PPO || t->loss == JOB_LOSS_WEBRL || spec->webrl.on || spec->replay_ratio.on;
    if (!wanted) return (struct value_config){0};
    return (struct value_config){.units = (size_t)t->value.width,
                                 .lr = t->value.lr,
                                 .coefficient = t->value.body == JOB_VALUE_BODY_SHARED ? t->value.coefficient : 0};
}

/* tokens of the longest context */
static size_t longest_context(const struct job_spec *spec, const struct model_config *model)
{
    size_t longest = (size_t)spec->rollout.max_context, positions = (size_t)model->max_positions;
    return longest < positions ? longest : positions;
}

static bool has_reward_model(const struct job_spec *spec)
{
    return spec->webrl.on && spec->webrl.orm != JOB_ORM_OFF;
}

void assignment_trainee_config(const struct job_spec *spec, struct trainee_config *config)
{
    const struct job_trainer *t = &spec->trainer;
    size_t longest = longest_context(spec, &config->model), microbatch = microbatch_tokens(spec, longest);
    if (has_reward_model(spec)) longest++; /* the verdict behind it */
    config->seed = (uint64_t)spec->seed;
    config->value = value_of(spec);
    config->adamw = (struct adamw_config)ADAMW_DEFAULTS;
    config->adamw.beta1 = (float)t->beta1;
    config->adamw.beta2 = (float)t->beta2;
    config->adamw.weight_decay = (float)t->weight_decay;
    config->adamw.clip = (float)t->grad_clip;
    config->recompute = t->recompute;
    config->max_tokens = microbatch > longest ? microbatch : longest;
}

/* What lasts from phase to phase. A job without phases has one, and its reference is version 0. */
static err_t configure_phase(struct assignment *a, const struct tokenizer *tokenizer, const struct model_config *model)
{
    const struct job_spec *spec = &a->spec;
    size_t longest = longest_context(spec, model);
    a->phase.reference = spec->trainer.kl > 0 || spec->trainer.loss == JOB_LOSS_WEBRL;
    a->phase.orm = has_reward_model(spec);
    a->reward_only = a->phase.orm && spec->webrl.orm == JOB_ORM_REWARD;
    if (!a->phase.orm) return ERR_ok;
    TRY(judge_init(&a->reader.judge, tokenizer));
    a->reader.room = (uint32_t)longest; /* as rollout workers do, but the verdict itself must fit, too */
    if (longest == (size_t)model->max_positions) a->reader.room--;
    a->phase.reward = (struct orm_config){.updates = (size_t)spec->webrl.orm_updates,
                                          .batch = (size_t)spec->webrl.orm_batch,
                                          .lr = spec->webrl.orm_lr,
                                          .tokens_per_microbatch = a->update.tokens_per_microbatch,
                                          .yes = a->reader.judge.yes,
                                          .no = a->reader.judge.no};
    return ERR_ok;
}

static void configure(struct assignment *a, struct trainee_config *ret)
{
    size_t microbatch = microbatch_tokens(&a->spec, longest_context(&a->spec, &ret->model));
    assignment_trainee_config(&a->spec, ret);
    a->update = update_of(&a->spec, microbatch);
    a->warmstart = (struct warmstart_config){.updates = (size_t)a->spec.warmstart.updates,
                                             .batch = (size_t)a->spec.warmstart.batch,
                                             .lr = a->spec.warmstart.lr,
                                             .tokens_per_microbatch = microbatch,
                                             .temperature = (float)a->spec.rollout.temperature};
}

static err_t resume(struct assignment *a, const struct trainee_config *config, struct pool *pool)
{
    void *memory = NULL;
    struct checkpoint checkpoint;
    const struct checkpoint_parts most = {true, VALUE_HEAD_UNITS_MOST, true};
    TRY(archive_load(a->resume_path, a->resume_sha256, checkpoint_bytes(&config->model, &most), &memory, &checkpoint));
    err_t err = ERR_ok;
    if (checkpoint.job != a->job || checkpoint.version != a->resume_version)
        err =
            err_set(ERR_conflict, "%s is of job %lu, version %ld, not of job %lu, version %ld", a->resume_path,
                    (unsigned long)checkpoint.job, (long)checkpoint.version, (unsigned long)a->job, (long)a->resume_version);
    if (err == ERR_ok && ((a->phase.reference && !checkpoint.reference) || (a->phase.orm && !checkpoint.orm)))
        err = err_set(ERR_conflict, "%s holds no %s, which the job needs", a->resume_path,
                      checkpoint.orm || !a->phase.orm ? "reference policy" : "outcome reward model");
    if (err == ERR_ok) err = trainee_resume(&a->trainee, config, &checkpoint, pool);
    free(memory);
    if (err != ERR_ok) return err;
    a->want = a->trainee->update + 1;
    a->saved_version = a->trainee->version;
    return ERR_ok;
}

/* version 0: random weights, or those of the directory */
static err_t begin(struct assignment *a, const struct origin *origin, const struct trainee_config *config, struct pool *pool)
{
    TRY(trainee_new(&a->trainee, config, pool));
    return origin->pretrained ? origin_weights(origin, a->trainee->model) : ERR_ok;
}

err_t assignment_load(struct assignment *a, struct pool *pool)
{
    struct trainee_config config = {0};
    AUTO(origin) origin = {0};
    TRY(parse(a));
    TRY(origin_open(&a->spec, &origin));
    config.model = origin.model;
    config.blank = origin.pretrained;
    configure(a, &config);
    TRY(configure_phase(a, origin.tokenizer, &config.model));
    if (a->spec.curriculum.kind == JOB_CURRICULUM_GAIN_RL) TRY(prompts_init(&a->prompts, origin.tokenizer, origin.chat));
    TRY(loss_terms_check(&a->update.terms));
    return a->resume_version < 0 ? begin(a, &origin, &config, pool) : resume(a, &config, pool);
}

err_t assignment_prepare(struct assignment *a, const char *state_dir, struct pool *pool)
{
    TRY(assignment_load(a, pool));
    TRY(shelf_init(&a->shelf, state_dir, a->job, a->resume_version));
    return archive_init(&a->archive, state_dir, a->job, a->resume_version);
}
