/* LABELS: unit store
 * What a job does about failures in the real pal-data, against scripted peers (tests/support/stage.h): retries and mask by
 * class, and that no failure counts in a success rate. */
#include "tests/support/stage.h"

START_TEST(retries_are_the_jobs)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = STAGE_SMALL;
    job.rollout = ", \"retries\": {\"env_error\": 0, \"env_timeout\": 5, \"poisoned\": 1}";
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 8);
    uint64_t first = worker->leases[0].episode;
    ck_assert_int_eq(worker_fails(worker, first, "env_error"), 1);
    ck_assert_int_eq(worker_fails(worker, first + 1, "env_timeout"), 6);
    ck_assert_int_eq(worker_fails(worker, first + 4, "poisoned"), 2);
    ck_assert_int_eq(worker_fails(worker, first + 5, "env_crash"), 4); /* as by default */
    worker_play(worker, true);
    ck_assert_uint_eq(trainer_fetch(trainer, 1)->count, 4);
}
END_TEST

START_TEST(a_class_may_mask_the_whole_group)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = STAGE_SMALL;
    job.rollout = ", \"retries\": {\"judge_error\": 0, \"env_error\": 0}, \"mask\": {\"judge_error\": \"group\"}";
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 8);
    uint64_t group = worker->leases[0].group;
    worker_end(worker, &worker->leases[0], "ok", 1);
    WAIT_FOR(worker_acked(worker));
    worker_end(worker, &worker->leases[1], "judge_error", 0);
    WAIT_FOR(worker->lease_count == 12); /* another group in its place */
    WAIT_FOR(worker_revoked(worker, worker->leases[2].episode) && worker_revoked(worker, worker->leases[3].episode));
    ck_assert(!worker_revoked(worker, worker->leases[0].episode)); /* it had ended */
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM episode_group WHERE job = $1 AND id = $2 AND verdict = 'void'", (int64_t)group), 1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND subject = 'group' AND key = $2"
                                " AND rule = 'mask' AND verdict = 'judge_error'",
                                (int64_t)group),
                     1);
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND group_id = $2 AND outcome = 'cancelled'", (int64_t)group),
        2);
    ck_assert_int_eq(ledger_ask("SELECT update_for FROM episode_group WHERE job = $1 AND replaces = $2", (int64_t)group), 1);
    worker_end(worker, &worker->leases[4], "env_error", 0); /* masks its slot alone */
    worker_play(worker, true);                              /* those that were revoked too: too late */
    const struct batch *batch = trainer_fetch(trainer, 1);
    ck_assert_uint_eq(batch->count, 7);
    for (size_t i = 0; i < batch->count; i++) ck_assert_uint_ne(batch->group[i], group);
}
END_TEST

/* A worker that went away takes all its leases with it, and here each of them its group. */
START_TEST(groups_go_with_the_leases_of_a_worker)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = STAGE_SMALL;
    job.rollout = ", \"retries\": {\"cancelled\": 0}";
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    struct peer *heir = stage_join("rollout");
    heir->pid = worker->pid;
    worker->mute = true;
    peer_hello(heir);
    WAIT_FOR(heir->assigns > 1);
    worker_request(heir, 8);
    WAIT_FOR(heir->lease_count == 8);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode_group WHERE job = $1 AND verdict = 'void'", 0), 2);
    stage_update(trainer, heir, 1);
}
END_TEST

/* Left out of the batch, of the statistics and of the loss; success rates count it. The same after a restart. */
START_TEST(truncated_episodes_may_be_masked)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = STAGE_SMALL;
    job.rollout = ", \"mask\": {\"truncated\": \"slot\"}";
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 8);
    worker_end(worker, &worker->leases[0], "truncated", 0);
    worker_end(worker, &worker->leases[1], "ok", 1);
    WAIT_FOR(worker_acked(worker));
    stage_restart();
    worker_end(worker, &worker->leases[2], "ok", 1);
    worker_end(worker, &worker->leases[3], "ok", 0);
    for (size_t i = 4; i < 8; i++) worker_end(worker, &worker->leases[i], "truncated", i % 2 ? 1.0 : 0.0);
    const struct batch *batch = trainer_fetch(trainer, 1);
    ck_assert_uint_eq(batch->groups, 2);
    ck_assert_uint_eq(batch->no_signal_groups, 1); /* of the other one nothing is left */
    ck_assert_uint_eq(batch->count, 3);
    for (size_t i = 0; i < 3; i++) ck_assert_uint_eq(batch->episode[i], worker->leases[1 + i].episode);
    ck_assert_double_eq_tol(batch->advantage[0], 1.0 / 3, 1e-9);
    ck_assert_double_eq_tol(batch->advantage[2], -2.0 / 3, 1e-9);
    trainer_apply(trainer, 1);
    ck_assert_int_eq(
        ledger_ask("SELECT (value * 8)::bigint FROM metric WHERE job = $1 AND update = 1 AND name = 'success'", 0), 4);
}
END_TEST

/* One of three evaluation episodes and one of eight others never come to an outcome: the rates are of the rest. */
START_TEST(failures_count_in_no_success_rate)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    const struct stage_job job = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 2, .evaluated = 3};
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 11);
    worker_end(worker, &worker->leases[0], "poisoned", 1);
    for (size_t i = 1; i < 3; i++) worker_end(worker, &worker->leases[i], "ok", 1);
    WAIT_FOR(ledger_ask("SELECT count(*) FROM evaluation WHERE job = $1 AND done = 2 AND successes = 2 AND episodes = 3", 0));
    worker_end(worker, &worker->leases[3], "poisoned", 0);
    for (size_t i = 4; i < 11; i++) worker_end(worker, &worker->leases[i], "ok", i == 10 ? 0.0 : 1.0);
    ck_assert_uint_eq(trainer_fetch(trainer, 1)->count, 7);
    trainer_apply(trainer, 1);
    ck_assert_int_eq(
        ledger_ask("SELECT round(value * 7)::bigint FROM metric WHERE job = $1 AND update = 1 AND name = 'success'", 0), 6);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'void' AND reward IS NULL", 0), 2);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {retries_are_the_jobs, a_class_may_mask_the_whole_group,
                                  groups_go_with_the_leases_of_a_worker, truncated_episodes_may_be_masked,
                                  failures_count_in_no_success_rate};
    return stage_main("data.failures", tests, sizeof tests / sizeof *tests);
}
