/* How attempts end: fencing, outcomes, retries, void slots; how groups close. */
#include "curation/close.h"
#include "curation/retry.h"
#include "services/common/run/log.h"
#include "services/common/store/store_job.h"
#include "services/common/store/store_task.h"
#include "services/data/data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define REFILLS 3

err_t finish_decide(struct data *data, const char *subject, int64_t key, const char *rule, const char *verdict,
                    const char *inputs)
{
    bool good = inputs != NULL;
    const struct store_decision row = {subject, key, rule, verdict, inputs};
    if (good) WRITES_ADD(data->writes.decisions, row, good);
    return good ? ERR_ok : ERR_memory;
}

/* ---- groups ---- */

static err_t quarantine(struct data *data, struct plan_task *task)
{
    task->quarantined = true;
    TRY(data_begin(data));
    TRY(store_task_set_state(data->store, data->plan->job, task->id, "quarantined"));
    const char *inputs =
        arena_printf(&data->arena, "{\"task\": %lld, \"void_groups\": %d}", (long long)task->id, CLOSE_VOIDS_TO_QUARANTINE);
    TRY(finish_decide(data, "task", task->id, "quarantine", "quarantined", inputs));
    return store_job_event(data->store, data->plan->job, "quarantine",
                           "three void groups in a row: the task is not drawn again", inputs);
}

/* Too few slots ended with an outcome: the group counts as nothing and another one takes its place. */
static err_t void_group(struct data *data, struct group *group)
{
    struct plan *plan = data->plan;
    struct plan_task *task = &plan->tasks[group->task];
    TRY(judge_close(data, group, "void", "void"));
    const char *inputs = arena_printf(&data->arena, "{\"task\": %lld, \"size\": %zu, \"done\": %zu, \"needs\": %zu}",
                                      (long long)task->id, group->size, group->done, close_needs(group->size));
    TRY(finish_decide(data, "group", group->id, "close", "void", inputs));
    plan->voided++;
    if (group->source == GROUP_SCORE || group->source == GROUP_IMPORT) return ERR_ok; /* they say nothing of the task */
    if (++task->void_streak >= CLOSE_VOIDS_TO_QUARANTINE && !task->quarantined && close_quarantines(task->void_streak))
        TRY(quarantine(data, task));
    if (plan_is_for_update(group->source)) return grant_replacement(data, group);
    if (group->source == GROUP_DEMONSTRATION) plan->demonstrations_open--;
    return ERR_ok;
}

static struct evaluation *evaluation_of(struct plan *plan, int64_t version)
{
    struct evaluation *e = plan->evaluations;
    while (e && e->version != version) e = e->next;
    return e;
}

static err_t close_evaluated(struct data *data, struct group *group, bool voided)
{
    struct evaluation *evaluation = evaluation_of(data->plan, group->pin_version);
    if (!voided) TRY(judge_close(data, group, "closed", "measured"));
    if (!evaluation) return ERR_ok;
    evaluation->open--;
    if (!voided) {
        evaluation->done++;
        evaluation->successes += group->slots[0].reward >= 0.5;
    }
    return ERR_ok;
}

/* Another group takes the place of one without signal (DAPO), at most REFILLS times: 3 x groups_per_update for an update. */
static err_t refill(struct data *data, struct group *group)
{
    struct plan *plan = data->plan;
    if (group->refills >= REFILLS) return judge_group(data, group);
    group->refills++;
    TRY(judge_close(data, group, "closed", "refilled"));
    TRY(finish_decide(
        data, "group", group->id, "refill", "refilled",
        arena_printf(&data->arena, "{\"update\": %lld, \"refills\": %d}", (long long)group->update_for, group->refills)));
    TRY(grant_replacement(data, group));
    plan_remove_group(plan, group);
    return ERR_ok;
}

static err_t close_group(struct data *data, struct group *group)
{
    struct plan *plan = data->plan;
    enum close verdict = close_verdict(group->size, group->done, group->voided);
    if (verdict == CLOSE_OPEN) return ERR_ok;
    bool voided = verdict == CLOSE_VOID;
    if (voided)
        TRY(void_group(data, group));
    else if (group->source != GROUP_SCORE && group->source != GROUP_IMPORT)
        plan->tasks[group->task].void_streak = 0;
    if (group->source == GROUP_SCORE) return score_close(data, group, voided);
    if (group->source == GROUP_IMPORT) return import_close(data, group, voided);
    if (group->source == GROUP_EVALUATION) {
        struct evaluation *evaluation = evaluation_of(plan, group->pin_version);
        TRY(close_evaluated(data, group, voided));
        plan_remove_group(plan, group);
        return evaluation && evaluation->open == 0 ? evaluate_close(data, evaluation) : ERR_ok;
    }
    if (voided) {
        plan_remove_group(plan, group);
        return ERR_ok;
    }
    if (late_is_stale(group)) return late_drop(data, group, "played with weights older than its leases allowed");
    group->state = GROUP_CLOSED;
    gain_closed(plan, group);
    TRY(record_group(plan, group));
    if (guide_wants(plan, group)) return guide_again(data, group);
    judge_members(plan, group);
    if (group->source == GROUP_DEMONSTRATION) {
        plan->demonstrations_open--;
        return judge_close(data, group, "closed", "measured");
    }
    TRY(pool_save(data, group));
    if (plan->spec.curation.refill && !judge_by_value(&plan->spec) && !judge_varies(group)) return refill(data, group);
    return judge_group(data, group);
}

/* ---- attempts ---- */

/* Counts the attempt; an environment that mostly fails ends the job with this turn, and says what was counted. */
static err_t count_attempt(struct data *data, const struct slot *slot, enum outcome outcome)
{
    struct plan *plan = data->plan;
    size_t index = (size_t)plan->tasks[slot->group->task].environment;
    const struct job_environment *env = &plan->spec.environments[index];
    struct errors *errors = &plan->errors[index];
    size_t window = (size_t)plan->spec.stop.error_window, least = 4 * (size_t)env->slots;
    if (!errors_count(errors, outcome, plan->spec.stop.error_rate, window > least ? window : least) || plan->hopeless)
        return ERR_ok;
    AUTO(buf) reason = {0};
    TRY(buf_printf(&reason, "%zu of %zu attempts in environment %zu (%s) failed (stop.error_rate):", errors->failed,
                   errors->attempts, index, env->name));
    for (enum outcome o = 0; o < OUTCOME_COUNT; o++) {
        if (outcome_failure(o) && errors->by[o]) TRY(buf_printf(&reason, " %s %zu", outcome_name(o), errors->by[o]));
    }
    TRY(buf_printf(&reason, "; the newest: %s", plan->last_failure));
    plan->hopeless = arena_text(&plan->arena, buf_span(&reason));
    return plan->hopeless ? ERR_ok : ERR_memory;
}

/* The job masks whole groups for this class: what of it is open ends, and another one is drawn in its place. Frees the group.
 */
static err_t mask_group(struct data *data, const struct slot *slot)
{
    struct plan *plan = data->plan;
    struct group *group = slot->group;
    TRY(data_begin(data));
    /* slots of this turn must be rows before they are voided */
    TRY(writes_flush(&data->writes, data->store, plan, &data->arena));
    writes_clear(&data->writes);
    for (size_t i = 0; i < group->size; i++) {
        if (group->slots[i].state == SLOT_LEASED) finish_revoke(data, &group->slots[i]);
    }
    TRY(store_group_void_slots(data->store, plan->job, group->id, outcome_name(OUTCOME_cancelled)));
    TRY(finish_decide(data, "group", group->id, "mask", outcome_name(slot->outcome),
                      arena_printf(&data->arena, "{\"episode\": %lld, \"done\": %zu, \"size\": %zu}",
                                   (long long)slot->episode, group->done, group->size)));
    TRY(void_group(data, group));
    plan_remove_group(plan, group);
    return ERR_ok;
}

/* An attempt failed: again, or void. */
static err_t fail_attempt(struct data *data, struct slot *slot, enum outcome outcome, const char *error)
{
    struct plan *plan = data->plan;
    if (slot->failures[outcome] < UINT8_MAX) slot->failures[outcome]++;
    plan->failures++;
    (void)snprintf(plan->last_failure, sizeof plan->last_failure, "%s%s%s", outcome_name(outcome), *error ? ": " : "", error);
    for (char *c = plan->last_failure; *c; c++) { /* cut anywhere, so plain ASCII only */
        if (*c < ' ' || *c > '~') *c = '?';
    }
    TRY(count_attempt(data, slot, outcome));
    bool again = retry_decide(outcome, slot->failures[outcome], job_retries(&plan->spec, outcome)) == RETRY_AGAIN;
    const struct store_episode_end row = {
        .id = slot->episode,
        .token = slot->token,
        .state = again ? "pending" : "void",
        .outcome = outcome_name(outcome),
        .failed = true,
        .version_min = -1,
        .version_max = -1,
        .error = error,
    };
    bool good = true;
    WRITES_ADD(data->writes.ends, row, good);
    if (!good) return ERR_memory;
    TRY(finish_decide(data, "episode", slot->episode, "retry", again ? "again" : "void",
                      arena_printf(&data->arena, "{\"outcome\": \"%s\", \"attempt\": %lld, \"of_class\": %d}",
                                   outcome_name(outcome), (long long)slot->attempt, slot->failures[outcome])));
    if (again) {
        plan->retried++;
        slot->attempt++;
        plan_queue(plan, slot, true);
        return ERR_ok;
    }
    slot->state = SLOT_VOID;
    slot->outcome = outcome;
    slot->group->voided++;
    bool whole = plan_is_for_update(slot->group->source) && job_mask(&plan->spec, outcome) == JOB_MASK_GROUP;
    return whole ? mask_group(data, slot) : close_group(data, slot->group);
}

/* Turns with sampled tokens, as far as they were told. */
static uint64_t count_turns(const struct wire_episode_done *done)
{
    uint64_t turns = 0;
    for (size_t i = 0; i < done->turn_tokens.n; i++) turns += done->turn_tokens.v[i] > 0;
    return done->turn_tokens.n ? turns : done->steps;
}

static err_t end_attempt(struct data *data, struct slot *slot, const struct wire_episode_done *done, enum outcome outcome)
{
    struct plan *plan = data->plan;
    if (outcome_failure(outcome)) {
        const char *error = arena_text(&data->arena, done->error);
        return error ? fail_attempt(data, slot, outcome, error) : ERR_memory;
    }
    bool scores = slot->group->source == GROUP_SCORE, judged = phase_is_judged(plan, slot->group);
    const char *measured = NULL;
    if (!isfinite(done->reward) || done->reward < 0 || done->reward > 1 || (done->payload.size == 0 && !scores))
        return fail_attempt(data, slot, OUTCOME_poisoned, "a reward outside 0 to 1 or no payload");
    if (outcome == OUTCOME_ok && done->steps == 0 && !scores)
        return fail_attempt(data, slot, OUTCOME_poisoned, "it was over before anything was done");
    if (judged != done->judged || !isfinite(done->verified))
        return fail_attempt(data, slot, OUTCOME_judge_error, "the reward is not that of who was to judge");
    err_t err = scores ? score_end(data, slot->group, done, &measured) : ERR_ok;
    if (err == ERR_malformed) {
        const char *why = arena_text(&data->arena, span_text(err_text()));
        return why ? fail_attempt(data, slot, OUTCOME_poisoned, why) : ERR_memory;
    }
    TRY(err);
    if (judged) TRY(score_judged(data, done, &measured));
    TRY(count_attempt(data, slot, outcome));
    slot->state = SLOT_DONE;
    slot->outcome = outcome;
    slot->reward = done->reward;
    slot->steps = (int64_t)done->steps;
    slot->prompt_tokens = (int64_t)done->prompt_tokens;
    slot->action_tokens = (int64_t)done->action_tokens;
    slot->version_min = done->version_min;
    slot->turns = count_turns(done);
    if (dart_selects(plan) && plan_is_for_update(slot->group->source)) TRY(dart_keep_turns(slot, done));
    slot->group->done++;
    plan->episodes++;
    stall_over(data);
    plan->tokens += done->prompt_tokens + done->action_tokens;
    if (slot->group->source != GROUP_EVALUATION) plan->tokens_spent += slot->prompt_tokens + slot->action_tokens;
    if (slot->group->source != GROUP_EVALUATION && !scores)
        plan_keep_payload(plan, slot, done->payload, (int64_t)done->payload_raw);
    const struct store_episode_end row = {
        .id = slot->episode,
        .token = slot->token,
        .state = "done",
        .outcome = outcome_name(outcome),
        .reward = done->reward,
        .steps = (int64_t)done->steps,
        .prompt_tokens = slot->prompt_tokens,
        .action_tokens = slot->action_tokens,
        .version_min = done->version_min,
        .version_max = done->version_max,
        .turn_entropy = done->turn_entropy.v,
        .turn_tokens = done->turn_tokens.n == done->turn_entropy.n ? done->turn_tokens.v : NULL,
        .turns = done->turn_entropy.n,
        .judged = judged,
        .verified = done->verified,
        .scores = measured,
        .engine_ms = done->engine_ms,
        .env_ms = done->env_ms,
        .payload = done->payload,
        .payload_raw = (int64_t)done->payload_raw,
        .error = "",
    };
    bool good = true;
    WRITES_ADD(data->writes.ends, row, good);
    return good ? close_group(data, slot->group) : ERR_memory;
}

void finish_episodes(struct data *data, const char *peer, const struct wire_episodes_done *done)
{
    struct plan *plan = data->plan;
    uint64_t *tokens = arena_array(&data->arena, uint64_t, done->episodes_count + 1);
    struct wire_episodes_ack *ack = arena_array(&data->arena, struct wire_episodes_ack, 1);
    if (!tokens || !ack) {
        data_fail(data, ERR_memory);
        return;
    }
    for (size_t i = 0; i < done->episodes_count; i++) {
        const struct wire_episode_done *end = &done->episodes[i];
        tokens[i] = end->token;
        bool ours = plan && (uint64_t)plan->job == done->job && end->episode <= INT64_MAX;
        struct slot *slot = ours ? plan_slot(plan, (int64_t)end->episode) : NULL;
        if (!slot || slot->state != SLOT_LEASED || (uint64_t)slot->token != end->token) {
            data->late_ends++; /* late, repeated, or of an older grant: acknowledged and ignored */
            continue;
        }
        enum outcome outcome = OUTCOME_poisoned;
        if (!outcome_find(end->outcome, &outcome)) log_warn("outcome '%.*s' is not known", SPAN_ARG(end->outcome));
        err_t err = end_attempt(data, slot, end, outcome);
        if (err != ERR_ok) {
            data_fail(data, err);
            return;
        }
    }
    *ack = (struct wire_episodes_ack){done->job, {tokens, done->episodes_count}};
    data_say(data, peer, NULL, WIRE_episodes_ack, ack);
}

void finish_revoke(struct data *data, const struct slot *slot)
{
    uint64_t *episode = arena_array(&data->arena, uint64_t, 1);
    struct wire_lease_revoke *message = arena_array(&data->arena, struct wire_lease_revoke, 1);
    if (!episode || !message) return;
    *episode = (uint64_t)slot->episode;
    *message = (struct wire_lease_revoke){(uint64_t)data->plan->job, {episode, 1}};
    data_say(data, slot->worker, NULL, WIRE_lease_revoke, message);
}

static struct slot *find_lease(const struct plan *plan, bool (*ends)(const struct slot *slot, const void *ctx),
                               const void *ctx)
{
    for (struct group *g = plan->groups; g; g = g->next) {
        for (size_t i = 0; i < g->size; i++) {
            if (g->slots[i].state == SLOT_LEASED && ends(&g->slots[i], ctx)) return &g->slots[i];
        }
    }
    return NULL;
}

/* Leases for which `ends` holds end with an outcome. Groups may close and go with one, so the list is walked from its start.
 */
static void end_leases(struct data *data, bool (*ends)(const struct slot *slot, const void *ctx), const void *ctx,
                       enum outcome outcome, const char *why, bool tell)
{
    while (data->plan && data->turn_err == ERR_ok) {
        struct slot *slot = find_lease(data->plan, ends, ctx);
        if (!slot) return;
        if (tell) finish_revoke(data, slot);
        data_fail(data, fail_attempt(data, slot, outcome, why));
    }
}

static bool is_due(const struct slot *slot, const void *ctx)
{
    return slot->deadline_ms <= *(const uint64_t *)ctx;
}

static bool is_of(const struct slot *slot, const void *ctx)
{
    return strcmp(slot->worker, ctx) == 0;
}

void finish_expired(struct data *data)
{
    if (!data->plan || !data->plan->running) return;
    uint64_t now = data_now_ms(data);
    late_mark(data);
    end_leases(data, is_due, &now, OUTCOME_timeout, "the lease ran out", true);
}

void finish_worker(struct data *data, const char *identity, enum outcome outcome)
{
    if (data->plan && data->plan->running) end_leases(data, is_of, identity, outcome, "its worker went away", false);
}

/* ---- what a worker says it has ---- */

struct held {
    const char *worker;
    uint64_t newest, now_ms;
    uint64_t *tokens; /* sorted */
    size_t count;
    uint64_t on_the_way;
};

static int by_token(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static bool is_absent(const struct slot *slot, const struct held *held)
{
    uint64_t token = (uint64_t)slot->token;
    return strcmp(slot->worker, held->worker) == 0 && !bsearch(&token, held->tokens, held->count, sizeof token, by_token);
}

/* A link keeps its order: what is older than a lease that came is not on its way any more. */
static bool is_lost(const struct slot *slot, const void *ctx)
{
    const struct held *held = ctx;
    bool may_come = (uint64_t)slot->token > held->newest && held->now_ms < slot->granted_ms + DATA_ON_WAY_MS;
    return !may_come && is_absent(slot, held);
}

static void count_on_the_way(const struct plan *plan, struct held *held)
{
    for (const struct group *g = plan->groups; g; g = g->next) {
        for (size_t i = 0; i < g->size; i++)
            held->on_the_way += g->slots[i].state == SLOT_LEASED && is_absent(&g->slots[i], held);
    }
}

void finish_held(struct data *data, const char *identity, const struct wire_leases_held *message)
{
    struct held held = {identity, message->newest, data_now_ms(data), NULL, message->tokens.n, 0};
    struct peer *worker = data_peer(data, identity);
    if (!worker || !data->plan || !data->plan->running || (uint64_t)data->plan->job != message->job) return;
    held.tokens = arena_array(&data->arena, uint64_t, held.count + 1);
    if (!held.tokens) {
        data_fail(data, ERR_memory);
        return;
    }
    for (size_t i = 0; i < held.count; i++) held.tokens[i] = message->tokens.v[i];
    qsort(held.tokens, held.count, sizeof *held.tokens, by_token);
    end_leases(data, is_lost, &held, OUTCOME_cancelled, "its lease did not reach the worker", false);
    if (!data->plan || data->turn_err != ERR_ok) return;
    count_on_the_way(data->plan, &held);
    worker->granted = message->leases_seen + held.on_the_way;
    worker->in_step = true;
}
