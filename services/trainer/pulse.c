/* What the trainer's heartbeat says. */
#include "services/trainer/cycle.h"

void cycle_pulse(const struct cycle *cycle, struct service_pulse *pulse)
{
    const struct cycle_counters *n = &cycle->counters;
    const struct assignment *a = cycle->now;
    if (a && !a->dropped && a->prepared) {
        pulse->beat.job = a->job;
        pulse->beat.lineage = a->lineage;
        if (a->shelf.count > 0) pulse->beat.version = a->shelf.policies[a->shelf.count - 1].version;
        pulse->beat.digest = span_text(a->digest.hex);
    }
    pulse_counter(pulse, "updates", (double)n->updates);
    pulse_counter(pulse, "updates_skipped", (double)n->skipped);
    pulse_counter(pulse, "updates_numeric", (double)n->numeric);
    pulse_counter(pulse, "tokens_trained", n->tokens_trained);
    const struct compute *c = &cycle->compute;
    double computes = c->started_ns && c->kind == COMPUTE_KIND_batch ? (double)(uv_hrtime() - c->started_ns) / 1e6 : 0;
    pulse_counter(pulse, "busy_ms", n->busy_ms + computes);
    double waits = a && a->idle_since_ns ? (double)(uv_hrtime() - a->idle_since_ns) / 1e6 : 0; /* now, not counted yet */
    pulse_counter(pulse, "wait_ms", n->wait_ms + waits);
    pulse_counter(pulse, "checkpoint_ms", n->checkpoint_ms);
    pulse_counter(pulse, "checkpoints", (double)n->checkpoints);
    pulse_counter(pulse, "checkpoints_deleted", (double)n->checkpoints_deleted);
    pulse_counter(pulse, "checkpoint_retries", (double)n->checkpoint_retries);
    pulse_counter(pulse, "policies_published", (double)n->published);
    pulse_counter(pulse, "batch_requests", (double)n->batch_requests);
    pulse_counter(pulse, "messages_ignored", (double)n->ignored);
    pulse_counter(pulse, "messages_resent", (double)cycle->outbox.resent);
    pulse_counter(pulse, "messages_unacknowledged", (double)cycle->outbox.count);
    pulse_counter(pulse, "saving_fails", a ? (double)a->save_attempts : 0);
    pulse_counter(pulse, "computing", cycle->compute.assignment ? 1 : 0);
}
