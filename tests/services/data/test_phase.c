/* LABELS: unit store
 * WebRL's phases in the real pal-data: admission waits for the checkpoint, failed tasks are mutated, candidates are scored
 * and judged by the critic's band, successes are measured and replayed, an outcome reward model rewards generated tasks;
 * killed and rolled back in the middle of each. */
#include "tests/support/stage.h"

#include <math.h>
#include <stdio.h>

#define WEBRL(more) ", \"curation\": {\"webrl\": {\"phase_updates\": 2, \"phase_tasks\": 4" more "}}"

static const struct stage_job JOB = {
    .tasks = 8, .group_size = 4, .groups = 2, .updates = 8, .trainer = ", \"advantage\": \"grpo\"", .more = WEBRL("")};

static size_t count_leases(const struct peer *worker, const char *source)
{
    size_t count = 0;
    for (size_t i = 0; i < worker->lease_count; i++) count += strcmp(worker->leases[i].source, source) == 0;
    return count;
}

static size_t count_scores(const struct peer *worker, const char *what)
{
    size_t count = 0;
    for (size_t i = 0; i < worker->lease_count; i++) count += strcmp(worker->leases[i].score, what) == 0;
    return count;
}

/* Tasks with an even id fail with three of four episodes, the others win with three. */
static void play(struct peer *worker)
{
    for (size_t i = 0; i < worker->lease_count; i++) {
        struct lease *lease = &worker->leases[i];
        if (lease->said || lease->min_version > worker->wanted) continue;
        bool wins = lease->score[0] ? false : lease->task % 2 ? lease->episode % 4 > 0 : lease->episode % 4 == 0;
        lease->verified = lease->judge ? !wins : 0;
        worker_end(worker, lease, "ok", wins);
    }
}

/* Plays until the batch of the update is there. */
static const struct batch *fetch(struct peer *trainer, struct peer *worker, int64_t update)
{
    size_t before = trainer->batch_count;
    trainer_ask(trainer, update);
    WAIT_FOR((worker_request(worker, 64), play(worker), trainer->batch_count > before));
    ck_assert_int_eq(trainer->batches[trainer->batch_count - 1].update, update);
    return &trainer->batches[trainer->batch_count - 1];
}

static const struct batch *make(struct peer *trainer, struct peer *worker, int64_t update)
{
    const struct batch *batch = fetch(trainer, worker, update);
    trainer_tell(trainer, update, "applied", NULL, 0);
    trainer_publish(trainer, update);
    WAIT_FOR(worker->wanted == update);
    return batch;
}

static bool is_phase(int64_t phase, const char *state)
{
    static const char *const names[] = {"collecting", "training", "generating"};
    int64_t now = ledger_ask("SELECT 10 * (state ->> 'phase')::bigint + (state ->> 'state')::bigint FROM method_state"
                             " WHERE job = $1 AND method = 'webrl' AND update <= (SELECT updates_done FROM job WHERE id = $1)"
                             " ORDER BY update DESC, lineage DESC LIMIT 1",
                             0);
    return now / 10 == phase && strcmp(names[now % 10], state) == 0;
}

#define COUNT(table, more) ledger_ask("SELECT count(*) FROM " table " WHERE job = $1 AND " more, 0)

START_TEST(a_phase_ends_and_the_next_begins)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = JOB;
    job.staleness = 4; /* admission would allow them, phases do not */
    stage_begin(gateway, trainer, worker, &job);
    const struct batch *one = make(trainer, worker, 1);
    ck_assert(!one->phase_end);
    ck_assert_uint_eq(one->phase, 0);
    const struct batch *two = fetch(trainer, worker, 2);
    ck_assert(two->phase_end);
    ck_assert(is_phase(0, "training"));
    trainer_tell(trainer, 2, "applied", NULL, 0);
    trainer_publish(trainer, 2);
    worker_request(worker, 64);
    WAIT_FOR(worker->wanted == 2);
    ck_assert_uint_eq(worker->lease_count, 16); /* nothing of update 3 before the phase is durable */
    trainer_commit(trainer, 2);
    ck_assert(is_phase(0, "generating"));
    WAIT_FOR((worker_request(worker, 64), worker->lease_count > 16));
    for (size_t i = 16; i < worker->lease_count; i++) {
        ck_assert_str_eq(worker->leases[i].source, "score");
        ck_assert_int_eq(worker->leases[i].pin_version, 2);
        ck_assert_int_eq(worker->leases[i].measured > 0, strcmp(worker->leases[i].score, "replay") == 0);
    }
    ck_assert_uint_eq(count_scores(worker, "prompt"), 4);
    ck_assert_uint_eq(count_scores(worker, "replay"), 4); /* the first success of each task: each of the four has one */
    const struct batch *three = make(trainer, worker, 3);
    ck_assert(is_phase(1, "collecting"));
    ck_assert_uint_eq(three->phase, 1);
    ck_assert_int_eq(COUNT("task", "source = 'mutate' AND state = 'active' AND phase = 1 AND parent % 2 = 0"), 4);
    ck_assert_int_eq(COUNT("decision", "rule = 'critic' AND verdict = 'accepted' AND inputs ->> 'value' = '0.5'"), 4);
    ck_assert_int_eq(COUNT("decision", "rule = 'feasible' AND verdict = 'solved' AND (inputs ->> 'steps')::int <= 10"), 4);
    ck_assert_int_eq(COUNT("decision", "rule = 'replay' AND verdict = 'in_band' AND subject = 'episode'"), 4);
    ck_assert_int_eq(COUNT("decision", "rule = 'webrl' AND verdict = 'phase' AND inputs ->> 'failed' = '2'"), 1);
    ck_assert_int_eq(COUNT("episode_group", "phase = 1 AND source = 'fresh' AND update_for > 2"),
                     COUNT("episode_group", "source = 'fresh' AND update_for > 2"));
    ck_assert_int_eq(COUNT("job_event", "kind = 'phase'"), 3);
    ck_assert_int_eq(COUNT("metric", "name = 'webrl_phase' AND value = (update - 1) / 2"), 3);
    ck_assert_int_eq(COUNT("metric", "name = 'webrl_accepted' AND update = 3 AND value = 4"), 1);
}
END_TEST

/* V by the task: accepted from id 14 on only */
static size_t score_by_id(const struct lease *lease, struct wire_counter ret[STAGE_SCORES])
{
    ret[0] = (struct wire_counter){span_text("perplexity"), lease->episode % 2 ? 1.5 : 3};
    if (strcmp(lease->score, "replay") == 0) return 1;
    ret[0] = (struct wire_counter){span_text("c_intra"), 0};
    ret[1] = (struct wire_counter){span_text("c_inter"), 0};
    ret[2] = (struct wire_counter){span_text("tokens"), 9};
    ret[3] = (struct wire_counter){span_text("value"), lease->task < 14 ? 0.8 : 0.6};
    return lease->task == 13 ? 3 : 4; /* one without a value */
}

START_TEST(the_critic_refuses_what_is_too_easy)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    worker->scorer = score_by_id;
    stage_begin(gateway, trainer, worker, &JOB);
    (void)make(trainer, worker, 1);
    (void)make(trainer, worker, 2);
    trainer_commit(trainer, 2);
    (void)make(trainer, worker, 3);
    ck_assert_int_eq(COUNT("task", "state = 'refused'"), 2); /* 12 and 13; then two more in their places */
    ck_assert_int_eq(COUNT("task", "source = 'mutate' AND state = 'active'"), 4);
    ck_assert_int_eq(COUNT("decision", "rule = 'critic' AND verdict = 'refused' AND key IN (12, 13)"), 2);
    ck_assert_int_gt(COUNT("decision", "rule = 'replay' AND verdict = 'outside'"), 0);
    for (size_t i = 0; i < worker->lease_count; i++) {
        if (strcmp(worker->leases[i].source, "fresh") == 0)
            ck_assert(worker->leases[i].task != 12 && worker->leases[i].task != 13);
    }
}
END_TEST

START_TEST(a_phase_without_new_tasks_goes_on)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = JOB;
    job.more = WEBRL(", \"candidates\": 2, \"value_low\": 0.9, \"value_high\": 0.95, \"replay\": false");
    stage_begin(gateway, trainer, worker, &job);
    (void)make(trainer, worker, 1);
    (void)make(trainer, worker, 2);
    trainer_commit(trainer, 2);
    const struct batch *three = make(trainer, worker, 3);
    ck_assert_uint_eq(three->count, 8);
    ck_assert_int_eq(COUNT("task", "state = 'refused'"), COUNT("task", "source = 'mutate'"));
    ck_assert_int_eq(COUNT("decision", "rule = 'webrl' AND inputs ->> 'looked' = '8' AND inputs ->> 'accepted' = '0'"), 1);
    ck_assert_uint_eq(count_scores(worker, "replay"), 0);
}
END_TEST

START_TEST(successes_are_replayed)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = JOB;
    job.more = WEBRL(", \"replay_cap\": 1, \"replay_most\": 0.3");
    stage_begin(gateway, trainer, worker, &job);
    (void)make(trainer, worker, 1);
    (void)make(trainer, worker, 2);
    trainer_commit(trainer, 2);
    struct batch three = *make(trainer, worker, 3), four = *make(trainer, worker, 4);
    ck_assert_uint_eq(three.count, 10); /* four uses in two updates; 0.3 of some 48 tokens leave room for two of 5 to 7 */
    ck_assert_uint_eq(four.count, 10);
    for (size_t i = 8; i < 10; i++) {
        ck_assert_str_eq(three.source[i], "replay");
        ck_assert_uint_eq(three.pass[i], 1);
        ck_assert_double_gt(three.advantage[i], 0);
        ck_assert_uint_gt(three.payload[i], 0);
        for (size_t k = 8; k < 10; k++) ck_assert_uint_ne(three.episode[i], four.episode[k]);
    }
    batch_same(&three, trainer_fetch(trainer, 3));
    ck_assert_int_eq(COUNT("training_use", "source = 'replay' AND pass = 1"), 4);
    ck_assert_int_eq(COUNT("metric", "name = 'webrl_replayed' AND value = 2"), 2);
    ck_assert_int_eq(COUNT("decision", "rule = 'replay' AND verdict = 'replayed' AND subject = 'update'"), 2);
    ledger_notices("batches_have_their_phase", "UPDATE batch SET phase_end = false WHERE update = 2");
    ledger_notices("tasks_are_drawn_in_their_phase", "UPDATE task SET phase = 3 WHERE id = 1");
    ledger_notices("phases_wait_for_their_checkpoint", "UPDATE episode_group SET planned_at = planned_at - interval '1 day'");
    ledger_notices("generated_tasks_passed", "DELETE FROM decision WHERE rule = 'critic' AND key = 13");
    ledger_notices("generated_tasks_passed", "UPDATE decision SET inputs = '{\"value\": 0.8}' WHERE rule = 'critic'");
    ledger_notices("judged_rewards_are_known", "UPDATE episode SET verified = 1 WHERE id = 0");
    ledger_notices("replays_are_in_the_band",
                   "UPDATE episode SET scores = '{\"perplexity\": 2.5}' WHERE scores ? 'perplexity'");
    ledger_notices("replays_are_in_the_band",
                   "UPDATE batch SET episodes = episodes || episodes[9], pass = pass || 7::smallint,"
                   " advantage = advantage || 0::float8, source = source || 'replay'::text, member_group = member_group || "
                   "member_group[9]"
                   " WHERE update = 4");
    ledger_notices("replays_are_within_budget", "UPDATE episode SET action_tokens = 40 WHERE id IN"
                                                " (SELECT episode FROM training_use WHERE source = 'replay')");
}
END_TEST

START_TEST(a_killed_data_manager_goes_on_generating)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    worker->scorer = score_by_id; /* two waves */
    stage_begin(gateway, trainer, worker, &JOB);
    (void)make(trainer, worker, 1);
    (void)fetch(trainer, worker, 2);
    stage_restart(); /* training: between the last batch and its end */
    WAIT_FOR(trainer->hellos_again > 0);
    trainer_tell(trainer, 2, "applied", NULL, 0);
    trainer_publish(trainer, 2);
    WAIT_FOR(worker->wanted == 2);
    stage_restart(); /* and before its checkpoint */
    size_t first = worker->lease_count;
    trainer_commit(trainer, 2);
    WAIT_FOR((worker_request(worker, 64), worker->lease_count == first + 8));
    for (size_t i = first; i < first + 3; i++) worker_end(worker, &worker->leases[i], "ok", 0);
    WAIT_FOR(worker_acked(worker));
    uint64_t again = worker->hellos_again;
    stage_restart(); /* in the middle of a wave */
    WAIT_FOR(worker->hellos_again > again);
    (void)make(trainer, worker, 3);
    ck_assert_uint_eq(count_scores(worker, "prompt"), 6); /* none twice */
    ck_assert_uint_eq(count_scores(worker, "replay"), 4);
    ck_assert_int_eq(COUNT("task", "source = 'mutate' AND state = 'active'"), 4);
    ck_assert_int_eq(COUNT("task", "state = 'candidate'"), 0);
    stage_restart();
    (void)make(trainer, worker, 4);
    ck_assert(is_phase(1, "training"));
    ck_assert_int_gt(COUNT("training_use", "source = 'replay' AND update = 4"), 0);
}
END_TEST

START_TEST(a_new_trainer_in_the_middle_of_generating)
{
    struct peer *gateway = stage_join("gateway"), *first = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, first, worker, &JOB);
    (void)make(first, worker, 1);
    (void)make(first, worker, 2);
    size_t before = worker->lease_count;
    trainer_commit(first, 2);
    WAIT_FOR((worker_request(worker, 64), worker->lease_count == before + 8));
    worker_end(worker, &worker->leases[before], "ok", 0);
    WAIT_FOR(worker_acked(worker));
    first->mute = true;
    struct peer *second = stage_join("trainer");
    WAIT_FOR(second->job == (uint64_t)stage.job && second->lineage == 1);
    ck_assert_int_eq(second->resume_version, 2);
    second->version = 2;
    trainer_publish(second, 2);
    (void)make(second, worker, 3); /* what was broken off is scored again */
    ck_assert_uint_eq(count_leases(worker, "score"), 8 + 7);
    ck_assert_int_eq(COUNT("task", "source = 'mutate' AND state = 'active'"), 4);
    ck_assert(is_phase(1, "collecting"));
}
END_TEST

START_TEST(a_new_trainer_before_the_phase_was_durable)
{
    struct peer *gateway = stage_join("gateway"), *first = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, first, worker, &JOB);
    (void)make(first, worker, 1);
    (void)make(first, worker, 2);
    first->mute = true;
    struct peer *second = stage_join("trainer");
    WAIT_FOR(second->job == (uint64_t)stage.job && second->lineage == 1);
    ck_assert_int_eq(second->resume_version, 0);
    second->version = 0;
    trainer_publish(second, 0);
    worker->wanted = 0;
    (void)trainer_fetch(second, 1);
    trainer_tell(second, 1, "applied", NULL, 0);
    trainer_publish(second, 1);
    ck_assert(is_phase(0, "collecting"));
    ck_assert(trainer_fetch(second, 2)->phase_end);
    ck_assert(is_phase(0, "training"));
    trainer_tell(second, 2, "applied", NULL, 0);
    trainer_publish(second, 2);
    WAIT_FOR(worker->wanted == 2);
    ck_assert_uint_eq(count_leases(worker, "score"), 0);
    trainer_commit(second, 2);
    (void)make(second, worker, 3);
    ck_assert(is_phase(1, "collecting"));
}
END_TEST

/* Back over a boundary: the tasks of the next phase stay, but are not drawn before it begins again. */
START_TEST(a_rollback_over_a_boundary)
{
    struct peer *gateway = stage_join("gateway"), *first = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = JOB;
    job.more = WEBRL(", \"overlap\": true");
    stage_begin(gateway, first, worker, &job);
    (void)make(first, worker, 1);
    trainer_commit(first, 1);
    (void)make(first, worker, 2);
    (void)make(first, worker, 3); /* overlap: the next phase does not wait */
    ck_assert_int_eq(COUNT("episode_group", "phase = 1 AND source = 'fresh'"), 4);
    ck_assert(is_phase(0, "training"));
    first->mute = true;
    struct peer *second = stage_join("trainer");
    WAIT_FOR(second->job == (uint64_t)stage.job && second->lineage == 1);
    ck_assert_int_eq(second->resume_version, 1);
    second->version = 1;
    trainer_publish(second, 1);
    for (int64_t u = 2; u <= 3; u++) {
        (void)trainer_fetch(second, u);
        trainer_tell(second, u, "applied", NULL, 0);
        trainer_publish(second, u);
    }
    WAIT_FOR(worker->wanted == 3);
    trainer_commit(second, 3); /* not written at the boundary itself: good for it all the same */
    (void)make(second, worker, 4);
    ck_assert_int_eq(COUNT("task", "source = 'mutate' AND state = 'active'"), 4);
}
END_TEST

START_TEST(a_model_rewards_generated_tasks)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = JOB;
    job.more = WEBRL(", \"orm\": \"reward\", \"orm_episodes\": 16, \"keep_tasks\": false, \"replay\": false");
    stage_begin(gateway, trainer, worker, &job);
    ck_assert_uint_eq(make(trainer, worker, 1)->judged, 0);
    const struct batch *two = make(trainer, worker, 2);
    ck_assert_uint_eq(two->judged, 16);
    ck_assert_uint_eq(two->judged_successes, 8);
    ck_assert_uint_lt(two->judged_tests, 16);
    ck_assert_uint_eq(trainer_fetch(trainer, 2)->judged, 16);
    trainer_commit(trainer, 2);
    worker_request(worker, 64);
    ck_assert(is_phase(0, "training")); /* the model that is to judge is not there yet */
    trainer_publish_orm(trainer, 1);
    WAIT_FOR(worker->wanted_orm == 1);
    struct batch three = *make(trainer, worker, 3);
    size_t judged = 0;
    for (size_t i = 0; i < worker->lease_count; i++) {
        const struct lease *lease = &worker->leases[i];
        if (strcmp(lease->source, "fresh") != 0 || lease->task < 12) continue;
        ck_assert_int_eq(lease->judge, 1);
        judged++;
    }
    ck_assert_uint_ge(judged, 8); /* only generated tasks are in the mix now */
    for (size_t i = 0; i < three.count; i++)
        ck_assert_int_eq(ledger_ask("SELECT (verified = 1 - reward)::int::bigint FROM episode WHERE job = $1 AND id = $2",
                                    (int64_t)three.episode[i]),
                         1);
    uint64_t seen = worker->hellos_again, heard = trainer->hellos_again;
    stage_restart();
    WAIT_FOR(worker->hellos_again > seen && trainer->hellos_again > heard);
    (void)trainer_fetch(trainer, 3); /* then it has said hello as often as it was asked to */
    trainer->mute = true;
    worker_request(worker, 8);
    WAIT_FOR(!worker->leases[worker->lease_count - 1].said);
    struct lease *lease = &worker->leases[worker->lease_count - 1];
    ck_assert_int_eq(lease->judge, 1);
    /* a new trainer has to publish it before anything is judged */
    struct peer *second = stage_join("trainer");
    WAIT_FOR(second->job == (uint64_t)stage.job && second->lineage == 1);
    second->version = 2;
    trainer_publish(second, 2);
    lease->judge = 0; /* an end that nobody judged */
    worker_end(worker, lease, "ok", 1);
    WAIT_FOR(lease->acked);
    ck_assert_int_eq(COUNT("decision", "rule = 'retry' AND inputs ->> 'outcome' = 'judge_error'"), 1);
    size_t before = worker->lease_count;
    worker_request(worker, 64);
    trainer_publish(second, 2); /* a turn later */
    ck_assert_uint_eq(worker->lease_count, before);
    trainer_publish_orm(second, 1);
    WAIT_FOR((worker_request(worker, 64), worker->lease_count > before));
}
END_TEST

START_TEST(a_model_that_never_learned_rewards_nothing)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = JOB;
    job.more = WEBRL(", \"orm\": \"reward\", \"replay\": false");
    stage_begin(gateway, trainer, worker, &job);
    (void)make(trainer, worker, 1);
    (void)make(trainer, worker, 2);
    trainer_commit(trainer, 2);
    (void)make(trainer, worker, 3); /* the trainer asked and had published no model: no tasks, but the job goes on */
    ck_assert(is_phase(1, "collecting"));
    ck_assert_int_eq(COUNT("task", "source = 'mutate'"), 0);
    ck_assert_int_eq(COUNT("decision", "rule = 'webrl' AND inputs ->> 'orm' = '0' AND inputs ->> 'accepted' = '0'"), 1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_phase_ends_and_the_next_begins,
        the_critic_refuses_what_is_too_easy,
        a_phase_without_new_tasks_goes_on,
        successes_are_replayed,
        a_killed_data_manager_goes_on_generating,
        a_new_trainer_in_the_middle_of_generating,
        a_new_trainer_before_the_phase_was_durable,
        a_rollback_over_a_boundary,
        a_model_rewards_generated_tasks,
        a_model_that_never_learned_rewards_nothing,
    };
    return stage_main("data.phase", tests, sizeof tests / sizeof *tests);
}
