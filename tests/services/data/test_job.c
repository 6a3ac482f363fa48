/* LABELS: unit store
 * The life of a job in the real pal-data, against scripted peers (tests/support/stage.h): from grants to batches, to its end,
 * cancelled, paused, submitted twice. Each test looks at the messages and at the rows, and ends with every invariant. */
#include "tests/support/stage.h"

static void check_leases(const struct peer *worker, size_t count)
{
    ck_assert_uint_eq(worker->lease_count, count);
    for (size_t i = 0; i < count; i++) {
        const struct lease *lease = &worker->leases[i];
        ck_assert_str_eq(lease->source, "fresh");
        ck_assert_uint_eq(lease->attempt, 0);
        ck_assert_uint_eq(lease->max_steps, 10);
        ck_assert_int_eq(lease->pin_version, -1);
        ck_assert_uint_eq(lease->group, worker->leases[i / 4 * 4].group);
        ck_assert_uint_eq(lease->task, worker->leases[i / 4 * 4].task);
        if (i > 0) ck_assert_uint_gt(lease->token, worker->leases[i - 1].token);
        ck_assert_int_eq(
            ledger_ask("SELECT token FROM episode WHERE job = $1 AND id = $2 AND state = 'leased'", (int64_t)lease->episode),
            (int64_t)lease->token);
    }
}

START_TEST(a_job_from_grants_to_batches)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 8); /* staleness 0: those of the next update, however many are asked for */
    check_leases(worker, 8);
    trainer_ask(trainer, 1);
    for (size_t i = 0; i < 7; i++) worker_end(worker, &worker->leases[i], "ok", i % 2 ? 1.0 : 0.0);
    WAIT_FOR(worker_acked(worker));
    ck_assert(!trainer_has(trainer, 1)); /* a group is open */
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM episode_group WHERE job = $1 AND state = 'closed' AND verdict = 'signal'", 0), 1);
    worker_end(worker, &worker->leases[7], "truncated", 1);
    WAIT_FOR(trainer_has(trainer, 1) && worker_acked(worker));
    const struct batch *batch = trainer_batch(trainer, 1);
    ck_assert_str_eq(batch->kind, "update");
    ck_assert_uint_eq(batch->groups, 2);
    ck_assert_uint_eq(batch->no_signal_groups, 0);
    ck_assert_uint_eq(batch->count, 8);
    for (size_t i = 0; i < 8; i++) {
        ck_assert_uint_eq(batch->episode[i], worker->leases[i].episode);
        ck_assert_double_eq(batch->advantage[i], i % 2 ? 0.5 : -0.5);
        ck_assert(batch->signal[i]);
    }
    ck_assert_int_eq(ledger_ask("SELECT norm_tokens FROM batch WHERE job = $1 AND update = 1", 0),
                     (int64_t)batch->norm_tokens);
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM episode e JOIN episode_payload p ON p.job = e.job AND p.episode = e.id"
                   " WHERE e.job = $1 AND e.state = 'done' AND p.bytes = convert_to('payload of ' || e.id, 'UTF8')",
                   0),
        8);
    trainer_apply(trainer, 1);
    trainer_apply(trainer, 1); /* said again: acknowledged again, and made once */
    ck_assert_int_eq(ledger_ask("SELECT updates_done FROM job WHERE id = $1", 0), 1);
    WAIT_FOR(worker->lease_count == 16);                                                /* of what was asked for earlier */
    for (size_t i = 8; i < 16; i++) ck_assert_int_eq(worker->leases[i].min_version, 1); /* though it is not published yet */
    trainer_publish(trainer, 1);
    WAIT_FOR(worker->wanted == 1);
    worker_play(worker, false);
    batch = trainer_fetch(trainer, 2); /* no group has variance */
    ck_assert_uint_eq(batch->no_signal_groups, 2);
    ck_assert(!batch->signal[0]);
    ck_assert_uint_eq(batch->payload[0], 0);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode_group WHERE job = $1 AND verdict = 'no_signal'", 0), 2);
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM metric WHERE job = $1 AND update = 1 AND name IN ('loss', 'success')", 0), 2);
}
END_TEST

START_TEST(a_job_to_its_end)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    const struct stage_job job = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 2, .staleness = 1, .evaluated = 3};
    stage_begin(gateway, trainer, worker, &job);
    ck_assert_int_eq(stage_submit(gateway, &job, "once"), stage.job + 1);
    ck_assert_int_eq(stage_submit(gateway, &job, "once"), stage.job + 1);
    ck_assert(!gateway->answer_created);
    stage_command(gateway, stage.job + 1, "cancel", "");
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 19); /* an evaluation's, then two updates */
    for (size_t i = 0; i < 3; i++) {
        ck_assert_str_eq(worker->leases[i].source, "evaluation");
        ck_assert_int_eq(worker->leases[i].pin_version, 0);
    }
    stage_update(trainer, worker, 1);
    stage_update(trainer, worker, 2);
    ck_assert_str_eq(trainer_fetch(trainer, 3)->kind, "end");
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 22); /* the last version's evaluation */
    ck_assert(ledger_state_is(stage.job, "running"));
    worker_play(worker, true);
    WAIT_FOR(worker_acked(worker));
    trainer_commit(trainer, 2);
    WAIT_FOR(worker->stopped_job == (uint64_t)stage.job && trainer->stopped_job == (uint64_t)stage.job);
    ck_assert(ledger_state_is(stage.job, "succeeded"));
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM evaluation WHERE job = $1 AND done = 3", 0), 2);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM batch WHERE job = $1 AND state = 'committed'", 0), 3);
}
END_TEST

/* numbers, and with them seeds, are given in one order: an evaluation is over before the next groups begin */
START_TEST(a_coupled_job_takes_turns)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    const struct stage_job job = {.tasks = 8,
                                  .group_size = 4,
                                  .groups = 2,
                                  .updates = 2,
                                  .staleness = 3,
                                  .evaluated = 3,
                                  .trainer = ", \"coupled\": true"};
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 3);
    worker_play(worker, true);
    WAIT_FOR(worker->lease_count == 11);
    for (size_t i = 0; i < 11; i++) {
        ck_assert_str_eq(worker->leases[i].source, i < 3 ? "evaluation" : "fresh");
        ck_assert_uint_eq(worker->leases[i].episode, worker->leases[0].episode + i);
    }
    worker_play(worker, true);
    ck_assert_uint_eq(trainer_fetch(trainer, 1)->count, 8);
    trainer_apply(trainer, 1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1", 0), 11);
    trainer_publish(trainer, 1);
    WAIT_FOR(worker->lease_count == 19);
    ck_assert_int_eq(worker->leases[11].min_version, 1);
}
END_TEST

START_TEST(a_job_without_a_task_left_fails)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    const struct stage_job job = {.tasks = 1, .group_size = 2, .groups = 1, .updates = 5};
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 2);
    WAIT_FOR((worker_play_but(worker, 0), worker_request(worker, 2), worker->stops > 0));
    ck_assert(ledger_state_is(stage.job, "failed"));
    WAIT_FOR(worker_acked(worker));
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM job WHERE id = $1 AND reason = 'every training task is quarantined'", 0), 1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode_group WHERE job = $1 AND state = 'void'", 0), 3);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM task WHERE job = $1 AND state = 'quarantined'", 0), 1);
}
END_TEST

START_TEST(cancelling_makes_room_for_the_next)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout"),
                *env = stage_join("env");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    int64_t one = stage.job, two = stage_submit(gateway, &STAGE_SMALL, ""), three = stage_submit(gateway, &STAGE_SMALL, "");
    ck_assert(ledger_state_is(two, "queued"));
    stage_command(gateway, two, "cancel", ""); /* it never starts */
    ck_assert(ledger_state_is(two, "cancelled"));
    stage_command(gateway, one, "cancel", "");
    WAIT_FOR(worker->stopped_job == (uint64_t)one && trainer->stopped_job == (uint64_t)one &&
             env->stopped_job == (uint64_t)one);
    ck_assert(ledger_state_is(one, "cancelled"));
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'void' AND outcome = 'cancelled'", 0), 8);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode_group WHERE job = $1 AND state = 'open'", 0), 0);
    WAIT_FOR(worker->job == (uint64_t)three && trainer->job == (uint64_t)three && env->job == (uint64_t)three);
    ck_assert(ledger_state_is(three, "running"));
    stage_command(gateway, one, "cancel", "conflict");
    stage_command(gateway, 99, "cancel", "not_found");
    int64_t before = ledger_digest();
    worker_play(worker, true); /* what comes late of the old job is acknowledged and forgotten */
    WAIT_FOR(worker_acked(worker));
    ck_assert_int_eq(ledger_digest(), before);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $2", three), 0);
    stage.job = three;
    ck_assert_str_eq(trainer_fetch(trainer, 0)->kind, "warmstart");
}
END_TEST

START_TEST(a_paused_job_hands_out_nothing)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    stage_command(gateway, stage.job, "pause", "");
    ck_assert(ledger_state_is(stage.job, "paused"));
    worker_play(worker, true);
    trainer_ask(trainer, 1);
    WAIT_FOR(worker_acked(worker)); /* what runs is played to its end and kept */
    stage_restart();
    WAIT_FOR(trainer->hellos_again > 0 && worker->hellos_again > 0);
    stage_command(gateway, stage.job, "priority", ""); /* a turn later */
    ck_assert(!trainer_has(trainer, 1));
    stage_command(gateway, stage.job, "resume", "");
    WAIT_FOR(trainer_has(trainer, 1));
    ck_assert(ledger_state_is(stage.job, "running"));
    trainer_apply(trainer, 1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_job_from_grants_to_batches,       a_job_to_its_end,
        a_coupled_job_takes_turns,          a_job_without_a_task_left_fails,
        cancelling_makes_room_for_the_next, a_paused_job_hands_out_nothing,
    };
    return stage_main("data.job", tests, sizeof tests / sizeof *tests);
}
