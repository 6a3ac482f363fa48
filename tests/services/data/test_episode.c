/* LABELS: unit store
 * How episodes end in the real pal-data, against scripted peers (tests/support/stage.h): twice, late, under an old token, as
 * failures, in flight when their lease ends. */
#include "tests/support/stage.h"

START_TEST(repeated_ends_change_nothing)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    worker_end(worker, &worker->leases[0], "ok", 1);
    WAIT_FOR(worker->acks == 1);
    int64_t before = ledger_digest();
    worker_end(worker, &worker->leases[0], "ok", 1);
    WAIT_FOR(worker->acks == 2);
    worker_end(worker, &worker->leases[0], "ok", 0); /* not even with another reward */
    WAIT_FOR(worker->acks == 3);
    worker_end(worker, &worker->leases[0], "env_error", 0);
    WAIT_FOR(worker->acks == 4);
    struct lease unknown = worker->leases[1];
    unknown.token += 1000; /* never granted */
    worker_end(worker, &unknown, "ok", 1);
    WAIT_FOR(worker->acks == 5);
    ck_assert_int_eq(ledger_digest(), before);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'done' AND reward = 1", 0), 1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND subject = 'episode'", 0), 0);
    /* both ends of one lease in one message: the first counts */
    worker->leases[2].outcome = "ok";
    worker->leases[2].reward = 0.25;
    worker_tell(worker, (struct lease *[]){&worker->leases[2], &worker->leases[2]}, 2);
    WAIT_FOR(worker->acks == 7);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'done'", 0), 2);
}
END_TEST

START_TEST(tokens_of_an_older_grant_are_stale)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    /* a new incarnation of the same process: the old one's leases return at once */
    struct peer *heir = stage_join("rollout");
    heir->pid = worker->pid;
    worker->mute = true;
    peer_hello(heir);
    WAIT_FOR(heir->assigns > 1);
    worker_request(heir, 8);
    WAIT_FOR(heir->lease_count == 8);
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND attempt = 1 AND failures = '{cancelled}'", 0), 8);
    int64_t before = ledger_digest();
    worker_play(worker, true);
    WAIT_FOR(worker_acked(worker)); /* refused for good: it may forget them */
    ck_assert_int_eq(ledger_digest(), before);
    for (size_t i = 0; i < 8; i++) {
        const struct lease *old = &worker->leases[i], *lease = worker_lease(heir, old->episode);
        ck_assert_uint_gt(lease->token, old->token);
        ck_assert_uint_eq(lease->attempt, 1);
        ck_assert_uint_eq(lease->task, old->task);
    }
    stage_update(trainer, heir, 1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM training_use WHERE job = $1 AND update = 1", 0), 8);
}
END_TEST

START_TEST(failures_are_retried_then_void)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 8);
    uint64_t first = worker->leases[0].episode, group = worker->leases[0].group;
    ck_assert_int_eq(worker_fails(worker, first, "env_error"), 3); /* two retries, as rollout/outcome.def says */
    ck_assert_int_eq(worker_fails(worker, first + 1, "env_crash"), 4);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND reward IS NOT NULL", 0), 0);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'retry' AND verdict = 'again'", 0),
                     5);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'retry' AND verdict = 'void'", 0),
                     2);
    ck_assert_int_eq(
        ledger_ask("SELECT cardinality(failures)::bigint FROM episode WHERE job = $1 AND id = $2", (int64_t)first + 1), 4);
    /* a reward that is none, and an outcome that nobody knows, are poisoned: void at once */
    size_t before = worker->lease_count;
    worker_end(worker, worker_lease(worker, first + 2), "ok", 1.5);
    WAIT_FOR(worker_acked(worker));
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'void' AND outcome = 'poisoned'", 0),
                     1);
    worker_end(worker, worker_lease(worker, first + 3), "ok", 1); /* one done of four: too few */
    WAIT_FOR(worker->lease_count == before + 4);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode_group WHERE job = $1 AND id = $2 AND state = 'void'"
                                " AND verdict = 'void' AND advantage IS NULL",
                                (int64_t)group),
                     1);
    ck_assert_int_eq(ledger_ask("SELECT update_for FROM episode_group WHERE job = $1 AND replaces = $2", (int64_t)group), 1);
    worker_play(worker, true);
    const struct batch *batch = trainer_fetch(trainer, 1);
    ck_assert_uint_eq(batch->count, 8);
    for (size_t i = 0; i < batch->count; i++) ck_assert_uint_ne(batch->group[i], group);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        repeated_ends_change_nothing,
        tokens_of_an_older_grant_are_stale,
        failures_are_retried_then_void,
    };
    return stage_main("data.episode", tests, sizeof tests / sizeof *tests);
}
