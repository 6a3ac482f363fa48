/* What scripted peers do together: a job is submitted, played, learned from. */
#include "tests/support/stage.h"

#include <stdio.h>

const struct stage_job STAGE_SMALL = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 2};

static uint64_t requests; /* numbered as a gateway does */

int64_t stage_submit(struct peer *gateway, const struct stage_job *job, const char *key)
{
    char spec[2048];
    (void)snprintf(spec, sizeof spec,
                   "{\"name\": \"script\", \"seed\": 3, \"environments\": [{\"name\": \"adventure\", \"max_steps\": 10,"
                   " \"tasks\": {\"generate\": {\"levels\": [1], \"count\": %d, \"seed\": 7}, \"holdout\": 4}}],"
                   " \"policy\": {\"init\": {\"preset\": \"tiny-0.1m\"}, \"warmstart\": null},"
                   " \"rollout\": {\"group_size\": %d%s},"
                   " \"trainer\": {\"groups_per_update\": %d, \"updates\": %d, \"max_staleness\": %d%s},"
                   " \"evaluation\": {\"every\": %d, \"episodes\": %d}%s}",
                   job->tasks, job->group_size, job->rollout ? job->rollout : "", job->groups, job->updates, job->staleness,
                   job->trainer ? job->trainer : "", job->every, job->evaluated, job->more ? job->more : "");
    const struct wire_job_submit message = {
        .request = ++requests, .remaining_ms = 10000, .idempotency_key = span_text(key), .spec = span_text(spec)};
    uint64_t before = gateway->answers;
    do {
        uint64_t again = gateway->hellos_again;
        before = gateway->answers;
        peer_send(gateway, WIRE_job_submit, &message);
        WAIT_FOR(gateway->answers > before || gateway->hellos_again > again);
    } while (gateway->answers == before || strcmp(gateway->answer_error, "unavailable") == 0);
    ck_assert_str_eq(gateway->answer_error, "");
    return (int64_t)gateway->answer_job;
}

bool stage_ready(struct peer *gateway)
{
    const struct wire_status_request request = {.request = 3, .remaining_ms = 10000};
    uint64_t before = gateway->statuses;
    peer_send(gateway, WIRE_status_request, &request);
    WAIT_FOR(gateway->statuses > before);
    return gateway->ready;
}

void stage_command(struct peer *gateway, int64_t job, const char *word, const char *want_error)
{
    const struct wire_job_command message = {
        .request = ++requests, .remaining_ms = 10000, .job = (uint64_t)job, .command = span_text(word)};
    uint64_t before = gateway->answers;
    peer_send(gateway, WIRE_job_command, &message);
    WAIT_FOR(gateway->answers > before);
    ck_assert_str_eq(gateway->answer_error, want_error);
}

bool trainer_has(const struct peer *trainer, int64_t update)
{
    for (size_t i = 0; i < trainer->batch_count; i++) {
        if (trainer->batches[i].update == update) return true;
    }
    return false;
}

const struct batch *trainer_batch(const struct peer *trainer, int64_t update)
{
    size_t i = trainer->batch_count;
    while (i > 1 && trainer->batches[i - 1].update != update) i--;
    ck_assert_int_eq(trainer->batches[i - 1].update, update);
    return &trainer->batches[i - 1];
}

const struct batch *trainer_fetch(struct peer *trainer, int64_t update)
{
    size_t i = trainer->batch_count;
    trainer_ask(trainer, update);
    WAIT_FOR(i < trainer->batch_count);
    while (trainer->batches[i].update != update) { /* an answer to something else that was asked twice came between */
        i++;
        WAIT_FOR(i < trainer->batch_count);
    }
    const struct batch *batch = &trainer->batches[i];
    ck_assert_int_eq(batch->lineage, trainer->lineage);
    return batch;
}

static void send_done(struct peer *trainer)
{
    const struct wire_update_done done = {.job = trainer->job,
                                          .lineage = trainer->done.lineage,
                                          .update = trainer->done.update,
                                          .outcome = span_text(trainer->done.outcome),
                                          .version = trainer->done.version,
                                          .digest = span_text(STAGE_DIGEST),
                                          .metrics = trainer->done.figures,
                                          .metrics_count = trainer->done.figure_count};
    peer_send(trainer, WIRE_update_done, &done);
}

static void say_done(struct peer *trainer, int64_t update, int64_t lineage, const char *outcome, int64_t version,
                     const struct wire_counter *figures, size_t count)
{
    trainer->done.open = true;
    trainer->done.lineage = lineage;
    trainer->done.update = update;
    trainer->done.version = version;
    trainer->done.outcome = outcome;
    trainer->done.figures = figures;
    trainer->done.figure_count = count;
    send_done(trainer);
}

static const struct wire_counter LOSS = {{(const uint8_t *)"loss", 4}, 0.5};

void trainer_say_done(struct peer *trainer, int64_t update, int64_t lineage, const char *outcome, int64_t version)
{
    say_done(trainer, update, lineage, outcome, version, &LOSS, 1);
}

void trainer_tell(struct peer *trainer, int64_t update, const char *outcome, const struct wire_counter *figures, size_t count)
{
    trainer->applied_ack = -1;
    if (strcmp(outcome, "applied") == 0) trainer->version = update;
    say_done(trainer, update, trainer->lineage, outcome, trainer->version, figures, count);
    WAIT_FOR(trainer->applied_ack == update);
}

void trainer_apply(struct peer *trainer, int64_t update)
{
    trainer_tell(trainer, update, "applied", &LOSS, 1);
}

static void send_published(struct peer *trainer, int64_t version, const char *role)
{
    const struct wire_policy_published published = {.job = trainer->job,
                                                    .lineage = trainer->lineage,
                                                    .version = version,
                                                    .digest = span_text(STAGE_DIGEST),
                                                    .where = span_text("/dev/null"),
                                                    .role = span_text(role)};
    peer_send(trainer, WIRE_policy_published, &published);
}

void trainer_publish(struct peer *trainer, int64_t version)
{
    uint64_t before = trainer->policy_acks;
    trainer->published = version;
    send_published(trainer, version, "");
    WAIT_FOR(trainer->policy_acks > before);
}

void trainer_publish_orm(struct peer *trainer, int64_t version)
{
    uint64_t before = trainer->policy_acks;
    trainer->published_orm = version;
    send_published(trainer, version, "orm");
    WAIT_FOR(trainer->policy_acks > before);
}

static void send_saved(struct peer *trainer)
{
    const struct wire_checkpoint_committed checkpoint = {.job = trainer->job,
                                                         .lineage = trainer->saved.lineage,
                                                         .version = trainer->saved.version,
                                                         .update = trainer->saved.update,
                                                         .path = span_text("/tmp/nowhere.ckpt"),
                                                         .sha256 = span_text(STAGE_DIGEST),
                                                         .size = 100,
                                                         .digest = span_text(STAGE_DIGEST)};
    peer_send(trainer, WIRE_checkpoint_committed, &checkpoint);
}

void trainer_commit(struct peer *trainer, int64_t version)
{
    trainer->committed_ack = -1;
    trainer->saved.open = true;
    trainer->saved.lineage = trainer->lineage;
    trainer->saved.update = trainer->saved.version = version;
    send_saved(trainer);
    WAIT_FOR(trainer->committed_ack == version);
}

void trainer_resend(struct peer *trainer)
{
    if (trainer->published >= 0) send_published(trainer, trainer->published, "");
    if (trainer->published_orm >= 0) send_published(trainer, trainer->published_orm, "orm");
    if (trainer->done.open) send_done(trainer);
    if (trainer->saved.open) send_saved(trainer);
    if (trainer->asked >= 0) trainer_ask(trainer, trainer->asked);
}

void stage_begin(struct peer *gateway, struct peer *trainer, struct peer *worker, const struct stage_job *job)
{
    stage.job = stage_submit(gateway, job, job->key ? job->key : "");
    WAIT_FOR(trainer->job == (uint64_t)stage.job && worker->job == (uint64_t)stage.job);
    const struct batch *start = trainer_fetch(trainer, 0);
    ck_assert_str_eq(start->kind, "warmstart");
    ck_assert_uint_eq(start->count, 0);
    trainer_apply(trainer, 0);
    trainer_publish(trainer, 0);
    trainer_commit(trainer, 0);
    WAIT_FOR(worker->wanted == 0);
}

void stage_update(struct peer *trainer, struct peer *worker, int64_t update)
{
    worker_play(worker, true);
    ck_assert_str_eq(trainer_fetch(trainer, update)->kind, "update");
    trainer_apply(trainer, update);
    trainer_publish(trainer, update);
    WAIT_FOR(worker->wanted == update);
}

void batch_same(const struct batch *a, const struct batch *b)
{
    ck_assert_int_eq(a->update, b->update);
    ck_assert_str_eq(a->kind, b->kind);
    ck_assert_uint_eq(a->norm_tokens, b->norm_tokens);
    ck_assert_uint_eq(a->groups, b->groups);
    ck_assert_uint_eq(a->no_signal_groups, b->no_signal_groups);
    ck_assert_uint_eq(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        ck_assert_uint_eq(a->episode[i], b->episode[i]);
        ck_assert_uint_eq(a->group[i], b->group[i]);
        ck_assert_uint_eq(a->payload[i], b->payload[i]);
        ck_assert_double_eq(a->advantage[i], b->advantage[i]);
        ck_assert_int_eq(a->signal[i], b->signal[i]);
    }
}

bool worker_revoked(const struct peer *worker, uint64_t episode)
{
    for (size_t i = 0; i < worker->revoked_count; i++) {
        if (worker->revoked[i] == episode) return true;
    }
    return false;
}

size_t worker_leases_past(const struct peer *worker, uint64_t episode, size_t first)
{
    size_t count = 0;
    for (size_t i = first; i < worker->lease_count; i++) count += worker->leases[i].episode == episode;
    return count;
}

struct lease *worker_lease(struct peer *worker, uint64_t episode)
{
    size_t i = worker->lease_count;
    while (i > 1 && worker->leases[i - 1].episode != episode) i--;
    ck_assert_uint_eq(worker->leases[i - 1].episode, episode);
    return &worker->leases[i - 1];
}

int worker_fails(struct peer *worker, uint64_t episode, const char *outcome)
{
    for (int tries = 1;; tries++) {
        struct lease *lease = worker_lease(worker, episode);
        size_t before = worker->lease_count;
        worker_end(worker, lease, outcome, 1); /* a reward that must not count */
        WAIT_FOR(lease->acked);
        if (ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND id = $2 AND state = 'void'", (int64_t)episode))
            return tries;
        WAIT_FOR(worker_leases_past(worker, episode, before) == 1);
        ck_assert_uint_gt(worker_lease(worker, episode)->token, lease->token);
        ck_assert_uint_eq(worker_lease(worker, episode)->attempt, lease->attempt + 1);
    }
}
