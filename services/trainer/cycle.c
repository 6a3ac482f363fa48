#include "services/trainer/cycle.h"

#include "services/common/run/crash.h"
#include "services/common/run/log.h"

#include <stdio.h>

static void go(struct cycle *cycle);

static uint64_t now_ms(const struct cycle *cycle)
{
    return uv_now(&cycle->service->loop);
}

/* ---- what is told ---- */

static void tell_failed(struct cycle *cycle, struct assignment *a)
{
    const struct wire_job_failed message = {.job = a->job, .service = span_text("trainer"), .reason = span_text(a->reason)};
    a->told_ms = now_ms(cycle);
    service_tell(cycle->service, WIRE_job_failed, &message);
}

static void fail(struct cycle *cycle, struct assignment *a, const char *what, const char *why)
{
    int n = snprintf(a->reason, sizeof a->reason, "%s: %s", what, why);
    if (n >= (int)sizeof a->reason) a->reason[sizeof a->reason - 1] = 0;
    a->failed = true;
    log_error("job %lu cannot go on: %s", (unsigned long)a->job, a->reason);
    tell_failed(cycle, a);
}

/* the newest version on the shelf; trainee may be with the compute thread */
static void tell_published(struct cycle *cycle, const struct assignment *a)
{
    const struct shelf_policy *newest = &a->shelf.policies[a->shelf.count - 1];
    char path[SHELF_PATH_BYTES];
    shelf_path(&a->shelf, newest->lineage, newest->version, path);
    const struct wire_policy_published message = {.job = a->job,
                                                  .lineage = newest->lineage,
                                                  .version = newest->version,
                                                  .digest = span_text(a->digest.hex),
                                                  .where = span_text(path)};
    service_tell(cycle->service, WIRE_policy_published, &message);
}

static void tell_reward(struct cycle *cycle, const struct assignment *a)
{
    char path[SHELF_PATH_BYTES];
    if (a->reward_version == 0) return;
    shelf_reward_path(&a->shelf, a->lineage, a->reward_version, path);
    const struct wire_policy_published message = {.job = a->job,
                                                  .lineage = a->lineage,
                                                  .version = a->reward_version,
                                                  .digest = span_text(a->reward.hex),
                                                  .where = span_text(path),
                                                  .role = span_text("orm")};
    service_tell(cycle->service, WIRE_policy_published, &message);
}

static void ask(struct cycle *cycle, struct assignment *a)
{
    const struct wire_batch_request message = {.job = a->job, .lineage = a->lineage, .update = a->want};
    a->told_ms = now_ms(cycle);
    a->asked = true;
    cycle->counters.batch_requests++;
    service_tell(cycle->service, WIRE_batch_request, &message);
}

/* ---- what comes back from the compute thread ---- */

static bool note_published(struct cycle *cycle, struct assignment *a)
{
    if (shelf_add(&a->shelf, a->lineage, a->trainee->version) != ERR_ok) {
        fail(cycle, a, "publishing a policy", err_text());
        return false;
    }
    a->digest = cycle->compute.digest;
    cycle->counters.published++;
    tell_published(cycle, a);
    return true;
}

static void note_reward(struct cycle *cycle, struct assignment *a)
{
    a->reward = cycle->compute.reward;
    a->reward_version = a->trainee->orm_version;
    shelf_add_reward(&a->shelf, a->lineage, a->reward_version);
    cycle->counters.published++;
    tell_reward(cycle, a);
}

static void after_prepare(struct cycle *cycle, struct assignment *a)
{
    const struct compute *c = &cycle->compute;
    if (c->err != ERR_ok) {
        fail(cycle, a, "preparing the job", c->err_text);
        return;
    }
    a->prepared = true;
    log_info("job %lu, lineage %ld: %zu parameters, vocabulary %d, %s version %ld, %.0f ms", (unsigned long)a->job,
             (long)a->lineage, a->trainee->model->count, a->trainee->model->config.vocab,
             a->resume_version < 0 ? "new," : "resumed at", (long)a->trainee->version, c->took_ms);
    if (a->archive.orphans) log_info("job %lu: %zu orphan files are gone", (unsigned long)a->job, a->archive.orphans);
    if (c->published && !note_published(cycle, a)) return;
    if (c->rewarded) note_reward(cycle, a);
    ask(cycle, a);
}

static err_t tell_update_done(struct cycle *cycle, const struct assignment *a)
{
    const struct compute *c = &cycle->compute;
    const struct wire_update_done message = {.job = a->job,
                                             .lineage = a->lineage,
                                             .update = a->want,
                                             .outcome = span_text(c->result.outcome),
                                             .version = a->trainee->version,
                                             .digest = span_text(a->digest.hex)};
    return outbox_update_done(&cycle->outbox, &message, &c->result.figures);
}

static void count_batch(struct cycle *cycle, const struct compute *c)
{
    cycle->counters.tokens_trained += c->result.figures.tokens_trained;
    cycle->counters.busy_ms += c->took_ms;
    if (strcmp(c->result.outcome, "applied") == 0)
        cycle->counters.updates++;
    else if (strcmp(c->result.outcome, "skipped") == 0)
        cycle->counters.skipped++;
    else
        cycle->counters.numeric++;
}

static void log_batch(const struct assignment *a, const struct compute *c)
{
    const struct diagnostics *f = &c->result.figures;
    log_debug("update %ld %s: loss %.5f, %.0f tokens, %.1f ms", (long)a->want, c->result.outcome, f->loss, f->tokens_trained,
              c->took_ms);
    if (c->result.warning[0])
        log_warn("job %lu: update %ld: left out: %s", (unsigned long)a->job, (long)a->want, c->result.warning);
    if (f->own_gap_max > DIAGNOSTICS_OWN_GAP)
        log_warn("job %lu: update %ld: sampler and learner differ by %.2g in the log-probs of the same weights",
                 (unsigned long)a->job, (long)a->want, f->own_gap_max);
    if (c->phase_end)
        log_info("job %lu: phase %ld ended with update %ld", (unsigned long)a->job, (long)a->trainee->phase - 1,
                 (long)a->want);
}

static void after_batch(struct cycle *cycle, struct assignment *a)
{
    struct compute *c = &cycle->compute;
    intake_free(&a->batch);
    if (c->err != ERR_ok) {
        char what[64];
        (void)snprintf(what, sizeof what, "update %ld", (long)a->want);
        fail(cycle, a, what, c->err_text);
        return;
    }
    count_batch(cycle, c);
    log_batch(a, c);
    if (c->published) a->digest = c->digest;
    c->result.figures.wait_ms = a->waited_ms;
    if (tell_update_done(cycle, a) != ERR_ok) {
        fail(cycle, a, "reporting an update", err_text());
        return;
    }
    crash_count(a->lineage, a->want);
    crash_here(CRASH_update_told);
    if (c->published && !note_published(cycle, a)) return;
    if (c->rewarded) note_reward(cycle, a);
    crash_here(CRASH_policy_told);
    if (a->trainee->bad_updates > (uint64_t)a->spec.trainer.max_bad_updates) {
        fail(cycle, a, "more updates than trainer.max_bad_updates were not finite; the last one", c->result.warning);
        return;
    }
    /* the end of a phase is durable before anything of the next one is computed */
    a->save_due =
        c->phase_end || (a->want % a->spec.trainer.checkpoint_every == 0 && a->trainee->version != a->saved_version);
    a->want++;
    if (!cycle->drain_until_ms) ask(cycle, a);
}

static void after_save(struct cycle *cycle, struct assignment *a)
{
    const struct compute *c = &cycle->compute;
    cycle->counters.checkpoint_ms += c->took_ms;
    if (c->err != ERR_ok) {
        cycle->counters.checkpoint_retries++;
        if (++a->save_attempts == CYCLE_SAVE_ATTEMPTS) {
            fail(cycle, a, "saving a checkpoint", c->err_text);
            return;
        }
        log_warn("job %lu: a checkpoint could not be saved, it is tried again: %s", (unsigned long)a->job, c->err_text);
        a->save_at_ms = now_ms(cycle) + CYCLE_SAVE_RETRY_MS;
        return;
    }
    a->save_attempts = 0;
    a->save_due = false;
    if (cycle->drain_until_ms) cycle->drain_until_ms = now_ms(cycle) + CYCLE_DRAIN_ACK_MS;
    a->saved_version = a->trainee->version;
    cycle->counters.checkpoints++;
    const struct wire_checkpoint_committed message = {.job = a->job,
                                                      .lineage = a->lineage,
                                                      .version = a->trainee->version,
                                                      .update = a->trainee->update,
                                                      .path = span_text(c->saved.path),
                                                      .sha256 = span_text(c->saved.sha256.hex),
                                                      .size = c->saved.size,
                                                      .digest = span_text(a->digest.hex)};
    if (outbox_checkpoint(&cycle->outbox, &message) != ERR_ok) fail(cycle, a, "reporting a checkpoint", err_text());
    crash_count(a->lineage, a->trainee->update);
    crash_here(CRASH_checkpoint_told);
}

static void on_done(struct compute *compute)
{
    struct cycle *cycle = compute->request.loop->data;
    struct assignment *a = compute->assignment;
    compute->assignment = NULL;
    if (!a->dropped && !cycle->service->stopping) {
        switch (compute->kind) {
        case COMPUTE_KIND_prepare:
            after_prepare(cycle, a);
            break;
        case COMPUTE_KIND_batch:
            after_batch(cycle, a);
            break;
        case COMPUTE_KIND_save:
            after_save(cycle, a);
            break;
        }
    }
    go(cycle);
}

/* ---- what comes next ---- */

static void start(struct cycle *cycle, enum compute_kind kind, struct assignment *a)
{
    if (compute_start(&cycle->compute, &cycle->service->loop, kind, a) != ERR_ok)
        fail(cycle, a, "starting to compute", err_text());
}

static void start_batch(struct cycle *cycle, struct assignment *a)
{
    if (a->batch->kind == INTAKE_KIND_end) {
        log_info("job %lu: the last update was %ld", (unsigned long)a->job, (long)a->trainee->update);
        intake_free(&a->batch);
        a->ended = true;
        a->save_due = a->trainee->version != a->saved_version;
        go(cycle);
        return;
    }
    a->waited_ms = a->idle_since_ns ? (double)(uv_hrtime() - a->idle_since_ns) / 1e6 : 0;
    a->idle_since_ns = 0;
    cycle->counters.wait_ms += a->waited_ms;
    start(cycle, COMPUTE_KIND_batch, a);
}

static void replace(struct cycle *cycle)
{
    if (cycle->now->stopped) shelf_remove_job(cycle->service->state_dir, cycle->now->job);
    assignment_free(&cycle->now);
    outbox_clear(&cycle->outbox);
    cycle->now = cycle->next;
    cycle->next = NULL;
}

static void go(struct cycle *cycle)
{
    if (cycle->service->stopping || cycle->compute.assignment || cycle->drain_until_ms) return;
    if (cycle->now && cycle->now->dropped) replace(cycle);
    struct assignment *a = cycle->now;
    if (!a || a->failed) return;
    if (!a->prepared) {
        start(cycle, COMPUTE_KIND_prepare, a);
    } else if (a->save_due) {
        if (now_ms(cycle) >= a->save_at_ms && !outbox_full(&cycle->outbox)) start(cycle, COMPUTE_KIND_save, a);
    } else if (a->batch && !outbox_full(&cycle->outbox)) {
        start_batch(cycle, a);
    } else if (a->asked && a->idle_since_ns == 0) {
        a->idle_since_ns = uv_hrtime();
    }
}

/* ---- messages ---- */

static void drop(struct assignment *a, bool stopped)
{
    atomic_store(&a->cancel, true);
    a->dropped = true;
    a->stopped = stopped;
}

/* true: nothing new; it is the one there is, or an older one */
static bool is_known(struct cycle *cycle, const struct assignment *a, const struct wire_job_assign *message)
{
    if (!a || a->dropped || a->job != message->job || message->lineage > a->lineage) return false;
    cycle->counters.ignored++;
    if (message->lineage < a->lineage)
        log_warn("job %lu: an assignment of lineage %ld is older than %ld: ignored", (unsigned long)a->job,
                 (long)message->lineage, (long)a->lineage);
    return true;
}

void cycle_assign(struct cycle *cycle, const struct wire_job_assign *message)
{
    if (is_known(cycle, cycle->next, message) || is_known(cycle, cycle->now, message)) return;
    struct assignment *a = NULL;
    err_t err = assignment_new(&a, message);
    if (err != ERR_ok) {
        log_err(LOG_LEVEL_ERROR, err, "an assignment");
        return;
    }
    log_info("assigned: job %lu, lineage %ld", (unsigned long)a->job, (long)a->lineage);
    if (cycle->now) {
        if (!cycle->now->dropped) drop(cycle->now, false);
        if (cycle->now->job != a->job) cycle->now->stopped = true;
        assignment_free(&cycle->next);
        cycle->next = a;
    } else {
        cycle->now = a;
    }
    go(cycle);
}

void cycle_stop_job(struct cycle *cycle, const struct wire_job_stop *message)
{
    log_info("job %lu: stop: %.*s", (unsigned long)message->job, SPAN_ARG(message->reason));
    if (cycle->next && cycle->next->job == message->job) assignment_free(&cycle->next);
    if (cycle->now && cycle->now->job == message->job)
        drop(cycle->now, true);
    else
        shelf_remove_job(cycle->service->state_dir, message->job);
    go(cycle);
}

void cycle_batch(struct cycle *cycle, const struct wire_batch *message)
{
    struct assignment *a = cycle->now;
    bool wanted = a && !a->dropped && !a->failed && !a->ended && !a->batch && a->job == message->job &&
                  a->lineage == message->lineage && a->want == message->update && a->asked;
    if (!wanted) {
        cycle->counters.ignored++;
        return;
    }
    if (intake_new(&a->batch, message) != ERR_ok) {
        fail(cycle, a, "taking a batch in", err_text());
        return;
    }
    if (a->batch->kind != INTAKE_KIND_end && (a->batch->kind == INTAKE_KIND_warmstart) != (a->want == 0)) {
        fail(cycle, a, "taking a batch in", "only update 0 is a warm start");
        return;
    }
    a->asked = false;
    go(cycle);
}

void cycle_policy_ack(struct cycle *cycle, const struct wire_policy_ack *message)
{
    struct assignment *a = cycle->now;
    if (a && !a->dropped && a->prepared && a->job == message->job)
        shelf_pin(&a->shelf, message->pinned.v, message->pinned.n);
    else
        cycle->counters.ignored++;
}

void cycle_trainer_ack(struct cycle *cycle, const struct wire_trainer_ack *message)
{
    struct assignment *a = cycle->now;
    if (!a || a->dropped || a->job != message->job || !outbox_ack(&cycle->outbox, message)) {
        cycle->counters.ignored++;
        return;
    }
    if (message->what == WIRE_checkpoint_committed && !outbox_holds(&cycle->outbox, WIRE_checkpoint_committed)) {
        crash_count(message->lineage, message->update);
        crash_here(CRASH_checkpoint_acked);
        cycle->counters.checkpoints_deleted += archive_prune(&a->archive, (size_t)a->spec.trainer.checkpoints_kept);
    }
    go(cycle);
}

/* ---- time and ends ---- */

/* What was computed becomes durable, its acknowledgement is waited for, and the process ends. */
static void drain(struct cycle *cycle)
{
    struct assignment *a = cycle->now;
    bool keeps = a && !a->dropped && !a->failed, late = now_ms(cycle) >= cycle->drain_until_ms;
    if (keeps && !late && cycle->compute.assignment) return;
    if (keeps && !late && a->trainee->version != a->saved_version && a->save_attempts == 0) {
        if (outbox_full(&cycle->outbox)) return;
        cycle->drain_until_ms = now_ms(cycle) + CYCLE_DRAIN_MS;
        start(cycle, COMPUTE_KIND_save, a);
    } else if (!keeps || late || cycle->outbox.count == 0) {
        service_quit(cycle->service, 0);
    }
}

void cycle_tick(struct cycle *cycle)
{
    struct assignment *a = cycle->now;
    outbox_resend(&cycle->outbox, false);
    if (cycle->drain_until_ms) {
        drain(cycle);
        return;
    }
    if (a && !a->dropped && now_ms(cycle) - a->told_ms >= CYCLE_ASK_MS) {
        if (a->failed) {
            tell_failed(cycle, a);
        } else if (a->asked) { /* no answer may mean that the newest version was never heard of */
            if (a->digest.hex[0]) tell_published(cycle, a);
            ask(cycle, a);
        }
    }
    go(cycle);
}

void cycle_hello_again(struct cycle *cycle)
{
    struct assignment *a = cycle->now;
    outbox_resend(&cycle->outbox, true);
    if (!a || a->dropped) return;
    if (a->failed)
        tell_failed(cycle, a);
    else if (a->prepared && a->digest.hex[0])
        tell_published(cycle, a);
    if (!a->failed && a->prepared) tell_reward(cycle, a);
    if (!a->failed && a->asked) ask(cycle, a);
}

void cycle_init(struct cycle *cycle, struct service *service, struct pool *pool)
{
    cycle->service = service;
    cycle->outbox.service = service;
    cycle->compute.state_dir = service->state_dir;
    cycle->compute.pool = pool;
    cycle->compute.done = on_done;
    service->loop.data = cycle;
}

bool cycle_drain(struct cycle *cycle)
{
    struct assignment *a = cycle->now;
    if (!a || a->dropped || a->failed || !a->prepared || a->want == 0) return false;
    log_info("job %lu: a checkpoint of update %ld is kept first", (unsigned long)a->job, (long)a->want - 1);
    cycle->drain_until_ms = now_ms(cycle) + CYCLE_DRAIN_MS;
    return true;
}

void cycle_quit(struct cycle *cycle)
{
    if (cycle->next) drop(cycle->next, false);
    if (cycle->now) drop(cycle->now, true);
}

void cycle_fini(struct cycle *cycle)
{
    BUG_IF(cycle->compute.assignment); /* the loop ran until no work was left */
    if (cycle->now && cycle->now->stopped) shelf_remove_job(cycle->service->state_dir, cycle->now->job);
    assignment_free(&cycle->now);
    assignment_free(&cycle->next);
    outbox_clear(&cycle->outbox);
}
