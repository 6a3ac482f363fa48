/* A job, as its file says it and as everyone understands it.
 *
 * job_parse validates the whole file before anything starts and collects every problem (JSON pointer, what is wrong, what is
 * allowed), not just the first. job_dump writes the resolved job: every key with its value; parsing that again gives the
 * same struct. Unknown keys, wrong types, NaN, values out of range and combinations that make no sense are problems; keys
 * that begin with "_" are comments. The keys, defaults, bounds and their documentation are in job.def. */
#ifndef PAL_JOB_JOB_H
#define PAL_JOB_JOB_H

#include "rollout/outcome.h"
#include "services/common/base/arena.h"
#include "services/common/base/buf.h"

#define JOB_NAME_BYTES    128
#define JOB_FILE_BYTES    ((size_t)256 << 10) /* largest job file */
#define JOB_ENVIRONMENTS  8
#define JOB_LEVELS        16
#define JOB_COMMAND_WORDS 32
#define JOB_PROBLEMS      64

enum job_provider { JOB_PROVIDER_BUILTIN, JOB_PROVIDER_PROCESS };
enum job_prompt { JOB_PROMPT_RAW, JOB_PROMPT_CHAT };
enum job_refresh { JOB_REFRESH_EPISODE, JOB_REFRESH_TURN };
enum job_importance_mode { JOB_IMPORTANCE_OFF, JOB_IMPORTANCE_TIS, JOB_IMPORTANCE_MASKED };
enum job_advantage { JOB_ADVANTAGE_GRPO, JOB_ADVANTAGE_DR_GRPO, JOB_ADVANTAGE_RLOO };
enum job_old_policy { JOB_OLD_POLICY_RECOMPUTE, JOB_OLD_POLICY_BEHAVE };
enum job_aggregation { JOB_AGGREGATION_TOKEN_MEAN, JOB_AGGREGATION_SEQ_MEAN, JOB_AGGREGATION_STEP_MEAN };
enum job_context { JOB_CONTEXT_EPISODE, JOB_CONTEXT_STEP };
enum job_loss { JOB_LOSS_GRPO, JOB_LOSS_GSPO, JOB_LOSS_PPO, JOB_LOSS_WEBRL };
enum job_curriculum_kind { JOB_CURRICULUM_UNIFORM, JOB_CURRICULUM_SUCCESS_BAND, JOB_CURRICULUM_ADCL, JOB_CURRICULUM_GAIN_RL };
enum job_rank { JOB_RANK_ANGLE, JOB_RANK_REVERSED, JOB_RANK_RANDOM, JOB_RANK_LENGTH, JOB_RANK_LEVEL };
enum job_pool { JOB_POOL_OFF, JOB_POOL_REPLACE, JOB_POOL_ADD };
enum job_pool_pick { JOB_POOL_PICK_RANDOM, JOB_POOL_PICK_NEWEST };
enum job_advantage_over { JOB_ADVANTAGE_OVER_EPISODE, JOB_ADVANTAGE_OVER_STEP };
enum job_guide_mode { JOB_GUIDE_REPLACE, JOB_GUIDE_MIXIN, JOB_GUIDE_BALANCED };
enum job_guide_correction { JOB_GUIDE_CORRECTION_RATIO, JOB_GUIDE_CORRECTION_OFF, JOB_GUIDE_CORRECTION_HINTED };
enum job_guide_shaping {
    JOB_GUIDE_SHAPING_NONE,
    JOB_GUIDE_SHAPING_CONSTANT,
    JOB_GUIDE_SHAPING_QUANTILE,
    JOB_GUIDE_SHAPING_POWER
};
enum job_orm { JOB_ORM_OFF, JOB_ORM_MEASURE, JOB_ORM_REWARD };
enum job_ratio_rule { JOB_RATIO_RULE_PAPER, JOB_RATIO_RULE_GUARDED };
enum job_value_body { JOB_VALUE_BODY_SHARED_DETACHED, JOB_VALUE_BODY_SHARED };
enum job_log_ratio { JOB_LOG_RATIO_SUM, JOB_LOG_RATIO_MEAN };
enum job_regression_form { JOB_REGRESSION_FORM_PAPER, JOB_REGRESSION_FORM_RELEASED };
enum job_schedule { JOB_SCHEDULE_LINEAR, JOB_SCHEDULE_CONSTANT };
enum job_kv_cache { JOB_KV_CACHE_FP32, JOB_KV_CACHE_FP16 };
enum job_late { JOB_LATE_WAIT, JOB_LATE_DROP };
enum job_mask_of { JOB_MASK_SLOT, JOB_MASK_GROUP };
enum job_mask_truncated { JOB_MASK_TRUNCATED_NONE, JOB_MASK_TRUNCATED_SLOT };

/* clang-format off */
#define SECTION(name, pointer, doc) struct job_##name {
#define INT(section, key, def, min, max, doc) int64_t key;
#define NUM(section, key, def, min, max, doc) double key;
#define FLAG(section, key, def, doc) bool key;
#define CHOICE(section, key, def, names, doc) int key;
#define TEXT(section, key, bytes, def, doc) char key[bytes];
#define END_SECTION(name) JOB_EXTRA_##name };
#define JOB_EXTRA_generate int64_t levels[JOB_LEVELS]; size_t level_count;
#define JOB_EXTRA_tasks bool generates; struct job_generate generate;
#define JOB_EXTRA_environment struct job_tasks tasks; char *command[JOB_COMMAND_WORDS + 1]; size_t command_count;
#define JOB_EXTRA_warmstart bool on;
#define JOB_EXTRA_init
#define JOB_EXTRA_rollout struct job_retries retries; struct job_mask mask;
#define JOB_EXTRA_retries
#define JOB_EXTRA_mask
#define JOB_EXTRA_curriculum
#define JOB_EXTRA_curation
#define JOB_EXTRA_dart bool on;
#define JOB_EXTRA_guide bool on;
#define JOB_EXTRA_webrl bool on;
#define JOB_EXTRA_replay_ratio bool on;
#define JOB_EXTRA_value
#define JOB_EXTRA_regression
#define JOB_EXTRA_importance
#define JOB_EXTRA_trainer struct job_importance importance; struct job_value value; struct job_regression regression;
#define JOB_EXTRA_evaluation
#define JOB_EXTRA_stop

#include "services/common/job/job.def"

#include "services/common/job/undef.h"
/* clang-format on */

struct job_spec {
    char name[JOB_NAME_BYTES];
    int64_t seed;     /* >= 0 */
    int64_t priority; /* higher runs first */
    struct job_environment environments[JOB_ENVIRONMENTS];
    size_t environment_count;
    struct job_init init;
    struct job_warmstart warmstart;
    struct job_rollout rollout;
    struct job_curriculum curriculum;
    struct job_curation curation;
    struct job_dart dart;
    struct job_guide guide;
    struct job_webrl webrl;
    struct job_replay_ratio replay_ratio;
    struct job_trainer trainer;
    struct job_evaluation evaluation;
    struct job_stop stop;
};

struct job_problem {
    const char *pointer; /* "/trainer/lr" */
    const char *detail;  /* "is 3; allowed: 1e-10 to 1" */
};

struct job_problems {
    struct job_problem rows[JOB_PROBLEMS];
    size_t count; /* further ones are dropped after JOB_PROBLEMS */
};

/* Texts (commands, problems) live in the arena. ERR_malformed: not JSON (one problem with line and column at pointer "");
 * ERR_invalid: problems has at least one row. */
err_t job_parse(struct span json, struct arena *arena, struct job_spec *ret, struct job_problems *ret_problems) MUST_USE;
/* The resolved job as one JSON object, 2-space indented when pretty. */
err_t job_dump(const struct job_spec *spec, bool pretty, struct buf *out) MUST_USE;
/* The JSON Schema (draft 2020-12) of a job file, and docs/job.md's tables, both from job.def. */
err_t job_schema(struct buf *out) MUST_USE;
err_t job_document(struct buf *out) MUST_USE;
/* Applies "trainer.lr=0.001" to a job file's text: the value is JSON, or else a string. ERR_invalid names what is wrong. */
err_t job_override(struct span json, const char *assignment, struct buf *out) MUST_USE;

/* What the job does about a failure: how often it is retried, and what is left out when that was in vain. */
size_t job_retries(const struct job_spec *spec, enum outcome failure);
enum job_mask_of job_mask(const struct job_spec *spec, enum outcome failure);

/* The words the presets' tokenizer must know for this job: those of its built-in environments, in a fixed order. The array
 * lives in the arena. */
err_t job_words(const struct job_spec *spec, struct arena *arena, const char *const **ret, size_t *ret_count) MUST_USE;

#endif
