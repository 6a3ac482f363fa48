/* LABELS: unit store
 * What the real pal-data makes of messages that were lost or came twice, against scripted peers (tests/support/stage.h). */
#include "tests/support/stage.h"

/* What it has: the tokens of its first `count` leases that are not acknowledged; the greatest it ever saw is `newest`. */
static void say_held(struct peer *worker, size_t count, uint64_t newest)
{
    uint64_t tokens[STAGE_LEASES];
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        if (!worker->leases[i].acked) tokens[n++] = worker->leases[i].token;
    }
    const struct wire_leases_held held = {worker->job, count, newest, {tokens, n}};
    peer_send(worker, WIRE_leases_held, &held);
}

/* a message of leases that never came, in the middle and at the end of what did come */
START_TEST(lost_leases_are_granted_again)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    worker_request(worker, 2);
    say_held(worker, 6, worker->leases[7].token); /* older than one that came: lost for certain */
    WAIT_FOR(worker->lease_count == 10);
    for (size_t i = 8; i < 10; i++) {
        uint64_t episode = worker->leases[i].episode;
        ck_assert(episode == worker->leases[6].episode || episode == worker->leases[7].episode);
        ck_assert_uint_eq(worker->leases[i].attempt, 1);
        ck_assert_uint_gt(worker->leases[i].token, worker->leases[7].token);
    }
    worker->leases[6] = worker->leases[8];
    worker->leases[7] = worker->leases[9];
    worker->lease_count = 8;
    uint64_t end = uv_now(&stage.loop) + 500;
    for (size_t i = 0; i < 3; i++) say_held(worker, 7, worker->leases[6].token); /* the last may be on its way */
    WAIT_FOR(uv_now(&stage.loop) > end);
    ck_assert_uint_eq(worker->lease_count, 8);
    say_held(worker, 8, worker->leases[7].token);
    stage_update(trainer, worker, 1);
    ck_assert_uint_eq(trainer_batch(trainer, 1)->count, 8);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND failures = '{cancelled}'", 0), 2);
}
END_TEST

START_TEST(who_missed_a_message_is_reminded)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout"),
                *env = stage_join("env");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    uint64_t job = (uint64_t)stage.job;
    trainer->job = worker->job = env->job = 0; /* as if job_assign had not come */
    WAIT_FOR(trainer->job == job && worker->job == job && env->job == job);
    worker->wanted = -1; /* nor policy_wanted */
    WAIT_FOR(worker->wanted == 0);
    uint64_t assigns = worker->assigns + trainer->assigns;
    uint64_t end = uv_now(&stage.loop) + 400;
    WAIT_FOR(uv_now(&stage.loop) > end);
    ck_assert_uint_eq(worker->assigns + trainer->assigns, assigns); /* who knows it is left alone */
    stage_command(gateway, stage.job, "cancel", "");
    WAIT_FOR(worker->stopped_job == job && trainer->stopped_job == job);
    worker->job = job; /* nor job_stop */
    worker->stopped_job = 0;
    WAIT_FOR(worker->stopped_job == job);
    worker->job = 0;
}
END_TEST

/* update_done was lost, checkpoint_committed and policy_published were not */
START_TEST(a_checkpoint_waits_for_its_update)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    worker_play(worker, true);
    ck_assert_uint_eq(trainer_fetch(trainer, 1)->count, 8);
    const struct wire_checkpoint_committed early = {.job = trainer->job,
                                                    .lineage = trainer->lineage,
                                                    .version = 1,
                                                    .update = 1,
                                                    .path = span_text("/tmp/nowhere.ckpt"),
                                                    .sha256 = span_text(STAGE_DIGEST),
                                                    .size = 100,
                                                    .digest = span_text(STAGE_DIGEST)};
    peer_send(trainer, WIRE_checkpoint_committed, &early);
    trainer_publish(trainer, 1); /* an answer to what came after it */
    ck_assert_int_eq(trainer->committed_ack, 0);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM policy WHERE job = $1 AND version = 1 AND committed_at IS NOT NULL", 0),
                     0);
    trainer_apply(trainer, 1);
    trainer_commit(trainer, 1); /* sent again */
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM batch WHERE job = $1 AND state = 'committed'", 0), 2);
}
END_TEST

START_TEST(a_question_that_comes_twice_is_answered_once)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    const struct wire_job_submit submit = {
        .request = 1000,
        .remaining_ms = 10000,
        .spec = span_text("{\"name\": \"twice\", \"environments\": [{\"name\": \"adventure\"}]}")};
    uint64_t answers = gateway->answers;
    for (int i = 0; i < 3; i++) peer_send(gateway, WIRE_job_submit, &submit);
    WAIT_FOR(gateway->answers > answers);
    const struct wire_job_command cancel = {
        .request = 1001, .remaining_ms = 10000, .job = gateway->answer_job, .command = span_text("cancel")};
    for (int i = 0; i < 2; i++) peer_send(gateway, WIRE_job_command, &cancel);
    WAIT_FOR(gateway->answers == answers + 2);
    ck_assert_str_eq(gateway->answer_error, "");
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM job WHERE name = 'twice'", 0), 1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        lost_leases_are_granted_again,
        who_missed_a_message_is_reminded,
        a_checkpoint_waits_for_its_update,
        a_question_that_comes_twice_is_answered_once,
    };
    return stage_main("data.link", tests, sizeof tests / sizeof *tests);
}
