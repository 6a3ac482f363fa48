#include "services/data/plan.h"

#include "curation/retry.h"
#include "services/common/base/rng.h"

#include <stdlib.h>

#define BUCKETS 16384

err_t plan_new(struct plan **ret)
{
    struct plan *plan = calloc(1, sizeof *plan);
    if (!plan) return err_set(ERR_memory, "a plan");
    plan->buckets = calloc(BUCKETS, sizeof(struct slot *));
    plan->bucket_count = BUCKETS;
    plan->updates_done = plan->version = plan->published = plan->resume_version = -1;
    plan->checkpoint_version = plan->checkpoint_update = -1;
    plan->last_evaluated = plan->lag_said = -1;
    plan->next_token = 1; /* 0: never leased */
    arena_init(&plan->arena, 0);
    if (!plan->buckets) {
        plan_free(&plan);
        return err_set(ERR_memory, "a plan");
    }
    *ret = plan;
    return ERR_ok;
}

void plan_free(struct plan **plan)
{
    struct plan *p = *plan;
    *plan = NULL;
    if (!p) return;
    while (p->groups) plan_remove_group(p, p->groups);
    while (p->evaluations) {
        struct evaluation *next = p->evaluations->next;
        free(p->evaluations);
        p->evaluations = next;
    }
    gain_free(&p->gain);
    rates_free(&p->rates);
    phase_free(&p->phase);
    for (size_t i = 0; p->tasks && i < p->task_count; i++) record_free(&p->tasks[i].record);
    free(p->buckets);
    arena_fini(&p->arena);
    free(p);
}

err_t plan_set_spec(struct plan *plan, const char *text)
{
    struct job_problems problems;
    plan->spec_text = arena_text(&plan->arena, span_text(text));
    if (!plan->spec_text) return ERR_memory;
    return job_parse(span_text(text), &plan->arena, &plan->spec, &problems);
}

err_t plan_add_task(struct plan *plan, const struct plan_task *task)
{
    struct plan_task *tasks = plan->tasks;
    if (plan->task_count >= plan->task_room) { /* 0 at first: the array that was read has no room */
        size_t room = 2 * plan->task_count + 64;
        tasks = arena_array(&plan->arena, struct plan_task, room);
        if (!tasks) return ERR_memory;
        memcpy(tasks, plan->tasks, plan->task_count * sizeof *tasks);
        plan->task_room = room;
    }
    plan->tasks = tasks;
    plan->tasks[plan->task_count++] = *task;
    return ERR_ok;
}

static bool is_ready(const struct plan *plan, const struct plan_task *task)
{
    return !task->holdout && !task->candidate && !task->refused && task->phase <= (int64_t)plan->phase.now;
}

/* The least phase of a task in the mix: without webrl.keep_tasks the newest one that has any. */
static int64_t least_phase(const struct plan *plan)
{
    int64_t newest = 0;
    if (!plan->spec.webrl.on || plan->spec.webrl.keep_tasks) return 0;
    for (size_t i = 0; i < plan->task_count; i++) {
        const struct plan_task *task = &plan->tasks[i];
        if (is_ready(plan, task) && !task->quarantined && task->phase > newest) newest = task->phase;
    }
    return newest;
}

err_t plan_index_tasks(struct plan *plan)
{
    int64_t least = least_phase(plan);
    plan->holdout_count = 0;
    size_t *all = arena_array(&plan->arena, size_t, 2 * plan->task_count + 1);
    if (!all) return ERR_memory;
    plan->holdout = all;
    size_t at = plan->task_count;
    for (size_t e = 0; e < plan->spec.environment_count; e++) {
        plan->train[e] = all + at;
        for (size_t i = 0; i < plan->task_count; i++) {
            const struct plan_task *task = &plan->tasks[i];
            if (task->environment == (int64_t)e && is_ready(plan, task) && task->phase >= least) all[at++] = i;
        }
        plan->train_count[e] = (size_t)(all + at - plan->train[e]);
        plan->draws[e].weight = plan->spec.environments[e].weight;
        plan->draws[e].tasks = plan->train_count[e];
    }
    for (size_t i = 0; i < plan->task_count; i++) {
        if (plan->tasks[i].holdout) plan->holdout[plan->holdout_count++] = i;
    }
    return ERR_ok;
}

static struct slot **bucket(struct plan *plan, int64_t episode)
{
    return &plan->buckets[(uint64_t)episode % plan->bucket_count];
}

err_t plan_add_group(struct plan *plan, struct group **ret, enum group_source source, size_t task, size_t size)
{
    struct group *group = calloc(1, sizeof *group + size * sizeof(struct slot));
    if (!group) return err_set(ERR_memory, "a group of %zu", size);
    *group = (struct group){.id = plan->next_group++,
                            .task = task,
                            .source = source,
                            .size = size,
                            .update_for = -1,
                            .pin_version = -1,
                            .min_version = -1,
                            .replaces = -1,
                            .pool = -1,
                            .of_episode = -1,
                            .max_steps = plan->spec.environments[plan->tasks[task].environment].max_steps,
                            .next = plan->groups};
    plan->groups = group;
    for (size_t i = 0; i < size; i++) {
        struct slot *slot = &group->slots[i];
        slot->group = group;
        slot->index = (int64_t)i;
        slot->episode = plan->next_episode++;
        slot->version_min = -1;
        struct slot **place = bucket(plan, slot->episode);
        slot->next_in_bucket = *place;
        *place = slot;
        plan->slot_count++;
        plan_queue(plan, slot, false);
    }
    *ret = group;
    return ERR_ok;
}

static void unqueue_group(struct plan *plan, const struct group *group)
{
    struct queue *queue = &plan->pending[group->source];
    struct slot *kept = queue->first;
    *queue = (struct queue){0};
    while (kept) {
        struct slot *next = kept->next_pending;
        kept->next_pending = NULL;
        if (kept->group != group) {
            if (queue->last)
                queue->last->next_pending = kept;
            else
                queue->first = kept;
            queue->last = kept;
        }
        kept = next;
    }
}

/* Out of the list, the buckets and the queue. */
static void detach(struct plan *plan, struct group *group)
{
    for (struct group **at = &plan->groups; *at; at = &(*at)->next) {
        if (*at != group) continue;
        *at = group->next;
        break;
    }
    bool queued = false;
    for (size_t i = 0; i < group->size; i++) {
        struct slot *slot = &group->slots[i];
        queued |= slot->state == SLOT_PENDING;
        for (struct slot **at = bucket(plan, slot->episode); *at; at = &(*at)->next_in_bucket) {
            if (*at != slot) continue;
            *at = slot->next_in_bucket;
            plan->slot_count--;
            break;
        }
    }
    if (queued) unqueue_group(plan, group);
}

void plan_drop_payloads(struct plan *plan, struct group *group)
{
    for (size_t i = 0; i < group->size; i++) {
        struct slot *slot = &group->slots[i];
        plan->payload_bytes -= slot->payload.size;
        free((void *)(uintptr_t)slot->payload.data);
        slot->payload = (struct span){0};
    }
}

static void destroy(struct plan *plan, struct group *group)
{
    plan_drop_payloads(plan, group);
    for (size_t i = 0; i < group->size; i++) free(group->slots[i].turn);
    free(group->script);
    free(group);
}

void plan_remove_group(struct plan *plan, struct group *group)
{
    detach(plan, group);
    if (group->plain) destroy(plan, group->plain);
    destroy(plan, group);
}

void plan_hold_group(struct plan *plan, struct group *plain, struct group *hinted)
{
    detach(plan, plain);
    hinted->plain = plain;
}

struct slot *plan_slot(struct plan *plan, int64_t episode)
{
    struct slot *slot = *bucket(plan, episode);
    while (slot && slot->episode != episode) slot = slot->next_in_bucket;
    return slot;
}

void plan_queue(struct plan *plan, struct slot *slot, bool in_front)
{
    struct queue *queue = &plan->pending[slot->group->source];
    slot->state = SLOT_PENDING;
    slot->next_pending = NULL;
    if (!queue->first) {
        queue->first = queue->last = slot;
    } else if (in_front) {
        slot->next_pending = queue->first;
        queue->first = slot;
    } else {
        queue->last->next_pending = slot;
        queue->last = slot;
    }
}

struct slot *plan_dequeue(struct plan *plan, enum group_source source)
{
    struct queue *queue = &plan->pending[source];
    struct slot *slot = queue->first;
    if (!slot) return NULL;
    queue->first = slot->next_pending;
    if (!queue->first) queue->last = NULL;
    slot->next_pending = NULL;
    return slot;
}

void plan_keep_payload(struct plan *plan, struct slot *slot, struct span payload, int64_t raw)
{
    slot->payload_raw = raw;
    if (payload.size == 0 || plan->payload_bytes + payload.size > PLAN_PAYLOAD_BYTES) return;
    uint8_t *copy = malloc(payload.size);
    if (!copy) return; /* it is in the ledger */
    memcpy(copy, payload.data, payload.size);
    slot->payload = span_of(copy, payload.size);
    plan->payload_bytes += payload.size;
}

void plan_postpone(struct plan *plan, uint64_t ms, uint64_t now)
{
    plan->moved_ms = plan->moved_ms + ms < now ? plan->moved_ms + ms : now;
    for (struct group *g = plan->groups; g; g = g->next) {
        if (g->complete_ms) g->complete_ms = g->complete_ms + ms < now ? g->complete_ms + ms : now;
        for (size_t i = 0; i < g->size; i++) g->slots[i].deadline_ms += ms;
    }
}

size_t plan_closed_for(const struct plan *plan, int64_t update)
{
    size_t closed = 0;
    for (const struct group *g = plan->groups; g; g = g->next)
        closed += plan_is_for_update(g->source) && g->update_for == update && g->state == GROUP_CLOSED;
    return closed;
}

bool plan_is_for_update(enum group_source source)
{
    return source == GROUP_FRESH || source == GROUP_HINTED;
}

static const char *const sources[GROUP_SOURCES] = {
    [GROUP_FRESH] = "fresh",   [GROUP_HINTED] = "hinted",         [GROUP_DEMONSTRATION] = "demonstration",
    [GROUP_IMPORT] = "import", [GROUP_EVALUATION] = "evaluation", [GROUP_SCORE] = "score",
};

const char *plan_source_name(enum group_source source)
{
    return sources[source];
}

bool plan_source_find(const char *name, enum group_source *ret)
{
    for (enum group_source s = 0; s < GROUP_SOURCES; s++) {
        if (strcmp(sources[s], name) != 0) continue;
        *ret = s;
        return true;
    }
    return false;
}

int64_t plan_seed(const struct plan *plan, int64_t episode, int64_t attempt)
{
    return retry_seed((uint64_t)plan->spec.seed, episode, attempt);
}

int64_t plan_episode_seed(const struct plan *plan, int64_t episode)
{
    return (int64_t)(rng_mix((uint64_t)plan->spec.seed ^ 0x65706973U, (uint64_t)episode) >> 11);
}
