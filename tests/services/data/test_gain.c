/* LABELS: unit store
 * Scores and GAIN-RL in the real pal-data: tasks are ranked before the first fresh group, killed in the middle of it; draws
 * by rank, without replacement; mu by figures worked out by hand; ranked again; back to the fork with a new trainer;
 * controls. */
#include "tests/support/stage.h"

#include <math.h>
#include <stdio.h>

#define GAIN(more) ", \"curriculum\": {\"kind\": \"gain-rl\", \"sigma_fraction\": 0.0001" more "}"

/* the order is by id, as the worker scores; with so small a sigma the draw is the nearest rank that is not taken */
static const struct stage_job JOB = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 6, .more = GAIN("")};

static size_t count_leases(const struct peer *worker, const char *source)
{
    size_t count = 0;
    for (size_t i = 0; i < worker->lease_count; i++) count += strcmp(worker->leases[i].source, source) == 0;
    return count;
}

/* Scores what is asked for, so many in all, and waits until so many fresh leases came in all. */
static void rank(struct peer *worker, size_t scores, size_t fresh)
{
    WAIT_FOR((worker_request(worker, 64), count_leases(worker, "score") == scores));
    worker_play(worker, true);
    WAIT_FOR(worker_acked(worker));
    if (fresh) WAIT_FOR((worker_request(worker, 64), count_leases(worker, "fresh") == fresh));
}

/* The task of the k-th fresh group. */
static uint64_t task_of(const struct peer *worker, size_t group)
{
    size_t fresh = 0;
    for (size_t i = 0; i < worker->lease_count; i++) {
        if (strcmp(worker->leases[i].source, "fresh") == 0 && fresh++ == 4 * group) return worker->leases[i].task;
    }
    ck_abort_msg("only %zu fresh leases", fresh);
}

/* Plays the groups of an update with a reward for all, and reports it with the angle of its prompts (NaN: none). */
static void make(struct peer *trainer, struct peer *worker, int64_t update, double reward, double angle)
{
    WAIT_FOR((worker_request(worker, 64), count_leases(worker, "fresh") == 8 * (size_t)update));
    WAIT_FOR(worker->wanted == trainer->version);
    for (size_t i = 0; i < worker->lease_count; i++) {
        if (!worker->leases[i].said) worker_end(worker, &worker->leases[i], "ok", reward);
    }
    (void)trainer_fetch(trainer, update);
    const struct wire_counter figure = {span_text("angle"), angle};
    trainer_tell(trainer, update, isnan(angle) ? "skipped" : "applied", &figure, isnan(angle) ? 0u : 1u);
    if (!isnan(angle)) trainer_publish(trainer, update);
}

/* A number of the newest state, in millionths. */
#define STATE(key)                                                                                                           \
    "SELECT round((state ->> '" key "')::float8 * 1e6)::bigint FROM method_state"                                            \
    " WHERE job = $1 AND method = 'gain-rl' AND update = $2 ORDER BY lineage DESC LIMIT 1"

START_TEST(tasks_are_ranked_before_the_first_group)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &JOB);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 8);
    for (size_t i = 0; i < 8; i++) {
        ck_assert_str_eq(worker->leases[i].source, "score");
        ck_assert_str_eq(worker->leases[i].score, "prompt");
        ck_assert_int_eq(worker->leases[i].pin_version, 0);
        ck_assert_uint_eq(worker->leases[i].measured, 0);
    }
    for (size_t i = 0; i < 7; i++) worker_end(worker, &worker->leases[i], "ok", 0);
    WAIT_FOR(worker_acked(worker));
    ck_assert_uint_eq(count_leases(worker, "fresh"), 0);
    worker_end(worker, &worker->leases[7], "ok", 0);
    WAIT_FOR((worker_request(worker, 64), count_leases(worker, "fresh") == 8));
    ck_assert_uint_eq(task_of(worker, 0), 0); /* mu 0: the first rank, then the nearest to it */
    ck_assert_uint_eq(task_of(worker, 1), 1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM task_score WHERE job = $1 AND lineage = 0 AND version = $2", 0), 8);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM task_score WHERE job = $1 AND abs(c_intra - 0.5 + 0.01 * task) < 1e-9"
                                " AND c_inter = 0.25 AND tokens = 10 + task AND value = 0.5",
                                0),
                     8);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode e JOIN episode_group g ON g.job = e.job AND g.id = e.group_id"
                                " WHERE e.job = $1 AND g.source = 'score' AND (e.scores ->> 'tokens')::int = 10 + g.task",
                                0),
                     8);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'gain-rl' AND verdict = 'ranked'"
                                " AND subject = 'job' AND inputs ->> 'scored' = '8'",
                                0),
                     1);
    make(trainer, worker, 1, 1, 0.4);
}
END_TEST

/* 1 tanh(2 (acc - 0.5)) + 1 tanh(0.5 C), n = 2 groups */
START_TEST(mu_follows_accuracy_and_angle)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &JOB);
    rank(worker, 8, 8);
    make(trainer, worker, 1, 1, 0.6); /* 0.7615942 + 0.2913126 */
    ck_assert_int_eq(ledger_ask(STATE("mu"), 1), 1052907);
    make(trainer, worker, 2, 0, 0.6); /* -0.76 + 0.29: it stays */
    ck_assert_uint_eq(task_of(worker, 2), 1);
    ck_assert_uint_eq(task_of(worker, 3), 2);
    ck_assert_int_eq(ledger_ask(STATE("mu"), 2), 1052907);
    make(trainer, worker, 3, 1,
         NAN); /* skipped: C of the tasks' scores, 0.75 - 0.01 x 1.5 = 0.735; tanh 0.3675 = 0.3518030 */
    ck_assert_int_eq(ledger_ask(STATE("mu"), 3), 1052907 + 761594 + 351803);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM metric WHERE job = $1 AND name IN ('gain_mu', 'gain_acc_term',"
                                " 'gain_angle_term')",
                                0),
                     9);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'gain-rl' AND subject = 'update'"
                                " AND verdict = CASE key WHEN 2 THEN 'stays' ELSE 'moved' END",
                                0),
                     3);
    make(trainer, worker, 4, 1, 0.6);
    make(trainer, worker, 5, 1, 0.6);
    ck_assert_int_eq(ledger_ask(STATE("mu"), 5), 2166304 + 2 * 1052907);
    for (size_t g = 0; g < 10; g += 2) ck_assert_uint_ne(task_of(worker, g), task_of(worker, g + 1));
    ledger_notices("gain_draws_without_replacement", "UPDATE episode_group SET task = 5 WHERE source = 'fresh'");
    ledger_notices("gain_mu_moves_on", "UPDATE method_state SET state = '{\"mu\": 0.1}' WHERE update = 3");
    ledger_notices("gain_mu_moves_on", "UPDATE method_state SET state = '{\"mu\": 70}' WHERE update = 5");
    ledger_notices("scores_are_of_their_version", "DELETE FROM task_score WHERE task = 3");
}
END_TEST

START_TEST(a_killed_data_manager_goes_on_ranking)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &JOB);
    worker_request(worker, 64);
    WAIT_FOR(worker->lease_count == 8);
    for (size_t i = 0; i < 8; i++) {
        worker_end(worker, &worker->leases[7 - i], "ok", 0);
        if (i % 3) continue;
        uint64_t again = worker->hellos_again;
        stage_restart();
        WAIT_FOR(worker->hellos_again > again && trainer->hellos_again > 0 && worker_acked(worker));
    }
    WAIT_FOR((worker_request(worker, 64), count_leases(worker, "fresh") == 8));
    ck_assert_uint_eq(count_leases(worker, "score"), 8); /* none is measured twice */
    ck_assert_uint_eq(task_of(worker, 0), 0);
    make(trainer, worker, 1, 1, 0.6);
    stage_restart();
    WAIT_FOR((worker_request(worker, 64), count_leases(worker, "fresh") == 16));
    ck_assert_uint_eq(task_of(worker, 2), 1); /* mu 1.05, the same ranking */
    make(trainer, worker, 2, 1, 0.6);
    ck_assert_int_eq(ledger_ask(STATE("mu"), 2), 2 * 1052907);
}
END_TEST

/* What cannot be a score is poisoned; a task that could not be scored comes last. */
static size_t score_badly(const struct lease *lease, struct wire_counter ret[STAGE_SCORES])
{
    ret[0] = (struct wire_counter){span_text("c_intra"), lease->task == 0 ? (double)NAN : 0.1 * (double)lease->task};
    ret[1] = (struct wire_counter){span_text("c_inter"), lease->task == 1 ? 7 : 0};
    ret[2] = (struct wire_counter){span_text("tokens"), 10};
    return lease->task == 2 ? 2 : 3;
}

START_TEST(scores_that_are_none_are_refused)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    worker->scorer = score_badly;
    stage_begin(gateway, trainer, worker, &JOB);
    rank(worker, 8, 8);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'void' AND outcome = 'poisoned'", 0),
                     3);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM task_score WHERE job = $1", 0), 5);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM task WHERE job = $1 AND state = 'quarantined'", 0), 0);
    ck_assert_uint_eq(task_of(worker, 0), 7);
    ck_assert_uint_eq(task_of(worker, 1), 6);
}
END_TEST

START_TEST(tasks_are_ranked_again)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = JOB;
    job.more = GAIN(", \"rerank_every\": 2, \"rank\": \"reversed\"");
    stage_begin(gateway, trainer, worker, &job);
    rank(worker, 8, 8);
    ck_assert_uint_eq(task_of(worker, 0), 7); /* the lowest C first */
    make(trainer, worker, 1, 0, 0);
    ck_assert_uint_eq(count_leases(worker, "score"), 8);
    make(trainer, worker, 2, 0, 0); /* then groups of update 3 go out beside the scores */
    rank(worker, 16, 24);
    for (size_t i = 0; i < worker->lease_count; i++) {
        const struct lease *lease = &worker->leases[i];
        if (strcmp(lease->source, "score") == 0) ck_assert_int_eq(lease->pin_version, i < 8 ? 0 : 2);
    }
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'gain-rl' AND verdict = 'ranked'", 0), 2);
}
END_TEST

START_TEST(a_new_trainer_goes_back_to_the_fork)
{
    struct peer *gateway = stage_join("gateway"), *first = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = JOB;
    job.more = GAIN(", \"rerank_every\": 2");
    stage_begin(gateway, first, worker, &job);
    rank(worker, 8, 8);
    make(first, worker, 1, 1, 0.6);
    trainer_commit(first, 1);
    make(first, worker, 2, 1, 0.6);
    WAIT_FOR((worker_request(worker, 64), count_leases(worker, "score") == 16)); /* asked for, and the trainer dies */
    first->mute = true;
    struct peer *second = stage_join("trainer");
    WAIT_FOR(second->job == (uint64_t)stage.job && second->lineage == 1);
    worker_play(worker, true); /* late: the old version's scores mean nothing any more */
    WAIT_FOR(worker_acked(worker));
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM task_score WHERE job = $1 AND version = $2", 2), 0);
    second->version = 1;
    trainer_publish(second, 1);
    worker->wanted = 1;
    (void)trainer_fetch(second, 2);
    const struct wire_counter angle = {span_text("angle"), 0.6};
    trainer_tell(second, 2, "applied", &angle, 1);
    trainer_publish(second, 2);
    ck_assert_int_eq(ledger_ask(STATE("mu"), 2), 2 * 1052907); /* not moved three times */
    rank(worker, 24, 0);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM task_score WHERE job = $1 AND lineage = 1 AND version = $2", 2), 8);
}
END_TEST

START_TEST(controls_need_no_scores)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    struct stage_job job = JOB;
    job.more = GAIN(", \"rank\": \"level\"");
    stage_begin(gateway, trainer, worker, &job);
    WAIT_FOR((worker_request(worker, 64), worker->lease_count == 8));
    ck_assert_uint_eq(count_leases(worker, "fresh"), 8);
    ck_assert_uint_eq(task_of(worker, 0), 0); /* all of level 1: by id */
    make(trainer, worker, 1, 1, NAN);         /* no C at all: G is 0 */
    ck_assert_int_eq(ledger_ask(STATE("mu"), 1), 761594);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        tasks_are_ranked_before_the_first_group,
        mu_follows_accuracy_and_angle,
        a_killed_data_manager_goes_on_ranking,
        scores_that_are_none_are_refused,
        tasks_are_ranked_again,
        a_new_trainer_goes_back_to_the_fork,
        controls_need_no_scores,
    };
    return stage_main("data.gain", tests, sizeof tests / sizeof *tests);
}
