/* The mirror of the job on stage, read back from the ledger after a start or a lost turn: whatever a decision depends on
 * follows from rows, so that it is the same with and without the death in between. */
#include "services/common/run/log.h"
#include "services/common/store/store_job.h"
#include "services/common/store/store_policy.h"
#include "services/data/data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static err_t load_turns(struct slot *slot, const struct store_episode *e)
{
    if (e->turns == 0 || e->turns_told != e->turns) return ERR_ok;
    slot->turn = calloc(e->turns, sizeof *slot->turn);
    if (!slot->turn) return err_set(ERR_memory, "%zu turns", e->turns);
    slot->turn_count = e->turns;
    for (size_t i = 0; i < e->turns; i++)
        slot->turn[i] = (struct slot_turn){e->turn_entropy[i], (int64_t)e->turn_tokens[i], false};
    return ERR_ok;
}

static err_t load_slot(struct data *data, const struct store_group *row, const struct store_episode *e, struct slot *slot)
{
    static const struct {
        const char *name;
        enum slot_state state;
    } states[] = {{"leased", SLOT_LEASED}, {"done", SLOT_DONE}, {"void", SLOT_VOID}};
    if (e->id != slot->episode) return err_set(ERR_conflict, "episode %lld is not where it should be", (long long)e->id);
    slot->written = true;
    slot->attempt = e->attempt;
    slot->token = e->token;
    slot->hinted = e->hinted;
    (void)outcome_find(span_text(e->outcome), &slot->outcome);
    slot->reward = e->reward;
    slot->steps = e->steps;
    slot->prompt_tokens = e->prompt_tokens;
    slot->action_tokens = e->action_tokens;
    slot->version_min = e->version_min;
    for (size_t i = 0; i < e->turns_told; i++) slot->turns += e->turn_tokens[i] > 0;
    if (e->turns_told == 0) slot->turns = (uint64_t)e->steps;
    (void)snprintf(slot->worker, sizeof slot->worker, "%s", e->worker);
    for (size_t f = 0; f < e->failure_count; f++) {
        enum outcome outcome;
        if (outcome_find(e->failures[f], &outcome)) slot->failures[outcome]++;
    }
    slot->deadline_ms = data_now_ms(data) + 60000;
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        if (strcmp(e->state, states[i].name) == 0) slot->state = states[i].state;
    }
    if (dart_selects(data->plan) && plan_is_for_update(slot->group->source)) TRY(load_turns(slot, e));
    size_t k = (size_t)slot->index;
    if (k < row->advantage_count && !isnan(row->advantage[k])) {
        slot->member = true;
        slot->advantage = row->advantage[k];
    }
    if (strcmp(row->verdict, "measured") == 0) slot->member = slot->state == SLOT_DONE; /* demonstrations */
    slot->group->done += slot->state == SLOT_DONE;
    slot->group->voided += slot->state == SLOT_VOID;
    return ERR_ok;
}

static err_t load_group(struct data *data, struct plan *plan, const struct store_group *row,
                        const struct store_episode *episodes, size_t count)
{
    struct group *group = NULL;
    enum group_source source = GROUP_FRESH;
    int64_t next_group = plan->next_group, next_episode = plan->next_episode;
    if ((size_t)row->size > count) return err_set(ERR_conflict, "group %lld lacks slots", (long long)row->id);
    if (!plan_source_find(row->source, &source))
        return err_set(ERR_conflict, "group %lld is of source %s", (long long)row->id, row->source);
    plan->next_group = row->id;
    plan->next_episode = episodes[0].id; /* a group's episodes are numbered in a row */
    TRY(plan_add_group(plan, &group, source, (size_t)row->task, (size_t)row->size));
    plan->next_group = next_group;
    plan->next_episode = next_episode;
    group->update_for = row->update_for;
    group->pin_version = row->pin_version;
    group->min_version = row->min_version;
    group->replaces = row->replaces;
    group->refills = (int)row->refills;
    group->phase = row->phase;
    group->of_episode = row->of_episode;
    group->max_steps = episodes[0].max_steps;
    group->state = strcmp(row->state, "open") == 0 ? GROUP_OPEN : GROUP_CLOSED;
    group->signal = strcmp(row->verdict, "signal") == 0;
    group->replaced = strcmp(row->verdict, "hinted") == 0;
    group->pool = row->pool;
    if (group->pool >= 0 && row->advantage_count > group->size) group->pool_advantage = row->advantage[group->size];
    if (source == GROUP_IMPORT && !(group->script = strdup(episodes[0].script))) return err_set(ERR_memory, "a script");
    for (size_t k = 0; k < group->size; k++) TRY(load_slot(data, row, &episodes[k], &group->slots[k]));
    return ERR_ok;
}

/* Groups that failed are held by the hinted ones in their places; without one they have no use any more. */
static void hold_replaced(struct plan *plan)
{
    for (struct group *g = plan->groups, *next; g; g = next) {
        next = g->next;
        if (!g->replaced) continue;
        struct group *hinted = plan->groups;
        while (hinted && (hinted->source != GROUP_HINTED || hinted->replaces != g->id)) hinted = hinted->next;
        if (hinted)
            plan_hold_group(plan, g, hinted);
        else
            plan_remove_group(plan, g);
    }
}

static err_t load_slots(struct data *data, struct plan *plan, const struct store_group *rows, size_t count)
{
    int64_t *ids = arena_array(&data->arena, int64_t, count + 1);
    if (!ids) return ERR_memory;
    for (size_t i = 0; i < count; i++) ids[i] = rows[i].id;
    struct store_episode *episodes = NULL;
    size_t episode_count = 0, at = 0;
    TRY(store_episode_list(data->store, plan->job, ids, count, &data->arena, &episodes, &episode_count));
    for (size_t i = 0; i < count; at += (size_t)rows[i++].size)
        TRY(load_group(data, plan, &rows[i], episodes + at, episode_count - at));
    hold_replaced(plan);
    for (struct group *g = plan->groups; g; g = g->next) { /* as at their close */
        struct slot **members = NULL;
        size_t n = 0;
        if (!plan_is_for_update(g->source) || g->state != GROUP_CLOSED) continue;
        TRY(judge_list(data, g, &members, &n));
        TRY(dart_select(data, g, members, n, false));
    }
    return ERR_ok;
}

/* Rebuilds the queues: plan_add_group queued every slot, but only pending ones belong there. */
static void requeue(struct plan *plan)
{
    for (int source = 0; source < GROUP_SOURCES; source++) {
        struct queue *queue = &plan->pending[source];
        struct slot *slot = queue->first;
        *queue = (struct queue){0};
        while (slot) {
            struct slot *next = slot->next_pending;
            slot->next_pending = NULL;
            if (slot->state == SLOT_PENDING) plan_queue(plan, slot, false);
            slot = next;
        }
    }
}

/* Leases of workers that are not here end soon, unless they say hello again. */
static void adopt_leases(struct data *data)
{
    for (struct group *g = data->plan->groups; g; g = g->next) {
        for (size_t i = 0; i < g->size; i++) {
            struct slot *slot = &g->slots[i];
            if (slot->state == SLOT_LEASED && !data_peer(data, slot->worker))
                slot->deadline_ms = data_now_ms(data) + DATA_SILENT_MS;
        }
    }
}

static err_t load_weights(struct data *data, const struct plan *plan, struct evaluation *evaluation)
{
    struct store_policy row;
    err_t err = store_policy_of_version(data->store, plan->job, evaluation->version, &data->arena, &row);
    if (err == ERR_not_found) return ERR_ok;
    TRY(err);
    struct published *weights = &evaluation->weights;
    *weights = (struct published){.lineage = row.lineage, .version = row.version};
    (void)snprintf(weights->digest, sizeof weights->digest, "%s", row.digest);
    (void)snprintf(weights->where, sizeof weights->where, "%s", row.where);
    return ERR_ok;
}

static err_t load_evaluations(struct data *data, struct plan *plan)
{
    struct store_open_evaluation *rows = NULL;
    size_t count = 0;
    TRY(store_evaluation_open(data->store, plan->job, &data->arena, &rows, &count));
    for (size_t i = 0; i < count; i++) {
        struct evaluation *e = calloc(1, sizeof *e);
        if (!e) return err_set(ERR_memory, "an evaluation");
        struct store_level *levels = NULL;
        size_t n = 0;
        *e = (struct evaluation){.next = plan->evaluations,
                                 .lineage = rows[i].lineage,
                                 .version = rows[i].version,
                                 .episodes = (size_t)rows[i].episodes};
        plan->evaluations = e;
        TRY(load_weights(data, plan, e));
        TRY(store_evaluation_levels(data->store, plan->job, e->lineage, e->version, &data->arena, &levels, &n));
        for (size_t k = 0; k < n; k++) {
            e->done += (size_t)levels[k].done;
            e->successes += (size_t)levels[k].successes;
        }
        for (struct group *g = plan->groups; g; g = g->next)
            e->open += g->source == GROUP_EVALUATION && g->pin_version == e->version && g->state == GROUP_OPEN;
    }
    struct store_evaluation newest;
    err_t err = store_evaluation_newest(data->store, plan->job, plan->version, &newest);
    if (err == ERR_not_found) return ERR_ok;
    TRY(err);
    plan->last_evaluated = newest.version;
    plan->last_success = newest.done ? (double)newest.successes / (double)newest.done : 0;
    return ERR_ok;
}

static err_t load_policy(struct data *data, struct plan *plan)
{
    struct store_checkpoint checkpoint;
    struct store_policy newest;
    err_t err = store_policy_checkpoint(data->store, plan->job, plan->lineage, &data->arena, &checkpoint);
    if (err == ERR_ok) {
        plan->checkpoint_version = plan->resume_version = checkpoint.version;
        plan->checkpoint_update = checkpoint.update;
        (void)snprintf(plan->resume_path, sizeof plan->resume_path, "%s", checkpoint.path);
        (void)snprintf(plan->resume_sha256, sizeof plan->resume_sha256, "%s", checkpoint.sha256);
    } else if (err != ERR_not_found) {
        return err;
    }
    err = store_policy_newest(data->store, plan->job, plan->lineage, "policy", &data->arena, &newest);
    if (err == ERR_not_found) return ERR_ok;
    TRY(err);
    plan->published = newest.version;
    (void)snprintf(plan->published_digest, sizeof plan->published_digest, "%s", newest.digest);
    (void)snprintf(plan->published_where, sizeof plan->published_where, "%s", newest.where);
    return ERR_ok;
}

static err_t load_groups(struct data *data, struct plan *plan)
{
    struct store_group_counts counts;
    struct store_group *groups = NULL;
    size_t count = 0;
    uint64_t drawn[JOB_ENVIRONMENTS];
    TRY(store_group_counts(data->store, plan->job, &counts));
    plan->next_group = counts.next_group;
    plan->next_episode = counts.next_episode;
    plan->next_token = counts.next_token;
    plan->fresh = counts.fresh;
    plan->replacements = counts.replacements;
    plan->demonstrations = counts.demonstrations;
    plan->tokens_spent = counts.tokens;
    TRY(store_group_drawn(data->store, plan->job, drawn, plan->spec.environment_count));
    for (size_t i = 0; i < plan->spec.environment_count; i++) plan->draws[i].drawn = drawn[i];
    TRY(store_group_list(data->store, plan->job, plan->updates_done, &data->arena, &groups, &count));
    TRY(load_slots(data, plan, groups, count));
    requeue(plan);
    for (struct group *g = plan->groups; g; g = g->next)
        plan->demonstrations_open += g->source == GROUP_DEMONSTRATION && g->state == GROUP_OPEN;
    return ERR_ok;
}

/* What counts in a row, and whether nothing more is handed out. The trainer was told so before, or asks again. */
static err_t load_streaks(struct data *data, struct plan *plan)
{
    struct store_void_streak *streaks = NULL;
    size_t count = 0;
    TRY(store_group_void_streaks(data->store, plan->job, &data->arena, &streaks, &count));
    for (size_t i = 0; i < count; i++) {
        if (streaks[i].task < 0 || (size_t)streaks[i].task >= plan->task_count) continue;
        plan->tasks[streaks[i].task].void_streak = (uint8_t)(streaks[i].groups < UINT8_MAX ? streaks[i].groups : UINT8_MAX);
    }
    TRY(batch_load_ending(data));
    plan->end_said = plan->ending != NULL;
    return ERR_ok;
}

static err_t load(struct data *data)
{
    struct store_job row;
    err_t err = store_job_current(data->store, false, &data->arena, &row);
    if (err == ERR_not_found) return ERR_ok;
    TRY(err);
    if (strcmp(row.state, "starting") == 0) /* its tasks were never committed: it starts again */
        return store_job_set_state(data->store, row.id, "queued", NULL);
    TRY(plan_new(&data->plan));
    struct plan *plan = data->plan;
    plan->job = row.id;
    plan->lineage = row.lineage;
    plan->updates_done = row.updates_done;
    plan->version = row.version;
    plan->paused = strcmp(row.state, "paused") == 0;
    (void)snprintf(plan->trainer, sizeof plan->trainer, "%s", row.trainer);
    TRY(plan_set_spec(plan, row.spec));
    TRY(jobs_index_tasks(data, plan));
    TRY(load_groups(data, plan));
    TRY(record_load(data));
    TRY(load_evaluations(data, plan));
    TRY(load_policy(data, plan));
    TRY(method_load(data));
    TRY(load_streaks(data, plan));
    plan->running = true;
    plan->started_ms = plan->moved_ms = data_now_ms(data);
    if (data->moved_job == plan->job) plan->moved_ms = data->moved_ms;
    adopt_leases(data);
    log_info("job %lld goes on: lineage %lld, update %lld, version %lld", (long long)plan->job, (long long)plan->lineage,
             (long long)plan->updates_done, (long long)plan->version);
    return ERR_ok;
}

err_t jobs_load(struct data *data)
{
    plan_free(&data->plan);
    data->look_for_job = true;
    /* under the fence: an older data manager that comes back learns here that it is one */
    TRY(store_begin(data->store, data->epoch));
    err_t err = load(data);
    if (err == ERR_ok) err = store_commit(data->store);
    if (err != ERR_ok) plan_free(&data->plan);
    arena_clear(&data->arena);
    return err;
}
