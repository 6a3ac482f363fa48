/* Groups that come late: trainer.late says whether an update waits for them (and for how long) or another one is drawn. */
#include "services/common/run/log.h"
#include "services/common/store/store_group.h"
#include "services/data/data.h"

/* The bound of the leases, checked on what was played: holds whatever a worker did. */
bool late_is_stale(const struct group *group)
{
    if (!plan_is_for_update(group->source)) return false;
    for (size_t i = 0; i < group->size; i++) {
        const struct slot *slot = &group->slots[i];
        if (slot->state == SLOT_DONE && slot->version_min >= 0 && slot->version_min < group->min_version) return true;
    }
    return false;
}

/* The group counts as nothing, decision `stale`; another one is drawn in its place. Frees the group. */
err_t late_drop(struct data *data, struct group *group, const char *why)
{
    struct plan *plan = data->plan;
    TRY(data_begin(data));
    /* slots of this turn must be rows before they are voided */
    TRY(writes_flush(&data->writes, data->store, plan, &data->arena));
    writes_clear(&data->writes);
    for (size_t i = 0; i < group->size; i++) {
        if (group->slots[i].state == SLOT_LEASED) finish_revoke(data, &group->slots[i]);
    }
    TRY(store_group_drop(data->store, plan->job, group->id));
    TRY(finish_decide(data, "group", group->id, "late", "stale",
                      arena_printf(&data->arena, "{\"update\": %lld, \"done\": %zu, \"size\": %zu, \"why\": \"%s\"}",
                                   (long long)group->update_for, group->done, group->size, why)));
    log_info("group %lld of update %lld is dropped: %s", (long long)group->id, (long long)group->update_for, why);
    TRY(grant_replacement(data, group));
    plan_remove_group(plan, group);
    return ERR_ok;
}

static bool is_waited_for(const struct data *data, int64_t update)
{
    const struct plan *plan = data->plan;
    if (plan_closed_for(plan, update) + 1 < (size_t)plan->spec.trainer.groups_per_update) return false;
    for (size_t i = 0; i < DATA_PEERS; i++) {
        if (data->peers[i].waits && data->peers[i].wanted_update == update) return true;
    }
    return false;
}

/* Its slots end as timeout with the next look at the leases. */
static void end_soon(struct group *group, uint64_t now)
{
    for (size_t i = 0; i < group->size; i++) {
        if (group->slots[i].state == SLOT_LEASED) group->slots[i].deadline_ms = now;
    }
    group->complete_ms = now;
}

/* A group that alone kept the next update waiting for straggler_ms: `wait` ends its open slots and trains the rest, `drop`
 * drops it whole. */
void late_mark(struct data *data)
{
    struct plan *plan = data->plan;
    if (plan->spec.trainer.coupled) return; /* who is slow is not the same twice */
    uint64_t now = data_now_ms(data);
    int64_t next = plan->updates_done + 1;
    bool waited_for = is_waited_for(data, next);
    struct group *late = NULL;
    for (struct group *g = plan->groups; g; g = g->next) {
        if (!plan_is_for_update(g->source) || g->state != GROUP_OPEN || g->update_for != next) continue;
        if (!waited_for)
            g->complete_ms = 0;
        else if (g->complete_ms == 0)
            g->complete_ms = now;
        else if (now - g->complete_ms >= (uint64_t)plan->spec.trainer.straggler_ms)
            late = g;
    }
    if (late && plan->spec.trainer.late == JOB_LATE_DROP)
        data_fail(data, late_drop(data, late, "it kept its update waiting for trainer.straggler_ms"));
    else if (late)
        end_soon(late, now);
}
