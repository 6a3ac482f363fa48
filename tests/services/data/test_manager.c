/* LABELS: unit store
 * What the real pal-data survives, against scripted peers (tests/support/stage.h): kill -9, a second data manager, a lost
 * connection. */
#include "tests/support/stage.h"

START_TEST(a_killed_data_manager_goes_on)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    const struct stage_job job = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 6, .staleness = 1};
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 16);
    worker_end(worker, &worker->leases[0], "env_error", 0);
    WAIT_FOR(worker->lease_count == 17); /* one failure of its class is in the ledger */
    for (size_t i = 1; i < 9; i++) {
        worker_end(worker, &worker->leases[i], "ok", i % 2 ? 1.0 : 0.0);
        if (i % 3) continue;
        uint64_t again = worker->hellos_again; /* killed before, in the middle of, or after what it was told last */
        stage_restart();
        WAIT_FOR(worker->hellos_again > again && worker_acked(worker));
        ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'done'", 0), (int64_t)i);
    }
    ck_assert_int_eq(ledger_ask("SELECT epoch FROM data_epoch", 0), 3);
    ck_assert_int_eq(worker_fails(worker, worker->leases[0].episode, "env_error"), 2); /* and they are counted on */
    trainer_ask(trainer, 1);
    stage_restart();
    stage_update(trainer, worker, 1);
    ck_assert_uint_eq(trainer_batch(trainer, 1)->count, 7);
    trainer_say_done(trainer, 2, trainer->lineage, "applied", 2); /* not even asked for: nothing to apply */
    stage_restart();
    stage_update(trainer, worker, 2);
    stage_update(trainer, worker, 3);
    ck_assert_int_eq(trainer->lineage, 0); /* the same trainer: no new lineage */
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM batch WHERE job = $1 AND state <> 'handed_out'", 0), 4);
    ck_assert_int_eq(ledger_ask("SELECT count(DISTINCT token) FROM episode WHERE job = $1 AND token > 0", 0) ==
                         ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND token > 0", 0),
                     1);
}
END_TEST

START_TEST(leases_outlive_a_restart)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout"),
                *dead = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 4);
    WAIT_FOR(worker->lease_count == 4);
    WAIT_FOR(dead->job == (uint64_t)stage.job);
    worker_request(dead, 4);
    WAIT_FOR(dead->lease_count == 4);
    dead->mute = true;
    stage_restart();
    WAIT_FOR(worker->hellos_again > 0);
    worker_request(worker, 4);
    WAIT_FOR(worker->lease_count == 8); /* those of the worker that is not there any more */
    for (size_t i = 4; i < 8; i++) ck_assert_uint_eq(worker->leases[i].attempt, 1);
    uint64_t end = uv_now(&stage.loop) + 300;
    WAIT_FOR(uv_now(&stage.loop) > end);         /* a few looks at the leases later */
    ck_assert_uint_eq(worker->revoked_count, 0); /* its own are still its own */
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'leased' AND attempt = 0", 0), 4);
    stage_update(trainer, worker, 1);
}
END_TEST

START_TEST(a_second_data_manager_fences_the_first)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    struct manager *second = manager_join("two");
    WAIT_FOR(ledger_ask("SELECT epoch FROM data_epoch", 0) == 2);
    struct peer *next = peer_join(second, "rollout", worker);
    WAIT_FOR(next->job == (uint64_t)stage.job);
    ck_assert_uint_eq(next->epoch, 2);
    int64_t before = ledger_digest();
    worker_play(worker, true); /* to the older one */
    int code = -1;
    WAIT_FOR((code = manager_ended(&stage.managers[0])) >= 0);
    ck_assert_int_eq(code, 3);
    ck_assert_uint_eq(worker->acks, 0);
    ck_assert_int_eq(ledger_digest(), before);
    memcpy(next->leases, worker->leases, sizeof next->leases); /* the worker itself, on its new link */
    next->lease_count = worker->lease_count;
    worker_resend(next);
    WAIT_FOR(worker_acked(next));
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'done'", 0), 8);
    struct peer *again = peer_join(second, "trainer", trainer);
    WAIT_FOR(again->job == (uint64_t)stage.job);
    ck_assert_int_eq(again->lineage, 0);
    ck_assert_uint_eq(trainer_fetch(again, 1)->count, 8);
}
END_TEST

START_TEST(a_lost_connection_loses_nothing)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    for (size_t i = 0; i < 8; i++) {
        if (i % 3 == 1) /* the server ends every session but ours */
            ck_assert_int_eq(ledger_ask("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                                        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                                        " AND backend_type = 'client backend'",
                                        0),
                             1);
        worker_end(worker, &worker->leases[i], "ok", i % 2 ? 1.0 : 0.0);
        uint64_t next = 0;
        WAIT_FOR(worker_delivered(worker, &next));
        ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'done'", 0), (int64_t)i + 1);
    }
    ck_assert_uint_eq(trainer_fetch(trainer, 1)->count, 8);
    ck_assert_int_eq(ledger_ask("SELECT epoch FROM data_epoch", 0), 1); /* the same data manager all along */
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND cardinality(failures) > 0", 0), 0);
}
END_TEST

/* The trainer was told that there is nothing more, or not yet; its last checkpoint is committed, or not yet. */
START_TEST(a_job_ends_though_its_end_was_forgotten)
{
    bool told = _i & 1, saved = _i & 2;
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 8);
    stage_update(trainer, worker, 1);
    WAIT_FOR(worker->lease_count == 16);
    stage_update(trainer, worker, 2);
    if (saved) trainer_commit(trainer, 2);
    if (told && !saved) ck_assert_str_eq(trainer_fetch(trainer, 3)->kind, "end"); /* it would end with both */
    ck_assert(ledger_state_is(stage.job, "running"));
    stage_restart();
    if (!told && !saved) ck_assert_str_eq(trainer_fetch(trainer, 3)->kind, "end");
    if (!saved) trainer_commit(trainer, 2);
    WAIT_FOR(trainer->stopped_job == (uint64_t)stage.job);
    ck_assert(ledger_state_is(stage.job, "succeeded"));
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM job WHERE id = $1 AND reason = 'updates'", 0), 1);
}
END_TEST

static void play_evaluation(struct peer *worker, double reward)
{
    for (size_t i = 0; i < worker->lease_count; i++) {
        struct lease *lease = &worker->leases[i];
        if (!lease->said && strcmp(lease->source, "evaluation") == 0 && lease->pin_version <= worker->wanted)
            worker_end(worker, lease, "ok", reward);
    }
}

/* What ended the job lies past the newest checkpoint when its trainer dies: it is made again, not taken as reached. */
START_TEST(a_success_past_the_checkpoint_is_reached_again)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    const struct stage_job job = {.tasks = 8,
                                  .group_size = 4,
                                  .groups = 2,
                                  .updates = 9,
                                  .evaluated = 4,
                                  .every = 1,
                                  .more = ", \"stop\": {\"holdout_success\": 0.5}"};
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 12);
    play_evaluation(worker, 0);
    stage_update(trainer, worker, 1);
    WAIT_FOR((play_evaluation(worker, 1), ledger_ask("SELECT count(*) FROM evaluation WHERE job = $1 AND successes = 4", 0)));
    stage_restart(); /* it is not forgotten either */
    ck_assert_str_eq(trainer_fetch(trainer, 2)->kind, "end");
    trainer->mute = true;
    trainer = stage_join("trainer");
    WAIT_FOR(trainer->job == (uint64_t)stage.job);
    ck_assert_int_eq(trainer->resume_version, 0);
    trainer_publish(trainer, 0);
    ck_assert_str_eq(trainer_fetch(trainer, 1)->kind, "update");
    trainer_apply(trainer, 1);
    trainer_publish(trainer, 1);
    WAIT_FOR(
        (play_evaluation(worker, 1), ledger_ask("SELECT count(*) FROM evaluation WHERE job = $1 AND successes = 4", 0) == 2));
    ck_assert_str_eq(trainer_fetch(trainer, 2)->kind, "end");
    trainer_commit(trainer, 1);
    WAIT_FOR(trainer->stopped_job == (uint64_t)stage.job);
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM job WHERE id = $1 AND reason = 'holdout_success' AND version = 1 AND lineage = 1",
                   0),
        1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {a_killed_data_manager_goes_on,
                                  leases_outlive_a_restart,
                                  a_second_data_manager_fences_the_first,
                                  a_lost_connection_loses_nothing,
                                  a_job_ends_though_its_end_was_forgotten,
                                  a_job_ends_though_its_end_was_forgotten,
                                  a_job_ends_though_its_end_was_forgotten,
                                  a_job_ends_though_its_end_was_forgotten,
                                  a_success_past_the_checkpoint_is_reached_again};
    return stage_main("data.manager", tests, sizeof tests / sizeof *tests);
}
