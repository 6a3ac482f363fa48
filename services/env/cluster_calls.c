#include "services/env/cluster_impl.h"

#include <stdio.h>

static const char *const outcome_names[OUTCOME_COUNT] = {
#define OUTCOME(name, failure, retries, doc) #name,
#include "rollout/outcome.def"
#undef OUTCOME
};

static void on_janitor(uv_timer_t *timer);

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- answers ---- */

void cluster_emit(struct cluster *cluster, const struct slot *slot)
{
    const struct slot_answer *last = &slot->last;
    bool failed = last->outcome != OUTCOME_ok;
    struct wire_observation observation = {
        .episode = slot->episode,
        .token = slot->token,
        .step = last->step,
        .text = buf_span(&last->text),
        .reward = last->reward,
        .terminated = last->terminated,
        .error = span_text(failed ? outcome_names[last->outcome] : ""),
        .detail = span_text(last->detail),
        .expert = buf_span(&last->expert),
        .hint = buf_span(&last->hint),
        .env_ms = last->env_ms,
    };
    cluster->events.on_observation(cluster->events.ctx, slot->peer, slot->job, &observation);
}

void cluster_refuse(struct cluster *cluster, const char *peer, uint64_t job, uint64_t episode, uint64_t token, uint64_t step,
                    enum outcome outcome, const char *detail)
{
    cluster->counters.refused++;
    struct wire_observation observation = {
        .episode = episode,
        .token = token,
        .step = step,
        .error = span_text(outcome_names[outcome]),
        .detail = span_text(detail),
    };
    cluster->events.on_observation(cluster->events.ctx, peer, job, &observation);
}

void cluster_end(struct cluster *cluster, struct slot *slot)
{
    if (slot->seat) {
        slot->home->class->leave(&slot->seat);
        slot->home->used--;
    }
    slot->home = NULL;
    buf_fini(&slot->task);
    if (slot->last.text.size > SLOT_KEPT_BYTES) slot->last.there = false;
    if (!slot->last.there) buf_fini(&slot->last.text);
    slots_move(&cluster->slots, slot, SLOT_STATE_ENDED);
}

static void record(struct slot *slot, const struct provider_answer *answer)
{
    struct slot_answer *last = &slot->last;
    uint64_t spent_ns = slot->called_ns ? uv_hrtime() - slot->called_ns : 0;
    slot->called_ns = 0;
    last->there = true;
    last->step = slot->step;
    last->outcome = answer->outcome;
    last->reward = answer->outcome == OUTCOME_ok ? answer->reward : 0;
    last->terminated = answer->outcome == OUTCOME_ok && answer->terminated;
    last->env_ms = (double)spent_ns / 1e6;
    slot->cluster->counters.busy_us += spent_ns / 1000;
    size_t size = answer->detail.size < SLOT_DETAIL_BYTES ? answer->detail.size : SLOT_DETAIL_BYTES - 1;
    if (size) memcpy(last->detail, answer->detail.data, size);
    last->detail[size] = '\0';
    buf_clear(&last->text);
    buf_clear(&last->expert);
    buf_clear(&last->hint);
    if (answer->outcome != OUTCOME_ok) return;
    if (buf_append(&last->text, answer->text.data, answer->text.size) != ERR_ok ||
        buf_append(&last->expert, answer->expert.data, answer->expert.size) != ERR_ok ||
        buf_append(&last->hint, answer->hint.data, slot->reset.hint && last->step == 0 ? answer->hint.size : 0) != ERR_ok) {
        last->outcome = OUTCOME_env_error;
        last->reward = 0;
        last->terminated = false;
    }
}

static void count(struct cluster_counters *counters, const struct slot_answer *last)
{
    counters->errors += last->outcome == OUTCOME_env_error;
    counters->crashes += last->outcome == OUTCOME_env_crash;
    counters->timeouts += last->outcome == OUTCOME_env_timeout;
    counters->terminated += last->terminated;
}

/* What an environment said, or what is said for it: recorded, passed on, and acted upon. */
static void settle(struct slot *slot, const struct provider_answer *answer)
{
    const struct provider_answer over = {.outcome = OUTCOME_env_error,
                                         .detail = span_text("the episode was over at its reset")};
    struct cluster *cluster = slot->cluster;
    /* nothing was done: no outcome of a policy */
    if (slot->state == SLOT_STATE_RESETTING && answer->outcome == OUTCOME_ok && answer->terminated) answer = &over;
    cluster->counters.resets += slot->state == SLOT_STATE_RESETTING;
    cluster->counters.steps += slot->state == SLOT_STATE_STEPPING;
    if (slot->state == SLOT_STATE_STEPPING) slot->step++;
    record(slot, answer);
    count(&cluster->counters, &slot->last);
    cluster_emit(cluster, slot);
    if (slot->last.outcome == OUTCOME_ok && !slot->last.terminated)
        slots_move(&cluster->slots, slot, SLOT_STATE_READY);
    else
        cluster_end(cluster, slot);
}

static void on_done(void *ctx, const struct provider_answer *answer)
{
    struct slot *slot = ctx;
    struct cluster *cluster = slot->cluster;
    settle(slot, answer);
    cluster_pump(cluster);
}

void cluster_fail(struct slot *slot, enum outcome outcome, const char *detail)
{
    struct provider_answer answer = {.outcome = outcome, .detail = span_text(detail)};
    settle(slot, &answer);
}

/* ---- time ---- */

void cluster_arm(struct cluster *cluster, uint64_t when_ms)
{
    if (uv_is_active((uv_handle_t *)&cluster->janitor) && cluster->due_ms <= when_ms) return;
    uint64_t now = uv_now(cluster->loop);
    cluster->due_ms = when_ms;
    (void)uv_timer_start(&cluster->janitor, on_janitor, when_ms > now ? when_ms - now : 0, 0);
}

uint64_t cluster_due(const struct slot *slot)
{
    if (slot->state == SLOT_STATE_WAITING) return min_u64(slot->asker_ms, slot->expires_ms);
    if (slot->state == SLOT_STATE_READY) return slot->expires_ms;
    return min_u64(slot->call_ms, slot->expires_ms);
}

static void overdue(struct cluster *cluster, struct slot *slot, uint64_t now)
{
    char detail[SLOT_DETAIL_BYTES];
    if (slot->expires_ms <= now) {
        cluster->counters.expired++;
        cluster_fail(slot, OUTCOME_timeout, "the slot's time to live ran out");
    } else if (slot->state == SLOT_STATE_WAITING) {
        cluster_fail(slot, OUTCOME_env_timeout,
                     slot->home ? "no slot became free in time" : "the job is not known to this cluster");
    } else {
        (void)snprintf(detail, sizeof detail, "no answer within %lu ms", (unsigned long)slot->limit_ms);
        cluster_fail(slot, OUTCOME_env_timeout, detail);
    }
}

static void on_janitor(uv_timer_t *timer)
{
    struct cluster *cluster = timer->data;
    uint64_t now = uv_now(cluster->loop), next = UINT64_MAX;
    struct slot_list *const lists[] = {&cluster->slots.waiting, &cluster->slots.seated};
    for (size_t i = 0; i < 2; i++) {
        for (struct slot *slot = lists[i]->first, *after; slot; slot = after) {
            after = slot->next;
            if (cluster_due(slot) <= now)
                overdue(cluster, slot, now);
            else
                next = min_u64(next, cluster_due(slot));
        }
    }
    if (next != UINT64_MAX) cluster_arm(cluster, next);
    cluster_pump(cluster);
}

/* ---- seats ---- */

void cluster_begin_call(struct cluster *cluster, struct slot *slot, enum slot_state state, uint64_t limit_ms)
{
    uint64_t now = uv_now(cluster->loop);
    slot->limit_ms = min_u64(limit_ms, slot->asker_ms > now ? slot->asker_ms - now : 0);
    slot->call_ms = now + slot->limit_ms;
    slot->called_ns = uv_hrtime();
    slots_move(&cluster->slots, slot, state);
    cluster_arm(cluster, slot->call_ms);
}

static void begin(struct cluster *cluster, struct slot *slot)
{
    struct home *home = slot->home;
    bool fresh = false;
    if (home->class->enter(home->provider, on_done, slot, &slot->seat, &fresh) != ERR_ok) {
        cluster_fail(slot, OUTCOME_env_crash, err_text());
        return;
    }
    home->used++;
    cluster_begin_call(cluster, slot, SLOT_STATE_RESETTING, home->step_timeout_ms + (fresh ? CLUSTER_FRESH_MS : 0));
    slot->reset.task_text = buf_span(&slot->task);
    home->class->reset(slot->seat, &slot->reset);
}

/* Seats who waits, oldest first. Never nested: a reset that is answered at once would otherwise call it again from inside. */
void cluster_pump(struct cluster *cluster)
{
    if (cluster->pumping || cluster->closing) return;
    cluster->pumping = true;
    for (struct slot *slot = cluster->slots.waiting.first, *after; slot; slot = after) {
        after = slot->next;
        if (slot->home && slot->home->used < slot->home->slots) begin(cluster, slot);
    }
    cluster->pumping = false;
}
