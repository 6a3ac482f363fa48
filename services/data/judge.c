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
        advantage = arena_array(&data->arena, double, group->size);
        if (!advantage) return ERR_memory;
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
                                          .advantage_count = group->size,
                                          .pool = -1};
    bool good = true;
    WRITES_ADD(data->writes.closes, row, good);
    return good ? ERR_ok : ERR_memory;
}

void judge_members(const struct plan *plan, struct group *group)
{
    for (size_t i = 0; i < group->size; i++) group->slots[i].member = group->slots[i].state == SLOT_DONE;
    if (group->plain) guide_mix(plan, group);
}

/* The members of a group, of those that it holds too, in order; ret has room for all their slots. */
static size_t list_members(struct group *group, struct slot **ret)
{
    size_t n = 0;
    struct group *const both[] = {group, group->plain};
    for (size_t g = 0; g < 2 && both[g]; g++) {
        for (size_t i = 0; i < both[g]->size; i++) {
            if (both[g]->slots[i].member) ret[n++] = &both[g]->slots[i];
        }
    }
    return n;
}

bool judge_varies(const struct group *group)
{
    const struct slot *first = NULL;
    const struct group *const both[] = {group, group->plain};
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

err_t judge_group(struct data *data, struct group *group)
{
    struct plan *plan = data->plan;
    size_t most = group->size + (group->plain ? group->plain->size : 0);
    struct slot **members = arena_array(&data->arena, struct slot *, most);
    double *rewards = arena_array(&data->arena, double, 2 * most);
    if (!members || !rewards) return ERR_memory;
    double *advantage = rewards + most, sum = 0;
    size_t n = list_members(group, members);
    for (size_t i = 0; i < n; i++) sum += rewards[i] = members[i]->reward;
    enum advantage rule = rule_of(plan, members, n);
    group->signal = advantage_compute(rule, rewards, n, advantage) || judge_by_value(&plan->spec);
    for (size_t i = 0; i < n; i++) members[i]->advantage = advantage[i];
    TRY(judge_close(data, group, "closed", group->signal ? "signal" : "no_signal"));
    if (group->plain) TRY(guide_share(data, group));
    const char *inputs = arena_printf(&data->arena, "{\"task\": %lld, \"update\": %lld, \"done\": %zu, \"reward_sum\": %.9g}",
                                      (long long)plan->tasks[group->task].id, (long long)group->update_for, n, sum);
    return finish_decide(data, "group", group->id, advantage_name(rule), group->signal ? "signal" : "no_signal", inputs);
}
