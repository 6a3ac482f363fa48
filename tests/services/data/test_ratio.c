/* LABELS: unit store
 * The adaptive replay ratio in the real pal-data: discarded batches, the switch, passes in the ledger, killed between a batch
 * and its end, and rolled back to a checkpoint before the switch. */
#include "tests/support/stage.h"

#include <math.h>

static const struct stage_job JOB = {.tasks = 8,
                                     .group_size = 4,
                                     .groups = 2,
                                     .updates = 9,
                                     .more = ", \"curation\": {\"replay_ratio\": {\"low\": 0.5, \"high\": 2.5, \"rule\": "
                                             "\"paper\", \"window\": 1, \"tau\": 0.001}}"};

/* Plays what is open, takes the batch of the update and reports it as the trainer would. */
static const struct batch *make(struct peer *trainer, struct peer *worker, int64_t update, double fau)
{
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8 * (size_t)update);
    worker_play(worker, true);
    const struct batch *batch = trainer_fetch(trainer, update);
    const struct wire_counter figures[] = {{span_text("fau"), fau},
                                           {span_text("mean_w"), 1},
                                           {span_text("clip_share"), 0},
                                           {span_text("explained_variance"), 0.5},
                                           {span_text("replay_ratio"), 7}}; /* a name of the data manager's own */
    trainer_tell(trainer, update, batch->discarded ? "skipped" : "applied", figures, 5);
    if (!batch->discarded) trainer_publish(trainer, update);
    WAIT_FOR(worker->wanted == trainer->version);
    return batch;
}

static void expect(const struct batch *batch, bool discarded, uint64_t extra)
{
    ck_assert_int_eq(batch->discarded, discarded);
    ck_assert_uint_eq(batch->extra_passes, extra);
    ck_assert_uint_eq(batch->count, 8);
    ck_assert_int_eq(
        ledger_ask("SELECT passes::bigint FROM batch WHERE job = $1 AND update = $2 ORDER BY lineage DESC LIMIT 1",
                   batch->update),
        discarded ? 0 : (int64_t)extra + 1);
}

static int64_t uses(int64_t update)
{
    return ledger_ask("SELECT count(*) FROM training_use u JOIN job j ON j.id = u.job WHERE u.job = $1 AND u.update = $2"
                      " AND u.lineage = j.lineage",
                      update);
}

static int64_t verdicts(const char *sql)
{
    return ledger_ask(sql, 0);
}

#define RULED(verdict) "SELECT count(*) FROM decision WHERE job = $1 AND rule = 'ratio' AND verdict = '" verdict "'"

START_TEST(fewer_than_one_pass_discards_until_it_is_quiet)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &JOB);
    expect(make(trainer, worker, 1, 0.9), true, 0); /* what a discarded one says of FAU is not read */
    ck_assert_int_eq(uses(1), 0);
    expect(make(trainer, worker, 2, 0.5), false, 0);
    ck_assert_int_eq(uses(2), 8);
    expect(make(trainer, worker, 3, 0), true, 0);
    expect(make(trainer, worker, 4, 0.5005), false, 0); /* 0.0005 is quiet: high from the next update on */
    ck_assert_int_eq(verdicts(RULED("high")), 1);
    ck_assert_int_eq(verdicts(RULED("stays")), 1);
    ck_assert_int_eq(verdicts(RULED("discarded")), 2);
    expect(make(trainer, worker, 5, 0.6), false, 1);  /* 2.5 credits */
    expect(make(trainer, worker, 6, 0.61), false, 2); /* 0.5 + 2.5 */
    ck_assert_int_eq(uses(5), 16);
    ck_assert_int_eq(uses(6), 24);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM training_use WHERE job = $1 AND update = 6 AND pass = $2", 2), 8);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM metric WHERE job = $1 AND name = 'replay_ratio' AND value = 2.5", 0),
                     2);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM metric WHERE job = $1 AND name = 'fau_window' AND value = 0.61", 0), 1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM method_state WHERE job = $1 AND method = 'ratio'", 0), 6);
    ck_assert(ledger_state_is(stage.job, "running")); /* discarded updates are not a lack of signal */
    ledger_notices("passes_are_earned", "UPDATE batch SET passes = 4 WHERE update = 5");
    ledger_notices("passes_are_earned", "UPDATE batch SET passes = 0 WHERE update = 6");
    ledger_notices("used_as_recorded", "DELETE FROM training_use WHERE update = 6 AND pass = 2");
}
END_TEST

START_TEST(a_killed_data_manager_knows_its_credits)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &JOB);
    static const double faus[] = {0, 0.5, 0, 0.5005, 0.6, 0.7, 0.8};
    static const uint64_t extra[] = {0, 0, 0, 0, 1, 2, 1};
    for (int64_t u = 1; u <= 7; u++) {
        worker_request(worker, 8);
        WAIT_FOR(worker->lease_count == 8 * (size_t)u);
        worker_play(worker, true);
        struct batch first = *trainer_fetch(trainer, u);
        uint64_t again = trainer->hellos_again, too = worker->hellos_again;
        stage_restart(); /* between a batch and its end */
        WAIT_FOR(trainer->hellos_again > again && worker->hellos_again > too);
        const struct batch *second = trainer_fetch(trainer, u);
        batch_same(&first, second);
        expect(second, u % 2 && u < 4, extra[u - 1]);
        const struct wire_counter fau = {span_text("fau"), faus[u - 1]};
        trainer_tell(trainer, u, second->discarded ? "skipped" : "applied", &fau, 1);
        if (!second->discarded) trainer_publish(trainer, u);
        WAIT_FOR(worker->wanted == trainer->version);
    }
    ck_assert_int_eq(verdicts(RULED("high")), 1);
    ck_assert_int_eq(verdicts(RULED("discarded")), 2); /* each said once */
}
END_TEST

START_TEST(a_rollback_takes_the_credits_back)
{
    struct peer *gateway = stage_join("gateway"), *first = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, first, worker, &JOB);
    (void)make(first, worker, 1, 0);
    (void)make(first, worker, 2, 0.5);
    trainer_commit(first, 2);
    (void)make(first, worker, 3, 0);
    (void)make(first, worker, 4, 0.5001);
    expect(make(first, worker, 5, 0.6), false, 1);
    first->mute = true;
    struct peer *second = stage_join("trainer");
    WAIT_FOR(second->job == (uint64_t)stage.job && second->lineage == 1);
    ck_assert_int_eq(second->resume_version, 2);
    second->version = 2;
    trainer_publish(second, 2);
    worker->wanted = 2;
    /* made again: the same batches with the same passes, but FAU is not quiet this time */
    static const double faus[] = {0, 0.52, 0.55};
    static const uint64_t extra[] = {0, 0, 1};
    for (int64_t u = 3; u <= 5; u++) {
        const struct batch *batch = trainer_fetch(second, u);
        expect(batch, u == 3, extra[u - 3]);
        const struct wire_counter fau = {span_text("fau"), faus[u - 3]};
        trainer_tell(second, u, batch->discarded ? "skipped" : "applied", &fau, 1);
        if (!batch->discarded) trainer_publish(second, u);
    }
    ck_assert_int_eq(uses(5), 16);
    /* at the low ratio what update 5 spent is a debt of 1.5 credits: three updates pay it, a fourth earns half a pass */
    for (int64_t u = 6; u <= 9; u++) {
        WAIT_FOR(worker->wanted == second->version);
        expect(make(second, worker, u, 0.7 + 0.1 * (double)u), true, 0);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        fewer_than_one_pass_discards_until_it_is_quiet,
        a_killed_data_manager_knows_its_credits,
        a_rollback_takes_the_credits_back,
    };
    return stage_main("data.ratio", tests, sizeof tests / sizeof *tests);
}
