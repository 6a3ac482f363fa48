/* Combinations of the methods that make no sense. */
#include "services/common/job/check.h"

#include "env/env.h"

#include <stdlib.h>
#include <string.h>

static void check_replay_ratio(struct job_reader *reader, const struct job_spec *spec)
{
    const struct job_replay_ratio *r = &spec->replay_ratio;
    if (!r->on) return;
    if (spec->trainer.epochs != 1)
        job_problem(reader, "/trainer/epochs",
                    "is %lld; must be 1 with curation.replay_ratio, which says how many passes an update makes",
                    (long long)spec->trainer.epochs);
    if (r->low > r->high)
        job_problem(reader, "/curation/replay_ratio/low", "is %g, which is above high (%g)", r->low, r->high);
}

/* Does one of its tasks have a hint, as far as can be known here? */
static bool may_hint(const struct job_environment *env)
{
    const struct env_class *class = env->provider == JOB_PROVIDER_BUILTIN ? env_find(env->name) : NULL;
    if (!class) return !env->tasks.generates;
    void *state = aligned_alloc(64, (class->state_bytes + 63) / 64 * 64);
    bool some = !env->tasks.generates;
    for (size_t i = 0; state && !some && i < env->tasks.generate.level_count; i++) {
        struct env_task task;
        struct env_obs obs;
        char hint[ENV_HINT_BYTES] = "";
        memset(state, 0, class->state_bytes);
        const char *variant = env->variant[0] ? env->variant : NULL;
        if (class->generate((int32_t)env->tasks.generate.levels[i], 1, variant, &task) == ERR_ok &&
            class->reset(state, span_text(task.text), 0, &obs) == ERR_ok)
            class->hint(state, hint);
        some = hint[0] != 0;
    }
    free(state);
    return some;
}

static void check_guide(struct job_reader *reader, const struct job_spec *spec)
{
    const struct job_guide *g = &spec->guide;
    if (!g->on) return;
    if (!strstr(g->template, "{hint}"))
        job_problem(reader, "/curation/guide/template", "has no {hint}, the place of the task's hint");
    bool some = g->file[0] != 0;
    for (size_t i = 0; i < spec->environment_count; i++)
        some |= spec->environments[i].weight > 0 && may_hint(&spec->environments[i]);
    if (!some)
        job_problem(reader, "/curation/guide",
                    "has no source of hints: no environment that is trained on gives any; name a file of hints (guide.file,"
                    " or tasks.file with \"hint\")");
}

/* A task must come back: to be ranked, to have failed, to be replayed. */
static void refuse_fresh(struct job_reader *reader, const struct job_spec *spec, const char *method)
{
    for (size_t i = 0; i < spec->environment_count; i++) {
        char place[JOB_POINTER_BYTES];
        job_place(place, "/environments/%zu/tasks/fresh", i);
        if (spec->environments[i].tasks.fresh)
            job_problem(reader, place, "must be false with %s: its tasks have to come back", method);
    }
}

static void check_gain_rl(struct job_reader *reader, const struct job_spec *spec)
{
    if (spec->curriculum.kind == JOB_CURRICULUM_GAIN_RL) refuse_fresh(reader, spec, "curriculum \"gain-rl\"");
}

static void check_webrl(struct job_reader *reader, const struct job_spec *spec)
{
    const struct job_webrl *w = &spec->webrl;
    if (!w->on) return;
    refuse_fresh(reader, spec, "curation.webrl");
    for (size_t i = 0; i < spec->environment_count; i++) {
        char place[JOB_POINTER_BYTES];
        job_place(place, "/environments/%zu/provider", i);
        if (spec->environments[i].provider == JOB_PROVIDER_PROCESS && spec->environments[i].weight > 0)
            job_problem(reader, place,
                        "must be \"builtin\" with curation.webrl, which makes new tasks with the environment's mutate"
                        " (or give it weight 0)");
    }
    if (w->value_low > w->value_high)
        job_problem(reader, "/curation/webrl/value_low", "is %g, which is above value_high (%g)", w->value_low,
                    w->value_high);
    if (w->replay_low > w->replay_high)
        job_problem(reader, "/curation/webrl/replay_low", "is %g, which is above replay_high (%g)", w->replay_low,
                    w->replay_high);
}

static void check_dart(struct job_reader *reader, const struct job_spec *spec)
{
    const struct job_dart *d = &spec->dart;
    if (!d->on) return;
    refuse_fresh(reader, spec, "curation.dart");
    if (d->count && d->count_min > spec->rollout.group_size)
        job_problem(reader, "/curation/dart/count_min", "is %lld; a group has at most %lld episodes (rollout.group_size)",
                    (long long)d->count_min, (long long)spec->rollout.group_size);
    if (d->pool_file[0] && d->pool == JOB_POOL_OFF)
        job_problem(reader, "/curation/dart/pool_file", "needs a pool: curation.dart.pool is \"off\"");
}

static void check_rates(struct job_reader *reader, const struct job_spec *spec)
{
    const struct job_curriculum *c = &spec->curriculum;
    if (c->kind != JOB_CURRICULUM_SUCCESS_BAND && c->kind != JOB_CURRICULUM_ADCL) return;
    refuse_fresh(reader, spec, c->kind == JOB_CURRICULUM_ADCL ? "curriculum \"adcl\"" : "curriculum \"success-band\"");
    if (c->kind == JOB_CURRICULUM_SUCCESS_BAND && c->low > c->high)
        job_problem(reader, "/curriculum/low", "is %g, which is above high (%g)", c->low, c->high);
}

/* What a loss does not read may not be asked for. */
static void check_loss(struct job_reader *reader, const struct job_spec *spec)
{
    const struct job_trainer *t = &spec->trainer;
    bool by_value = t->loss == JOB_LOSS_PPO || t->loss == JOB_LOSS_WEBRL;
    if (t->loss == JOB_LOSS_WEBRL && t->importance.mode != JOB_IMPORTANCE_OFF)
        job_problem(reader, "/trainer/importance/mode",
                    "must be \"off\" with loss \"webrl\": a regression has no ratio to correct");
    if (by_value && spec->guide.on && spec->guide.positive_only)
        job_problem(reader, "/curation/guide/positive_only",
                    "must be false with loss \"%s\", whose advantages are by turn, not by episode",
                    t->loss == JOB_LOSS_PPO ? "ppo" : "webrl");
    if (by_value && spec->dart.on && spec->dart.advantage_over == JOB_ADVANTAGE_OVER_STEP)
        job_problem(reader, "/curation/dart/advantage_over",
                    "must be \"episode\" with loss \"%s\", which makes its advantages from the value head",
                    t->loss == JOB_LOSS_PPO ? "ppo" : "webrl");
}

void job_check_methods(struct job_reader *reader, const struct job_spec *spec)
{
    check_gain_rl(reader, spec);
    check_webrl(reader, spec);
    check_replay_ratio(reader, spec);
    check_guide(reader, spec);
    check_dart(reader, spec);
    check_rates(reader, spec);
    check_loss(reader, spec);
}
