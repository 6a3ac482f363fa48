/* LABELS: unit store
 * How groups close in the real pal-data, against scripted peers (tests/support/stage.h): with enough, void, three times void,
 * late, too old. */
#include "tests/support/stage.h"

START_TEST(a_group_closes_with_enough)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 8);
    worker_end(worker, &worker->leases[1], "poisoned", 0);
    worker_end(worker, &worker->leases[2], "poisoned", 0);
    worker_play(worker, true);
    const struct batch *batch = trainer_fetch(trainer, 1);
    ck_assert_uint_eq(batch->count, 6);
    ck_assert_int_eq(
        ledger_ask(
            "SELECT cardinality(array_positions(advantage, NULL))::bigint FROM episode_group WHERE job = $1 AND id = $2",
            (int64_t)worker->leases[0].group),
        2);
    ck_assert_int_eq(
        ledger_ask("SELECT done::bigint FROM episode_group WHERE job = $1 AND id = $2", (int64_t)worker->leases[0].group), 2);
}
END_TEST

START_TEST(three_void_groups_quarantine_a_task)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    const struct stage_job job = {.tasks = 3, .group_size = 2, .groups = 2, .updates = 50};
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 4);
    uint64_t task = worker->leases[0].task;
    int64_t update = 1;
    while (!ledger_ask("SELECT count(*) FROM task WHERE job = $1 AND id = $2 AND state = 'quarantined'", (int64_t)task)) {
        worker_request(worker, 64);
        trainer_ask(trainer, update);
        size_t before = trainer->batch_count;
        WAIT_FOR((worker_play_but(worker, task), trainer->batch_count > before));
        trainer_apply(trainer, update);
        trainer_publish(trainer, update++);
        ck_assert_int_lt(update, 20);
        stage_restart(); /* what is in a row is in the ledger, not in a counter */
    }
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM episode_group WHERE job = $1 AND task = $2 AND verdict = 'void'", (int64_t)task), 3);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND subject = 'task' AND key = $2"
                                " AND verdict = 'quarantined'",
                                (int64_t)task),
                     1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM job_event WHERE job = $1 AND kind = 'quarantine'", 0), 1);
    size_t first = worker->lease_count;
    for (int64_t last = update + 4; update < last; update++) {
        worker_request(worker, 64);
        size_t before = trainer->batch_count;
        trainer_ask(trainer, update);
        WAIT_FOR((worker_play_but(worker, UINT64_MAX), trainer->batch_count > before));
        trainer_apply(trainer, update);
        trainer_publish(trainer, update);
    }
    for (size_t i = first; i < worker->lease_count; i++) ck_assert_uint_ne(worker->leases[i].task, task);
}
END_TEST

START_TEST(a_late_group_is_dropped)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = STAGE_SMALL;
    job.trainer = ", \"late\": \"drop\", \"straggler_ms\": 100";
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 8);
    for (size_t i = 0; i < 5; i++) worker_end(worker, &worker->leases[i], "ok", i % 2 ? 1.0 : 0.0);
    WAIT_FOR(worker_acked(worker));
    struct lease *late = &worker->leases[5];
    trainer_ask(trainer, 1); /* now it is waited for */
    WAIT_FOR(worker->lease_count == 12);
    for (size_t i = 5; i < 8; i++) ck_assert(worker_revoked(worker, worker->leases[i].episode));
    ck_assert(!worker_revoked(worker, worker->leases[4].episode)); /* it has ended */
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode_group WHERE job = $1 AND id = $2 AND state = 'void'"
                                " AND verdict = 'stale'",
                                (int64_t)late->group),
                     1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND subject = 'group' AND key = $2"
                                " AND rule = 'late' AND verdict = 'stale'",
                                (int64_t)late->group),
                     1);
    ck_assert_int_eq(
        ledger_ask("SELECT update_for FROM episode_group WHERE job = $1 AND replaces = $2", (int64_t)late->group), 1);
    uint64_t group = late->group;
    worker_play(worker, true); /* the late ones too */
    WAIT_FOR(trainer_has(trainer, 1) && worker_acked(worker));
    for (size_t i = 0; i < 8; i++) ck_assert_uint_ne(trainer_batch(trainer, 1)->group[i], group);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'void' AND outcome = 'stale'", 0),
                     3);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM task WHERE job = $1 AND state = 'quarantined'", 0), 0);
}
END_TEST

START_TEST(a_late_group_is_cut_short)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = STAGE_SMALL;
    job.trainer = ", \"late\": \"wait\", \"straggler_ms\": 100";
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    for (size_t i = 0; i < 6; i++) worker_end(worker, &worker->leases[i], "ok", i % 2 ? 1.0 : 0.0);
    trainer_ask(trainer, 1);
    WAIT_FOR((worker_request(worker, 8), trainer_has(trainer, 1))); /* it retries in vain */
    ck_assert_uint_eq(trainer_batch(trainer, 1)->count, 6);
    ck_assert(worker_revoked(worker, worker->leases[6].episode));
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'void' AND outcome = 'timeout'", 0),
                     2);
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM episode_group WHERE job = $1 AND state = 'closed' AND verdict = 'signal'", 0), 2);
}
END_TEST

START_TEST(a_group_of_too_old_weights_is_dropped)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    stage_update(trainer, worker, 1);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 16);
    ck_assert_int_eq(worker->leases[8].min_version, 1);
    worker->wanted = 0; /* whatever its lease said */
    for (size_t i = 8; i < 12; i++) worker_end(worker, &worker->leases[i], "ok", i % 2 ? 1.0 : 0.0);
    worker_request(worker, 4);
    WAIT_FOR(worker->lease_count == 20);
    worker->wanted = 1;
    worker_play(worker, true);
    ck_assert_uint_eq(trainer_fetch(trainer, 2)->count, 8);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode_group WHERE job = $1 AND id = $2 AND verdict = 'stale'",
                                (int64_t)worker->leases[8].group),
                     1);
}
END_TEST

/* The update's only group never has variance: its place is filled three times more, whatever dies in between. */
START_TEST(a_place_is_refilled_three_times)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    const struct stage_job job = {
        .tasks = 8, .group_size = 2, .groups = 1, .updates = 2, .more = ", \"curation\": {\"refill\": true}"};
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    trainer_ask(trainer, 1);
    for (size_t group = 1; group <= 4; group++) {
        WAIT_FOR(worker->lease_count == 2 * group);
        ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode_group WHERE job = $1 AND verdict = 'refilled'", 0),
                         (int64_t)group - 1);
        ck_assert(!trainer_has(trainer, 1));
        stage_restart();
        worker_play(worker, false);
    }
    WAIT_FOR(trainer_has(trainer, 1));
    ck_assert_uint_eq(trainer_batch(trainer, 1)->no_signal_groups, 1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode_group WHERE job = $1 AND update_for = 1", 0), 4);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'refill'", 0), 3);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_group_closes_with_enough, three_void_groups_quarantine_a_task,   a_late_group_is_dropped,
        a_late_group_is_cut_short,  a_group_of_too_old_weights_is_dropped, a_place_is_refilled_three_times};
    return stage_main("data.group", tests, sizeof tests / sizeof *tests);
}
