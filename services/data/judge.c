/* What the episodes of a closed group are worth: its members, their advantages, and why. */
#include "curation/advantage.h"
#include "services/common/store/store_group.h"
#include "services/data/data.h"

#include <math.h>

err_t judge_close(struct data *data, struct group *group, const char *state, const char *verdict)
{
    double sum = 0, *advantage = NULL;
    bool judged = strcmp(verdict, "signal") == 0 || strcmp(verdict, "no_signal") == 0;
    if (judged) {
        advantage = arena_array(&data->arena, double, group->size + 1);
        if (!advantage) return ERR_memory;
        advantage[group->size] = group->pool_advantage;
    }
    for (size_t i = 0; i < group->size; i++) {
        const struct slot *slot = &group->slots[i];
        if (slot->state == SLOT_DONE) sum += slot->reward;
        if (advantage) advantage[i] = slot->member ? slot->advantage : (double)NAN;
    }
    const struct store_group_close row = {.id = group->id,
                                          .state = state,
                                          .verdict = verdict,
                                          .done = (int64_t)group->done,
                                          .reward_sum = sum,
                                          .advantage = advantage,
                                          .advantage_count = group->size + (group->pool >= 0),
                                          .pool = judged ? group->pool : -1};
    bool good = true;
    WRITES_ADD(data->writes.closes, row, good);
    return good ? ERR_ok : ERR_memory;
}

void judge_members(const struct plan *plan, struct group *group)
{
    for (size_t i = 0; i < group->size; i++) group->slots[i].member = group->slots[i].state == SLOT_DONE;
    if (group->plain) guide_mix(plan, group);
    if (plan->spec.rollout.mask.truncated == JOB_MASK_TRUNCATED_NONE || !plan_is_for_update(group->source)) return;
    struct group *const both[] = {group, group->plain};
    for (size_t g = 0; g < 2 && both[g]; g++) {
        for (size_t i = 0; i < both[g]->size; i++)
            if (both[g]->slots[i].outcome == OUTCOME_truncated) both[g]->slots[i].member = false;
    }
}

err_t judge_list(struct data *data, struct group *group, struct slot ***ret, size_t *ret_count)
{
    size_t n = 0;
    struct group *const both[] = {group, group->plain};
    struct slot **members = arena_array(&data->arena, struct slot *, group->size + (group->plain ? group->plain->size : 0));
    if (!members) return ERR_memory;
    for (size_t g = 0; g < 2 && both[g]; g++) {
        for (size_t i = 0; i < both[g]->size; i++) {
            if (both[g]->slots[i].member) members[n++] = &both[g]->slots[i];
        }
    }
    *ret = members;
    *ret_count = n;
    return ERR_ok;
}

bool judge_varies(const struct group *group)
{
    const struct slot *first = NULL;
    const struct group *const both[] = {group, group->plain};
    if (group->pool >= 0) return true; /* a success among failures */
    for (size_t g = 0; g < 2 && both[g]; g++) {
        for (size_t i = 0; i < both[g]->size; i++) {
            const struct slot *slot = &both[g]->slots[i];
            if (!slot->member) continue;
            if (first && fabs(slot->reward - first->reward) > ADVANTAGE_EQUAL) return true;
            first = slot;
        }
    }
    return false;
}

bool judge_by_value(const struct job_spec *spec)
{
    return spec->trainer.loss == JOB_LOSS_PPO || spec->trainer.loss == JOB_LOSS_WEBRL;
}

/* Groups with hinted members have a rule of their own. */
static enum advantage rule_of(const struct plan *plan, struct slot *const *members, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (members[i]->hinted) return (enum advantage)plan->spec.guide.advantage;
    }
    return (enum advantage)plan->spec.trainer.advantage;
}

/* The members' advantages, and that of the episode from the pool, which comes last. */
static err_t compute(struct data *data, struct group *group, enum advantage rule, struct slot *const *members, size_t n)
{
    const struct job_dart *dart = &data->plan->spec.dart;
    size_t count = n + (group->pool >= 0), samples = 0;
    double *rewards = arena_array(&data->arena, double, 2 * (n + 1)), *advantage = rewards + n + 1;
    int64_t *steps = arena_array(&data->arena, int64_t, n + 1);
    if (!rewards || !steps) return ERR_memory;
    for (size_t i = 0; i < n; i++) {
        rewards[i] = members[i]->reward;
        steps[i] = members[i]->steps;
    }
    rewards[n] = group->pool_reward;
    steps[n] = group->pool_steps;
    for (size_t i = 0; i < count; i++) samples += (size_t)(steps[i] > 1 ? steps[i] : 1);
    double *scratch = arena_array(&data->arena, double, samples + 1);
    if (!scratch) return ERR_memory;
    group->signal = dart->on && dart->advantage_over == JOB_ADVANTAGE_OVER_STEP
                        ? advantage_over_steps(rule, rewards, steps, count, scratch, advantage)
                        : advantage_compute(rule, rewards, count, advantage);
    for (size_t i = 0; i < n; i++) members[i]->advantage = advantage[i];
    group->pool_advantage = advantage[n];
    return ERR_ok;
}

err_t judge_group(struct data *data, struct group *group)
{
    struct plan *plan = data->plan;
    struct slot **members = NULL;
    size_t n = 0;
    double sum = 0;
    TRY(judge_list(data, group, &members, &n));
    enum advantage rule = rule_of(plan, members, n);
    TRY(compute(data, group, rule, members, n));
    TRY(dart_select(data, group, members, n, true));
    for (size_t i = 0; i < n; i++) sum += members[i]->reward;
    if (group->pool >= 0) sum += group->pool_reward;
    group->signal = group->signal || judge_by_value(&plan->spec);
    TRY(judge_close(data, group, "closed", group->signal ? "signal" : "no_signal"));
    if (group->plain) TRY(guide_share(data, group));
    const char *inputs =
        arena_printf(&data->arena, "{\"task\": %lld, \"update\": %lld, \"done\": %zu, \"reward_sum\": %.9g}",
                     (long long)plan->tasks[group->task].id, (long long)group->update_for, n + (group->pool >= 0), sum);
    return finish_decide(data, "group", group->id, advantage_name(rule), group->signal ? "signal" : "no_signal", inputs);
}
