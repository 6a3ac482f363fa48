/* Who plays what: evaluations first, then scores, then demonstrations and imports, open slots of begun groups, then new fresh
 * groups within the staleness bound (curation/admission.h). */
#include "curation/admission.h"
#include "services/common/base/rng.h"
#include "services/common/run/log.h"
#include "services/data/data.h"

#include <stdio.h>

#define TTL_SPARE_MS 60000
#define TTL_MOST_MS  3600000
#define GRANT_MOST   1024 /* leases in one message */

static uint64_t lease_ttl(const struct job_environment *env)
{
    uint64_t ttl = TTL_SPARE_MS + (uint64_t)env->max_steps * (uint64_t)env->step_timeout_ms;
    return ttl < TTL_MOST_MS ? ttl : TTL_MOST_MS;
}

/* Does this demonstration show its task's hint? The same in every attempt. */
static bool shows_hint(const struct plan *plan, const struct slot *slot)
{
    struct rng rng;
    rng_init(&rng, (uint64_t)plan_episode_seed(plan, slot->episode), 0x68696e74u);
    return *plan->tasks[slot->group->task].hint && rng_unit(&rng) < plan->spec.warmstart.hinted;
}

static err_t lease_slot(struct data *data, struct slot *slot, const struct peer *peer, struct wire_lease *ret)
{
    struct plan *plan = data->plan;
    const struct group *group = slot->group;
    const struct plan_task *task = &plan->tasks[group->task];
    const struct job_environment *env = &plan->spec.environments[task->environment];
    struct span hint = {0};
    if (slot->hinted) TRY(guide_hint(data, task, &hint));
    slot->state = SLOT_LEASED;
    slot->token = plan->next_token++;
    slot->granted_ms = data_now_ms(data);
    slot->deadline_ms = slot->granted_ms + lease_ttl(env);
    (void)snprintf(slot->worker, sizeof slot->worker, "%s", peer->identity);
    *ret = (struct wire_lease){
        .episode = (uint64_t)slot->episode,
        .attempt = (uint64_t)slot->attempt,
        .token = (uint64_t)slot->token,
        .group = (uint64_t)group->id,
        .task = (uint64_t)task->id,
        .source = span_text(plan_source_name(group->source == GROUP_FRESH && slot->hinted ? GROUP_HINTED : group->source)),
        .environment = (uint64_t)task->environment,
        .task_text = span_text(task->body),
        .max_steps = (uint64_t)group->max_steps,
        .hint = hint,
        .seed = (uint64_t)plan_seed(plan, slot->episode, slot->attempt),
        .episode_seed = (uint64_t)plan_episode_seed(plan, slot->episode),
        .noise = plan->spec.warmstart.noise,
        .min_version = group->min_version,
        .pin_version = group->pin_version,
        .ttl_ms = lease_ttl(env),
        .judge = phase_judge(plan, group),
        .script = span_text(group->script ? group->script : ""),
    };
    if (group->source == GROUP_SCORE) return score_lease(data, group, ret);
    return ERR_ok;
}

void grant_renew(struct data *data, const struct peer *worker)
{
    const struct plan *plan = data->plan;
    for (struct group *g = plan->groups; g; g = g->next) {
        const struct job_environment *env = &plan->spec.environments[plan->tasks[g->task].environment];
        for (size_t i = 0; i < g->size; i++) {
            struct slot *slot = &g->slots[i];
            if (slot->state == SLOT_LEASED && strcmp(slot->worker, worker->identity) == 0)
                slot->deadline_ms = data_now_ms(data) + lease_ttl(env);
        }
    }
}

bool grant_may_draw(const struct plan *plan, size_t environment, uint64_t task)
{
    return !plan->tasks[plan->train[environment][task]].quarantined;
}

static bool may_draw(void *ctx, size_t environment, uint64_t task)
{
    return grant_may_draw(ctx, environment, task);
}

err_t grant_note(struct data *data, struct group *group)
{
    struct plan *plan = data->plan;
    const struct store_group row = {
        .id = group->id,
        .task = plan->tasks[group->task].id,
        .source = plan_source_name(group->source),
        .size = (int64_t)group->size,
        .update_for = group->update_for,
        .pin_version = group->pin_version,
        .min_version = group->min_version,
        .replaces = group->replaces,
        .phase = group->phase,
        .of_episode = group->of_episode,
    };
    bool good = true;
    WRITES_ADD(data->writes.groups, row, good);
    if (good) WRITES_ADD(data->writes.new_groups, group, good);
    return good ? ERR_ok : ERR_memory;
}

/* of the job file */
static const enum curriculum_kind KINDS[] = {
    [JOB_CURRICULUM_UNIFORM] = CURRICULUM_uniform,
    [JOB_CURRICULUM_SUCCESS_BAND] = CURRICULUM_success_band,
    [JOB_CURRICULUM_ADCL] = CURRICULUM_adcl,
    [JOB_CURRICULUM_GAIN_RL] = CURRICULUM_gain_rl,
};

err_t grant_fresh(struct data *data, int64_t update, const struct group *replaces)
{
    struct plan *plan = data->plan;
    struct curriculum curriculum = {.seed = (uint64_t)plan->spec.seed,
                                    .environments = plan->draws,
                                    .count = plan->spec.environment_count,
                                    .may_draw = may_draw,
                                    .ctx = plan};
    struct curriculum_draw draw;
    struct gain_draw by_rank;
    struct rates_draw by_rate;
    if (plan->spec.curriculum.kind == JOB_CURRICULUM_GAIN_RL) TRY(gain_curriculum(data, update, &by_rank, &curriculum));
    rates_curriculum(plan, update, &by_rate, &curriculum);
    TRY(curriculum_draw(KINDS[plan->spec.curriculum.kind], &curriculum, &draw));
    struct group *group = NULL;
    size_t task = plan->train[draw.environment][draw.task];
    TRY(plan_add_group(plan, &group, GROUP_FRESH, task, dart_size(data, task)));
    TRY(rates_drawn(data, update, &draw));
    plan->draws[draw.environment].drawn++;
    group->update_for = update;
    group->phase = phase_of_update(plan, update);
    group->replaces = replaces ? replaces->id : -1;
    group->refills = replaces ? replaces->refills : 0;
    /* by the version recorded, which may be about to be published: by the one published a group could be a version too old */
    group->min_version = admission_min_version(update, plan->spec.trainer.max_staleness, plan->version);
    guide_balance(plan, group);
    TRY(dart_planned(data, group));
    plan->fresh++;
    if (replaces) plan->replacements++;
    return grant_note(data, group);
}

err_t grant_replacement(struct data *data, const struct group *replaces)
{
    err_t err = grant_fresh(data, replaces->update_for, replaces);
    if (err != ERR_not_found) return err;
    data->plan->hopeless = JOBS_QUARANTINED; /* the caller still holds the plan: jobs_advance ends the job */
    return ERR_ok;
}

err_t grant_pinned(struct data *data, enum group_source source, size_t task, int64_t version)
{
    struct group *group = NULL;
    TRY(plan_add_group(data->plan, &group, source, task, 1));
    if (source == GROUP_DEMONSTRATION) group->slots[0].hinted = shows_hint(data->plan, &group->slots[0]);
    if (source == GROUP_EVALUATION || source == GROUP_SCORE)
        group->pin_version = version;
    else
        group->update_for = 0;
    return grant_note(data, group);
}

/* With trainer.coupled numbers are given in one order only: those of an evaluation before those of the groups that follow the
 * version it is of, which must be published for that. Episodes draw their seeds from their numbers. */
static bool is_settled(const struct plan *plan)
{
    return !plan->spec.trainer.coupled || (plan->published == plan->version && !plan->evaluations);
}

/* Plans the next fresh group if admission allows one; false in *ret_more when not. */
static err_t plan_next(struct data *data, bool *ret_more)
{
    struct plan *plan = data->plan;
    int64_t update = admission_update(plan->fresh, 0, plan->replacements, plan->spec.trainer.groups_per_update);
    *ret_more = plan->published >= 0 && is_settled(plan) && !plan->ending && gain_ready(plan) && phase_admits(plan, update) &&
                update <= plan->spec.trainer.updates &&
                admission_may_start(update, plan->updates_done, plan->spec.trainer.max_staleness);
    return *ret_more ? grant_fresh(data, update, NULL) : ERR_ok;
}

static err_t next_slot(struct data *data, struct slot **ret)
{
    struct plan *plan = data->plan;
    *ret = plan_dequeue(plan, GROUP_EVALUATION);
    if (!*ret) *ret = plan_dequeue(plan, GROUP_SCORE);
    if (!*ret) *ret = plan_dequeue(plan, GROUP_DEMONSTRATION);
    if (!*ret) *ret = plan_dequeue(plan, GROUP_IMPORT);
    if (*ret || plan->published < 0 || !phase_may_lease(plan)) return ERR_ok; /* the others need weights */
    *ret = plan_dequeue(plan, GROUP_HINTED);
    if (!*ret) *ret = plan_dequeue(plan, GROUP_FRESH);
    if (*ret) return ERR_ok;
    bool more = false;
    TRY(plan_next(data, &more));
    if (more) *ret = plan_dequeue(plan, GROUP_FRESH);
    return ERR_ok;
}

static err_t grant_to(struct data *data, struct peer *peer)
{
    size_t most = peer->demand < GRANT_MOST ? peer->demand : GRANT_MOST, count = 0;
    struct wire_lease *leases = arena_array(&data->arena, struct wire_lease, most);
    if (!leases) return ERR_memory;
    while (count < most) {
        struct slot *slot = NULL;
        TRY(next_slot(data, &slot));
        if (!slot) break;
        TRY(lease_slot(data, slot, peer, &leases[count++]));
        bool fresh_row = !slot->written, good = true; /* an unwritten slot is inserted as leased */
        if (!fresh_row) WRITES_ADD(data->writes.leases, slot, good);
        if (!good) return ERR_memory;
    }
    if (count == 0) return ERR_ok;
    peer->demand -= count;
    peer->granted += count;
    int64_t announced = -1;
    for (size_t i = 0; i < count; i++) { /* evaluations are granted one after another */
        if (leases[i].pin_version < 0 || leases[i].pin_version == announced) continue;
        announced = leases[i].pin_version;
        TRY(policy_announce(data, peer->identity, announced));
    }
    struct wire_leases *message = arena_array(&data->arena, struct wire_leases, 1);
    if (message) *message = (struct wire_leases){(uint64_t)data->plan->job, leases, count};
    data_say(data, peer->identity, NULL, WIRE_leases, message);
    return data->turn_err;
}

err_t grant_advance(struct data *data)
{
    if (data->plan->paused) return ERR_ok;
    for (size_t i = 0; i < DATA_PEERS; i++) {
        struct peer *peer = &data->peers[i];
        if (!peer->identity[0] || peer->gone || peer->demand == 0) continue;
        if (strcmp(peer->service, "rollout") != 0) continue;
        err_t err = grant_to(data, peer);
        if (err == ERR_not_found) return jobs_end(data, "failed", JOBS_QUARANTINED);
        TRY(err);
    }
    return ERR_ok;
}
