/* What submission says about policy.init.path. */
#include "services/common/origin/origin.h"

#include <stdio.h>

static err_t add(struct arena *arena, struct job_problems *problems, const char *pointer, const char *detail)
{
    const char *kept = arena_text(arena, span_text(detail));
    if (!kept) return ERR_memory;
    if (problems->count < JOB_PROBLEMS) problems->rows[problems->count++] = (struct job_problem){pointer, kept};
    return err_set(ERR_invalid, "%s %s", pointer, kept);
}

static err_t check_fit(const struct job_spec *spec, const struct origin *o, struct arena *arena,
                       struct job_problems *problems)
{
    char detail[160];
    if (spec->rollout.max_context <= o->model.max_positions) return ERR_ok;
    (void)snprintf(detail, sizeof detail, "is %lld; the model in policy.init.path has %d positions",
                   (long long)spec->rollout.max_context, o->model.max_positions);
    return add(arena, problems, "/rollout/max_context", detail);
}

err_t origin_check(struct job_spec *spec, struct arena *arena, struct job_problems *problems)
{
    AUTO(origin) origin = {0};
    if (!spec->init.path[0]) return ERR_ok;
    struct job_spec raw = *spec; /* the template's problems are another key's */
    raw.rollout.prompt = JOB_PROMPT_RAW;
    err_t err = origin_open(&raw, &origin);
    if (err == ERR_memory) return err;
    const char *pointer = err == ERR_conflict ? "/policy/init/sha256" : "/policy/init/path";
    if (err != ERR_ok) return add(arena, problems, pointer, err_text());
    (void)snprintf(spec->init.sha256, sizeof spec->init.sha256, "%s", origin.folder.sha256.hex);
    if (spec->rollout.prompt == JOB_PROMPT_CHAT && origin_add_chat(&origin) != ERR_ok)
        return add(arena, problems, "/rollout/prompt", err_text());
    return check_fit(spec, &origin, arena, problems);
}
