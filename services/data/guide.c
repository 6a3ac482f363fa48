/* Guide (docs/methods.md): groups that failed are played again with their task's hint. */
#include "curation/admission.h"
#include "curation/hint.h"
#include "services/data/data.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

err_t guide_hint(struct data *data, const struct plan_task *task, struct span *ret)
{
    AUTO(buf) text = {0};
    TRY(hint_render(span_text(data->plan->spec.guide.template), span_text(task->hint), &text));
    const char *kept = arena_text(&data->arena, buf_span(&text));
    if (!kept) return ERR_memory;
    *ret = span_text(kept);
    return ERR_ok;
}

void guide_balance(const struct plan *plan, struct group *group)
{
    const struct job_guide *guide = &plan->spec.guide;
    if (!guide->on || guide->mode != JOB_GUIDE_BALANCED || !*plan->tasks[group->task].hint) return;
    for (size_t i = 1; i < group->size; i += 2) group->slots[i].hinted = true;
}

static double mean_reward(const struct group *group)
{
    double sum = 0;
    for (size_t i = 0; i < group->size; i++) {
        if (group->slots[i].state == SLOT_DONE) sum += group->slots[i].reward;
    }
    return group->done ? sum / (double)group->done : 0;
}

bool guide_wants(const struct plan *plan, const struct group *group)
{
    const struct job_guide *guide = &plan->spec.guide;
    return guide->on && guide->mode != JOB_GUIDE_BALANCED && group->source == GROUP_FRESH && *plan->tasks[group->task].hint &&
           hint_wanted(mean_reward(group), guide->threshold);
}

/* Why the group is played again, and with what. */
static err_t decide(struct data *data, const struct group *plain, const struct group *hinted)
{
    const struct plan_task *task = &data->plan->tasks[plain->task];
    json_t *inputs = json_pack("{s:I, s:I, s:f, s:f, s:s, s:I}", "task", (json_int_t)task->id, "update",
                               (json_int_t)plain->update_for, "mean", mean_reward(plain), "threshold",
                               data->plan->spec.guide.threshold, "hint", task->hint, "group", (json_int_t)hinted->id);
    char *text = json_dumps(inputs, JSON_COMPACT | JSON_REAL_PRECISION(9));
    const char *kept = text ? arena_text(&data->arena, span_text(text)) : NULL;
    free(text);
    json_decref(inputs);
    return finish_decide(data, "group", plain->id, "guide", "hinted", kept);
}

err_t guide_again(struct data *data, struct group *plain)
{
    struct plan *plan = data->plan;
    struct group *hinted = NULL;
    TRY(judge_close(data, plain, "closed", "hinted"));
    TRY(plan_add_group(plan, &hinted, GROUP_HINTED, plain->task, plain->size));
    for (size_t i = 0; i < hinted->size; i++) hinted->slots[i].hinted = true;
    hinted->update_for = plain->update_for;
    hinted->min_version = admission_min_version(plain->update_for, plan->spec.trainer.max_staleness, plan->version);
    hinted->replaces = plain->id;
    hinted->refills = plain->refills;
    hinted->max_steps = plain->max_steps;
    hinted->phase = plain->phase;
    TRY(decide(data, plain, hinted));
    if (plan->spec.guide.mode != JOB_GUIDE_MIXIN) plan_drop_payloads(plan, plain);
    plan_hold_group(plan, plain, hinted);
    return grant_note(data, hinted);
}

void guide_mix(const struct plan *plan, struct group *group)
{
    struct group *plain = group->plain;
    if (plan->spec.guide.mode != JOB_GUIDE_MIXIN) return;
    size_t kept = 0;
    for (size_t i = 0; i < group->size; i++) {
        struct slot *slot = &group->slots[i];
        slot->member = slot->state == SLOT_DONE && slot->reward >= 0.5;
        kept += slot->member;
    }
    for (size_t i = 0; i < plain->size && kept < group->size; i++) {
        plain->slots[i].member = plain->slots[i].state == SLOT_DONE;
        kept += plain->slots[i].member;
    }
}

err_t guide_share(struct data *data, const struct group *group)
{
    const struct group *plain = group->plain;
    if (data->plan->spec.guide.mode != JOB_GUIDE_MIXIN) return ERR_ok;
    double *advantage = arena_array(&data->arena, double, plain->size);
    if (!advantage) return ERR_memory;
    for (size_t i = 0; i < plain->size; i++) advantage[i] = plain->slots[i].member ? plain->slots[i].advantage : (double)NAN;
    TRY(data_begin(data));
    return store_group_share(data->store, data->plan->job, plain->id, advantage, plain->size);
}
