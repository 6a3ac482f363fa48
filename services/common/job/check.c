#include "services/common/job/check.h"

#include "env/env.h"
#include "trainer/model/model.h"

#include <stdio.h>

static void check_builtin(struct job_reader *reader, const struct job_environment *env, const char *pointer)
{
    char place[JOB_POINTER_BYTES], names[256] = "";
    const struct env_class *class = env_find(env->name);
    for (size_t i = 0; i < env_count(); i++) {
        size_t n = strlen(names);
        (void)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", env_at(i)->name);
    }
    if (!class) {
        job_place(place, "%s/name", pointer);
        job_problem(reader, place, "is \"%s\"; built-in environments are %s", env->name, names);
        return;
    }
    if (env->command_count) {
        job_place(place, "%s/command", pointer);
        job_problem(reader, place, "is for provider \"process\" only");
    }
    for (size_t i = 0; env->tasks.generates && i < env->tasks.generate.level_count; i++) {
        int64_t level = env->tasks.generate.levels[i];
        struct env_task task;
        job_place(place, "%s/tasks/generate/levels/%zu", pointer, i);
        if (level > class->levels) {
            job_problem(reader, place, "is %lld; %s has levels 1 to %d", (long long)level, class->name, class->levels);
        } else if (class->generate((int32_t)level, 1, env->variant[0] ? env->variant : NULL, &task) != ERR_ok) {
            job_place(place, "%s/variant", pointer);
            job_problem(reader, place, "%s", err_text());
            return;
        }
    }
}

static void check_environment(struct job_reader *reader, const struct job_environment *env, size_t index)
{
    char pointer[JOB_POINTER_BYTES], place[JOB_POINTER_BYTES];
    job_place(pointer, "/environments/%zu", index);
    if (!env->name[0]) {
        job_place(place, "%s/name", pointer);
        job_problem(reader, place, "is missing");
    } else if (env->provider == JOB_PROVIDER_BUILTIN) {
        check_builtin(reader, env, pointer);
    }
    job_place(place, "%s/command", pointer);
    if (env->provider == JOB_PROVIDER_PROCESS && env->command_count == 0)
        job_problem(reader, place, "is missing: provider \"process\" starts this program, e.g. [\"python3\", \"guess.py\"]");
    job_place(place, "%s/tasks/fresh", pointer);
    if (env->tasks.fresh && !env->tasks.generates)
        job_problem(reader, place, "needs `generate`: a file has only its own tasks");
}

static void check_path(struct job_reader *reader, const struct job_spec *spec)
{
    if (spec->init.path[0] != '/')
        job_problem(reader, "/policy/init/path", "is \"%s\"; it must begin with / (`pal submit` makes it so)",
                    spec->init.path);
    if (spec->init.sha256[0] && strspn(spec->init.sha256, "0123456789abcdef") != sizeof spec->init.sha256 - 1)
        job_problem(reader, "/policy/init/sha256", "is not 64 lower-case hex digits");
}

static void check_init(struct job_reader *reader, const struct job_spec *spec)
{
    if (spec->init.path[0]) {
        check_path(reader, spec);
        return;
    }
    if (spec->init.sha256[0]) job_problem(reader, "/policy/init/sha256", "is of policy.init.path, which is missing");
    if (spec->rollout.prompt == JOB_PROMPT_CHAT)
        job_problem(reader, "/rollout/prompt", "is \"chat\"; presets have no chat template, policy.init.path has");

    struct model_config config;
    if (model_preset(spec->init.preset, 256, &config) != ERR_ok) {
        job_problem(reader, "/policy/init/preset", "%s", err_text());
        return;
    }
    if (spec->rollout.max_context > config.max_positions)
        job_problem(reader, "/rollout/max_context", "is %lld; preset %s has %d positions",
                    (long long)spec->rollout.max_context, spec->init.preset, config.max_positions);
}

static void check_trainer(struct job_reader *reader, const struct job_spec *spec)
{
    const struct job_trainer *t = &spec->trainer;
    if (t->old_policy == JOB_OLD_POLICY_BEHAVE && t->importance.mode != JOB_IMPORTANCE_OFF)
        job_problem(reader, "/trainer/importance/mode",
                    "must be \"off\" with old_policy \"behave\": the ratio already starts from the recorded log-probs");
    if (t->minibatches > t->groups_per_update)
        job_problem(reader, "/trainer/minibatches", "is %lld; there are only %lld groups per update",
                    (long long)t->minibatches, (long long)t->groups_per_update);
    if (t->tokens_per_microbatch < spec->rollout.max_context)
        job_problem(reader, "/trainer/tokens_per_microbatch", "is %lld; the longest episode (rollout.max_context) has %lld",
                    (long long)t->tokens_per_microbatch, (long long)spec->rollout.max_context);
}

/* What draws groups in the order in which others close, which is not the same twice. */
static void check_coupled(struct job_reader *reader, const struct job_spec *spec)
{
    const struct {
        bool asked;
        const char *pointer, *instead;
    } rows[] = {
        {spec->trainer.late == JOB_LATE_DROP, "/trainer/late", "\"wait\""},
        {spec->curation.refill, "/curation/refill", "false"},
        {spec->curriculum.kind != JOB_CURRICULUM_UNIFORM, "/curriculum/kind", "\"uniform\""},
        {spec->dart.on, "/curation/dart", "null"},
        {spec->guide.on, "/curation/guide", "null"},
        {spec->webrl.on, "/curation/webrl", "null"},
    };
    for (size_t i = 0; spec->trainer.coupled && i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].asked)
            job_problem(reader, rows[i].pointer,
                        "must be %s with trainer.coupled: what it draws depends on which group closes first",
                        rows[i].instead);
    }
}

static void check_shares(struct job_reader *reader, const struct job_spec *spec)
{
    double weights = 0, demonstrate = 0;
    for (size_t i = 0; i < spec->environment_count; i++) {
        weights += spec->environments[i].weight;
        demonstrate += spec->environments[i].demonstrate;
    }
    if (spec->trainer.updates > 0 && !(weights > 0))
        job_problem(reader, "/environments", "have no `weight` above 0: there is nothing to train on");
    if (spec->warmstart.on && !(demonstrate > 0))
        job_problem(reader, "/environments", "have no `demonstrate` above 0, which policy.warmstart needs");
}

static void check_evaluation(struct job_reader *reader, const struct job_spec *spec)
{
    int64_t holdout = 0;
    for (size_t i = 0; i < spec->environment_count; i++) holdout += spec->environments[i].tasks.holdout;
    if (spec->evaluation.episodes > 0 && holdout == 0)
        job_problem(reader, "/evaluation/episodes", "is %lld, but no environment has held-out tasks (tasks.holdout)",
                    (long long)spec->evaluation.episodes);
    if (spec->evaluation.episodes == 0 && spec->stop.holdout_success <= 1)
        job_problem(reader, "/stop/holdout_success", "needs evaluations: evaluation.episodes is 0");
    if (spec->trainer.updates == 0 && spec->evaluation.episodes == 0)
        job_problem(reader, "/trainer/updates", "is 0 and evaluation.episodes is 0: there is nothing to do");
}

void job_check(struct job_reader *reader, const struct job_spec *spec)
{
    for (size_t i = 0; i < spec->environment_count; i++) check_environment(reader, &spec->environments[i], i);
    check_init(reader, spec);
    check_trainer(reader, spec);
    check_coupled(reader, spec);
    check_shares(reader, spec);
    check_evaluation(reader, spec);
    job_check_methods(reader, spec);
    if (spec->rollout.max_new_tokens >= spec->rollout.max_context)
        job_problem(reader, "/rollout/max_new_tokens", "is %lld; an episode has at most %lld tokens (max_context)",
                    (long long)spec->rollout.max_new_tokens, (long long)spec->rollout.max_context);
}
