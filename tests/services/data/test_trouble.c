/* LABELS: unit store
 * The real pal-data and its ledger in trouble, against scripted peers (tests/support/stage.h): a COMMIT in doubt, a slow one,
 * no connection for a while. Nothing acknowledged is lost, nothing is done twice. */
#include "tests/support/stage.h"

/* The transactions of a job's life, by a statement that each runs. */
static const char *const transactions[] = {
    "job_insert",   "task_insert", "job_set_trainer", "batch_insert",  "batch_apply",    "policy_publish", "policy_commit",
    "group_insert", "episode_end", "group_close",     "episode_lease", "evaluation_end", "group_abandon",
};

/* Each COMMIT is lost once, before the server did it (_i 0) or after (_i 1). */
START_TEST(commits_in_doubt_are_read_again)
{
    stage_behind_proxy();
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    const struct stage_job job = {
        .tasks = 8, .group_size = 4, .groups = 2, .updates = 2, .staleness = 1, .evaluated = 3, .key = "once"};
    int64_t epoch = ledger_ask("SELECT epoch FROM data_epoch", 0);
    for (size_t i = 0; i < sizeof transactions / sizeof *transactions; i++)
        proxy_fault(&stage.proxy, transactions[i], _i ? PROXY_LOSE_AFTER : PROXY_LOSE_BEFORE);
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count >= 19);
    worker_end(worker, worker_lease(worker, worker->leases[4].episode), "env_error", 0);
    WAIT_FOR(worker_acked(worker));
    for (int64_t update = 1; update <= 2; update++) {
        trainer_ask(trainer, update);
        WAIT_FOR((worker_play(worker, true), trainer_has(trainer, update)));
        trainer_apply(trainer, update);
        trainer_publish(trainer, update);
    }
    ck_assert_str_eq(trainer_fetch(trainer, 3)->kind, "end");
    trainer_commit(trainer, 2);
    WAIT_FOR((worker_play(worker, true), trainer->stopped_job == (uint64_t)stage.job));
    for (size_t i = 0; i < stage.proxy.fault_count; i++)
        ck_assert_msg(stage.proxy.faults[i].fired, "no transaction ran %s", stage.proxy.faults[i].statement);
    ck_assert(ledger_state_is(stage.job, "succeeded"));
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM job", 0), 1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM batch WHERE job = $1 AND state = 'committed'", 0), 3);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM training_use WHERE job = $1", 0), 16);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM evaluation WHERE job = $1 AND done = 3", 0), 2);
    ck_assert_int_eq(ledger_ask("SELECT lineage::bigint FROM job WHERE id = $1", 0), 0);
    ck_assert_int_eq(ledger_ask("SELECT epoch FROM data_epoch", 0), epoch); /* the same data manager all along */
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM job_event WHERE job = $1 AND kind = 'checkpoint'", 0), 2);
}
END_TEST

START_TEST(an_outage_is_sat_out)
{
    stage_behind_proxy();
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    WAIT_FOR(stage_ready(gateway));
    stage.proxy.shut = true;
    proxy_cut(&stage.proxy);
    worker_play(worker, true);
    trainer_ask(trainer, 1);
    WAIT_FOR(!stage_ready(gateway));
    uint64_t end = uv_now(&stage.loop) + 700;
    WAIT_FOR(uv_now(&stage.loop) > end);
    ck_assert(!stage_ready(gateway));
    ck_assert_uint_eq(worker->acks, 0);
    ck_assert(!trainer_has(trainer, 1));
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'done'", 0), 0);
    stage.proxy.shut = false;
    WAIT_FOR(worker_acked(worker) && trainer_has(trainer, 1));
    ck_assert_uint_eq(trainer_batch(trainer, 1)->count, 8);
    WAIT_FOR(stage_ready(gateway));
    trainer_apply(trainer, 1);
}
END_TEST

/* Nobody was silent in a time in which the data manager could not hear: no lease ends, no process is gone. */
START_TEST(a_slow_commit_is_nobody_s_silence)
{
    stage_behind_proxy();
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = STAGE_SMALL;
    job.trainer = ", \"straggler_ms\": 4000";
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    stage.proxy.slow_ms = 5500; /* past the 5 s of silence, the 4 s of the stragglers */
    proxy_fault(&stage.proxy, "episode_end", PROXY_SLOW);
    for (size_t i = 0; i < 5; i++) worker_end(worker, &worker->leases[i], "ok", i % 2 ? 1.0 : 0.0);
    trainer_ask(trainer, 1);
    WAIT_FOR(worker_acked(worker));
    uint64_t end = uv_now(&stage.loop) + 300; /* a few looks of the janitor later */
    WAIT_FOR(uv_now(&stage.loop) > end);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM service WHERE gone_at IS NOT NULL", 0), 0);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'leased'", 0), 3);
    ck_assert_uint_eq(worker->revoked_count, 0);
    stage_update(trainer, worker, 1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND cardinality(failures) > 0", 0), 0);
}
END_TEST

/* It lives on without its connection while another one takes over: the first thing that it learns is that it is old. */
START_TEST(a_manager_that_was_cut_off_gives_way)
{
    stage_behind_proxy();
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    stage.proxy.shut = true;
    proxy_cut(&stage.proxy);
    int64_t epoch = ledger_ask("SELECT epoch FROM data_epoch", 0);
    struct manager *second = manager_join("two");
    WAIT_FOR(ledger_ask("SELECT epoch FROM data_epoch", 0) == epoch + 1);
    struct peer *next = peer_join(second, "rollout", worker);
    WAIT_FOR(next->job == (uint64_t)stage.job);
    int64_t before = ledger_digest();
    stage.proxy.shut = false;
    worker_play(worker, true); /* to the older one */
    trainer_ask(trainer, 1);
    int code = -1;
    WAIT_FOR((code = manager_ended(&stage.managers[0])) >= 0);
    ck_assert_int_eq(code, 3);
    ck_assert_uint_eq(worker->acks, 0);
    ck_assert_int_eq(ledger_digest(), before);
    ck_assert(ledger_state_is(stage.job, "running"));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {commits_in_doubt_are_read_again, commits_in_doubt_are_read_again, an_outage_is_sat_out,
                                  a_slow_commit_is_nobody_s_silence, a_manager_that_was_cut_off_gives_way};
    return stage_main("data.trouble", tests, sizeof tests / sizeof *tests);
}
