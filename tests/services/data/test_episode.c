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

START_TEST(a_first_lease_has_a_token)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    const struct stage_job job = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 2, .staleness = 1, .evaluated = 3};
    stage_begin(gateway, trainer, worker, &job);
    /* slots that were written before anybody asked for work */
    WAIT_FOR(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'pending'", 0) == 3);
    uint64_t assigns = worker->assigns;
    worker_request(worker, 3);
    WAIT_FOR(worker->lease_count == 3);
    for (size_t i = 0; i < 3; i++) ck_assert_uint_gt(worker->leases[i].token, 0);
    ck_assert_uint_eq(worker->assigns, assigns); /* the ledger took it: nothing was read again */
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
    worker_lease(worker, first + 3)->idle = true; /* nor is success without a step one */
    worker_end(worker, worker_lease(worker, first + 3), "ok", 1);
    WAIT_FOR(worker->lease_count == before + 4);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'void' AND outcome = 'poisoned'", 0),
                     2);
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

START_TEST(ends_that_come_after_their_update_change_nothing)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    stage_update(trainer, worker, 1); /* consumed: no slot of it is in memory any more */
    trainer_commit(trainer, 1);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 16);
    int64_t before = ledger_digest();
    for (int restarted = 0; restarted < 2; restarted++) {
        for (size_t i = 0; i < 8; i++) {
            worker->leases[i].acked = false;
            worker_end(worker, &worker->leases[i], i % 2 ? "env_crash" : "ok", 1);
        }
        WAIT_FOR(worker_acked(worker));
        ck_assert_int_eq(ledger_digest(), before);
        if (!restarted) stage_restart();
        WAIT_FOR(restarted || worker->hellos_again > 0);
    }
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode_payload WHERE job = $1", 0), 8);
}
END_TEST

/* The straggler rule ends a lease as its ttl does. What its worker says in that moment comes before the end, and counts, or
 * after it, and does not: never both. */
START_TEST(a_lease_ends_while_its_answer_is_on_the_way)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = STAGE_SMALL;
    job.trainer = ", \"late\": \"wait\", \"straggler_ms\": 100";
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    for (size_t i = 0; i < 6; i++) worker_end(worker, &worker->leases[i], "ok", i % 2 ? 1.0 : 0.0);
    trainer_ask(trainer, 1);
    WAIT_FOR(worker_acked(worker));
    /* the loop of the peers stands still: the revocation is not heard before the answer is said */
    int64_t six = (int64_t)worker->leases[6].episode;
    for (int64_t end = 0; !end;)
        end = ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND id = $2 AND failures = '{timeout}'", six);
    ck_assert(!worker_revoked(worker, worker->leases[6].episode));
    worker_end(worker, &worker->leases[6], "ok", 1);
    worker_end(worker, &worker->leases[7], "ok", 1);
    WAIT_FOR(worker->leases[6].acked && worker->leases[7].acked && worker_revoked(worker, (uint64_t)six));
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND id >= $2 AND state = 'done'", six), 0);
    ck_assert(!trainer_has(trainer, 1));
    worker_request(worker, 8);
    WAIT_FOR(worker_leases_past(worker, (uint64_t)six, 8) == 1 && worker_leases_past(worker, (uint64_t)six + 1, 8) == 1);
    for (uint64_t e = (uint64_t)six; e < (uint64_t)six + 2; e++) worker_end(worker, worker_lease(worker, e), "ok", 0);
    WAIT_FOR(trainer_has(trainer, 1));
    ck_assert_uint_eq(trainer_batch(trainer, 1)->count, 8);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND id >= $2 AND state = 'done'"
                                " AND reward = 0 AND attempt = 1 AND cardinality(failures) = 1",
                                six),
                     2);
}
END_TEST

/* A job from its submission to its end, each message of which comes twice; then all of it is said once more. */
START_TEST(messages_that_are_replayed_change_nothing)
{
    stage.twice = true;
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    const struct stage_job job = {
        .tasks = 8, .group_size = 4, .groups = 2, .updates = 2, .staleness = 1, .evaluated = 3, .key = "once"};
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 19);
    worker_end(worker, &worker->leases[4], "env_error", 0);
    WAIT_FOR(worker_leases_past(worker, worker->leases[4].episode, 5) == 1);
    stage_update(trainer, worker, 1);
    peer_replay(trainer); /* all that it said so far */
    peer_replay(worker);
    stage_update(trainer, worker, 2);
    ck_assert_str_eq(trainer_fetch(trainer, 3)->kind, "end");
    worker_request(worker, 64);
    WAIT_FOR((worker_play(worker, true), ledger_ask("SELECT count(*) FROM evaluation WHERE job = $1 AND done = 3", 0) == 2));
    ck_assert(worker->lease_count < 30);
    trainer_commit(trainer, 2);
    WAIT_FOR(trainer->stopped_job == (uint64_t)stage.job);
    int64_t before = ledger_digest();
    uint64_t answers = gateway->answers;
    peer_replay(gateway);
    WAIT_FOR(gateway->answers > answers);
    ck_assert(gateway->answer_job == (uint64_t)stage.job && !gateway->answer_created);
    peer_replay(trainer);
    peer_replay(worker);
    stage_command(gateway, stage.job, "cancel", "conflict"); /* and a turn later */
    ck_assert_int_eq(ledger_digest(), before);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM job", 0), 1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM batch WHERE job = $1 AND state = 'committed'", 0), 3);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM training_use WHERE job = $1", 0), 16);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'retry'", 0), 1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM job_event WHERE job = $1 AND kind = 'checkpoint'", 0), 2);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {repeated_ends_change_nothing,
                                  a_first_lease_has_a_token,
                                  tokens_of_an_older_grant_are_stale,
                                  failures_are_retried_then_void,
                                  ends_that_come_after_their_update_change_nothing,
                                  a_lease_ends_while_its_answer_is_on_the_way,
                                  messages_that_are_replayed_change_nothing};
    return stage_main("data.episode", tests, sizeof tests / sizeof *tests);
}
