/* LABELS: unit store
 * Batches and lineages in the real pal-data, against scripted peers (tests/support/stage.h): asked for twice, skipped, redone
 * by a new trainer, spoken of by an older one. */
#include "tests/support/stage.h"

START_TEST(a_new_trainer_begins_a_lineage)
{
    struct peer *gateway = stage_join("gateway"), *first = stage_join("trainer"), *worker = stage_join("rollout");
    const struct stage_job job = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 4, .staleness = 1};
    stage_begin(gateway, first, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 16);
    stage_update(first, worker, 1); /* past the checkpoint of version 0 */
    struct batch one = *trainer_batch(first, 1), two = *trainer_fetch(first, 2);
    batch_same(&two, trainer_fetch(first, 2));
    batch_same(&one, trainer_fetch(first, 1)); /* even when it was applied long ago */
    WAIT_FOR(worker->lease_count == 24);       /* update 3's are on their way when the trainer dies */
    first->mute = true;

    struct peer *second = stage_join("trainer");
    WAIT_FOR(second->job == (uint64_t)stage.job);
    ck_assert_int_eq(second->lineage, first->lineage + 1);
    ck_assert_int_eq(second->resume_version, 0);
    ck_assert_str_eq(second->resume_path, "/tmp/nowhere.ckpt");
    ck_assert_int_eq(ledger_ask("SELECT lineage::bigint FROM job WHERE id = $1", 0), second->lineage);
    ck_assert_int_eq(ledger_ask("SELECT updates_done FROM job WHERE id = $1", 0), 0);
    trainer_say_done(first, 2, first->lineage, "applied", 2); /* the older lineage is refused from now on */
    trainer_publish(second, 0);
    batch_same(&one, trainer_fetch(second, 1));
    trainer_apply(second, 1);
    trainer_publish(second, 1);
    batch_same(&two, trainer_fetch(second, 2));
    batch_same(&two, trainer_fetch(second, 2));
    trainer_apply(second, 2);
    trainer_publish(second, 2);
    trainer_commit(second, 2);
    ck_assert_int_eq(first->applied_ack, 1);
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM batch WHERE job = $1 AND lineage = $2 AND update = 2 AND state = 'handed_out'",
                   first->lineage),
        1);
    stage_update(second, worker, 3); /* with the leases of before */
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM training_use WHERE job = $1 AND lineage = $2 AND update IN (1, 2)", second->lineage),
        16);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM batch WHERE job = $1 AND update = 3", 0), 1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM job_event WHERE job = $1 AND kind = 'lineage'", 0), 1);
}
END_TEST

START_TEST(a_skipped_update_makes_no_version)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    const struct stage_job job = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 4, .staleness = 1};
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 16);
    worker_play(worker, true);
    ck_assert_uint_eq(trainer_fetch(trainer, 1)->count, 8);
    trainer_say_done(trainer, 1, trainer->lineage, "skipped", 0);
    WAIT_FOR(worker->lease_count == 24); /* update 3's: they cannot wait for version 1 */
    ck_assert_int_eq(worker->leases[16].min_version, 0);
    worker_play(worker, true);
    WAIT_FOR(worker_acked(worker));
    ck_assert_uint_eq(trainer_fetch(trainer, 2)->count, 8);
    trainer_apply(trainer, 2);
    trainer_publish(trainer, 2);
    ck_assert_uint_eq(trainer_fetch(trainer, 3)->count, 8); /* of version 0, the weights after update 1 */
    WAIT_FOR(worker->lease_count == 32);
    ck_assert_int_eq(worker->leases[24].min_version, 2);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_new_trainer_begins_a_lineage,
        a_skipped_update_makes_no_version,
    };
    return stage_main("data.batch", tests, sizeof tests / sizeof *tests);
}
