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

START_TEST(a_batch_is_one_however_often_it_is_asked_for)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    size_t before = trainer->batch_count;
    for (int i = 0; i < 3; i++) trainer_ask(trainer, 1); /* before it is there */
    worker_play(worker, true);
    WAIT_FOR(trainer_has(trainer, 1) && worker_acked(worker));
    struct batch first = *trainer_batch(trainer, 1);
    for (int i = 0; i < 3; i++) batch_same(&first, trainer_fetch(trainer, 1)); /* after it was handed out */
    ck_assert_uint_eq(trainer->batch_count, before + 4); /* the three that came early are one question */
    stage_restart();
    batch_same(&first, trainer_fetch(trainer, 1));
    trainer_apply(trainer, 1);
    batch_same(&first, trainer_fetch(trainer, 1)); /* after it was applied */
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM batch WHERE job = $1 AND update = 1", 0), 1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM training_use WHERE job = $1 AND update = 1", 0), 8);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM metric WHERE job = $1 AND update = 1 AND name = 'success'", 0), 1);
}
END_TEST

START_TEST(messages_of_an_older_lineage_change_nothing)
{
    struct peer *gateway = stage_join("gateway"), *first = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, first, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    worker_play(worker, true);
    ck_assert_uint_eq(trainer_fetch(first, 1)->count, 8);
    struct peer *second = stage_join("trainer");
    WAIT_FOR(second->job == (uint64_t)stage.job);
    ck_assert_int_eq(second->lineage, 1);
    /* the first one is not dead: it says all that a trainer can say */
    uint64_t acks = first->policy_acks;
    size_t batches = first->batch_count;
    first->published = 1;
    first->saved.open = true;
    first->saved.lineage = 0;
    first->saved.update = first->saved.version = 1;
    trainer_say_done(first, 1, 0, "applied", 1);
    trainer_resend(first);
    trainer_ask(first, 1);
    trainer_ask(first, 2);
    trainer_publish(second, 0); /* and a turn later */
    ck_assert_int_eq(first->applied_ack, 0);
    ck_assert_int_eq(first->committed_ack, 0);
    ck_assert_uint_eq(first->policy_acks, acks);
    ck_assert_uint_eq(first->batch_count, batches);
    ck_assert_int_eq(ledger_ask("SELECT updates_done FROM job WHERE id = $1", 0), 0);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM policy WHERE job = $1 AND version > 0", 0), 0);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM batch WHERE job = $1 AND update = 1 AND state <> 'handed_out'", 0), 0);
    first->mute = true;
    stage_update(second, worker, 1);
}
END_TEST

/* Fifty skipped updates in a row end the job: counted in the ledger, so neither a restart nor a redone update changes it. */
START_TEST(fifty_skipped_updates_end_the_job)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    const struct stage_job job = {.tasks = 8, .group_size = 2, .groups = 1, .updates = 80};
    stage_begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    for (int64_t update = 1; update <= 51; update++) {
        trainer_ask(trainer, update);
        WAIT_FOR((worker_play(worker, update == 1), trainer_has(trainer, update) && trainer->asked < 0));
        trainer->applied_ack = -1;
        trainer_say_done(trainer, update, trainer->lineage, update == 1 ? "applied" : "skipped", 1);
        WAIT_FOR(trainer->applied_ack == update);
        if (update == 1) trainer_publish(trainer, 1);
        if (update == 20) stage_restart();
        if (update == 30 && trainer->lineage == 0) { /* back to version 0: 30 updates are made again, and counted once */
            trainer->mute = true;
            trainer = stage_join("trainer");
            WAIT_FOR(trainer->job == (uint64_t)stage.job);
            trainer_publish(trainer, 0);
            update = 0;
        }
        ck_assert(ledger_state_is(stage.job, "running"));
    }
    ck_assert_str_eq(trainer_fetch(trainer, 52)->kind, "end");
    ck_assert_int_eq(trainer->lineage, 1);
    trainer_commit(trainer, 1);
    WAIT_FOR(trainer->stopped_job == (uint64_t)stage.job);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM job WHERE id = $1 AND reason = 'nothing_left_to_learn'", 0), 1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {a_new_trainer_begins_a_lineage, a_skipped_update_makes_no_version,
                                  a_batch_is_one_however_often_it_is_asked_for, messages_of_an_older_lineage_change_nothing,
                                  fifty_skipped_updates_end_the_job};
    return stage_main("data.batch", tests, sizeof tests / sizeof *tests);
}
