/* LABELS: unit store
 * pal-data as a process, on a ledger of its own, against scripted peers (peers.h): grants, ends, batches and their
 * repetition, fencing, retries and void groups, lineages, kill -9, a second data manager, cancelling, late groups. Each test
 * looks at the messages and at the rows, and ends with every invariant of the ledger. */
#include "tests/services/data/peers.h"

#define POLICY "of-the-weights"

static struct cluster cluster; /* one for the program: main starts it */
static struct stage stage;     /* one for each test: Check gives it a process of its own */

struct job {
    int tasks, group_size, groups, updates, staleness, evaluated;
    const char *trainer; /* further keys of /trainer, each after a comma */
};

static void setup(void)
{
    stage_open(&stage, &cluster);
}

static void teardown(void)
{
    int64_t jobs = ledger_ask(&stage, "SELECT count(*) FROM job", 0);
    ck_assert_int_gt(jobs, 0);
    for (int64_t job = 1; job <= jobs; job++) ledger_verify(&stage, job);
    stage_close(&stage);
}

static int64_t ask(const char *sql, int64_t argument)
{
    return ledger_ask(&stage, sql, argument);
}

/* ---- what the tests are made of ---- */

static struct peer *join(const char *service)
{
    return peer_join(&stage, &stage.managers[0], service, NULL);
}

static int64_t submit(struct peer *gateway, const struct job *job, const char *key)
{
    char spec[2048];
    (void)snprintf(spec, sizeof spec,
                   "{\"name\": \"script\", \"seed\": 3, \"environments\": [{\"name\": \"adventure\", \"max_steps\": 10,"
                   " \"tasks\": {\"generate\": {\"levels\": [1], \"count\": %d, \"seed\": 7}, \"holdout\": 4}}],"
                   " \"policy\": {\"init\": {\"preset\": \"tiny-0.1m\"}, \"warmstart\": null},"
                   " \"rollout\": {\"group_size\": %d},"
                   " \"trainer\": {\"groups_per_update\": %d, \"updates\": %d, \"max_staleness\": %d%s},"
                   " \"evaluation\": {\"every\": 0, \"episodes\": %d}}",
                   job->tasks, job->group_size, job->groups, job->updates, job->staleness, job->trainer ? job->trainer : "",
                   job->evaluated);
    const struct wire_job_submit message = {
        .request = 1, .remaining_ms = 10000, .idempotency_key = span_text(key), .spec = span_text(spec)};
    uint64_t before = gateway->answers;
    peer_send(gateway, WIRE_job_submit, &message);
    WAIT_FOR(&stage, gateway->answers > before);
    ck_assert_str_eq(gateway->answer_error, "");
    return (int64_t)gateway->answer_job;
}

static void command(struct peer *gateway, int64_t job, const char *word, const char *want_error)
{
    const struct wire_job_command message = {
        .request = 2, .remaining_ms = 10000, .job = (uint64_t)job, .command = span_text(word)};
    uint64_t before = gateway->answers;
    peer_send(gateway, WIRE_job_command, &message);
    WAIT_FOR(&stage, gateway->answers > before);
    ck_assert_str_eq(gateway->answer_error, want_error);
}

static bool has_batch(const struct peer *trainer, int64_t update)
{
    for (size_t i = 0; i < trainer->batch_count; i++) {
        if (trainer->batches[i].update == update) return true;
    }
    return false;
}

/* The newest batch of an update that was handed out. */
static const struct batch *batch_of(const struct peer *trainer, int64_t update)
{
    size_t i = trainer->batch_count;
    while (i > 1 && trainer->batches[i - 1].update != update) i--;
    ck_assert_int_eq(trainer->batches[i - 1].update, update);
    return &trainer->batches[i - 1];
}

/* Asks until the answer comes; it is the newest batch then. */
static const struct batch *fetch(struct peer *trainer, int64_t update)
{
    size_t before = trainer->batch_count;
    trainer_ask(trainer, update);
    WAIT_FOR(&stage, trainer->batch_count > before);
    const struct batch *batch = batch_of(trainer, update);
    ck_assert_int_eq(batch->lineage, trainer->lineage);
    return batch;
}

static void say_done(struct peer *trainer, int64_t update, int64_t lineage, const char *outcome, int64_t version)
{
    const struct wire_counter metric = {span_text("loss"), 0.5};
    const struct wire_update_done done = {.job = trainer->job,
                                          .lineage = lineage,
                                          .update = update,
                                          .outcome = span_text(outcome),
                                          .version = version,
                                          .digest = span_text(POLICY),
                                          .metrics = &metric,
                                          .metrics_count = 1};
    peer_send(trainer, WIRE_update_done, &done);
}

static void apply(struct peer *trainer, int64_t update)
{
    trainer->applied_ack = -1;
    say_done(trainer, update, trainer->lineage, "applied", update);
    WAIT_FOR(&stage, trainer->applied_ack == update);
}

static void publish(struct peer *trainer, int64_t version)
{
    const struct wire_policy_published published = {trainer->job,      trainer->lineage,       version,
                                                    span_text(POLICY), span_text("/dev/null"), span_text("")};
    uint64_t before = trainer->policy_acks;
    peer_send(trainer, WIRE_policy_published, &published);
    WAIT_FOR(&stage, trainer->policy_acks > before);
}

static void commit(struct peer *trainer, int64_t version)
{
    const struct wire_checkpoint_committed checkpoint = {.job = trainer->job,
                                                         .lineage = trainer->lineage,
                                                         .version = version,
                                                         .update = version,
                                                         .path = span_text("/tmp/nowhere.ckpt"),
                                                         .sha256 = span_text(POLICY),
                                                         .size = 100,
                                                         .digest = span_text(POLICY)};
    peer_send(trainer, WIRE_checkpoint_committed, &checkpoint);
    WAIT_FOR(&stage, trainer->committed_ack == version);
}

/* Submits the job and brings it to its first version: nothing is played before. */
static void begin(struct peer *gateway, struct peer *trainer, struct peer *worker, const struct job *job)
{
    stage.job = submit(gateway, job, "");
    WAIT_FOR(&stage, trainer->job == (uint64_t)stage.job && worker->job == (uint64_t)stage.job);
    const struct batch *start = fetch(trainer, 0);
    ck_assert_str_eq(start->kind, "warmstart");
    ck_assert_uint_eq(start->count, 0);
    apply(trainer, 0);
    publish(trainer, 0);
    commit(trainer, 0);
    WAIT_FOR(&stage, worker->wanted == 0);
}

/* Plays what is open, makes the update of it and publishes its version. */
static void make_update(struct peer *trainer, struct peer *worker, int64_t update)
{
    worker_play(worker, true);
    ck_assert_str_eq(fetch(trainer, update)->kind, "update");
    apply(trainer, update);
    publish(trainer, update);
    WAIT_FOR(&stage, worker->wanted == update);
}

static int64_t state_is(int64_t job, const char *state)
{
    int64_t is = ask("SELECT array_position(ARRAY['queued', 'starting', 'running', 'paused', 'succeeded', 'failed',"
                     " 'cancelled'], state)::bigint FROM job WHERE id = $2",
                     job);
    static const char *const names[] = {"", "queued", "starting", "running", "paused", "succeeded", "failed", "cancelled"};
    return strcmp(names[is], state) == 0;
}

static void same_batch(const struct batch *a, const struct batch *b)
{
    ck_assert_int_eq(a->update, b->update);
    ck_assert_str_eq(a->kind, b->kind);
    ck_assert_uint_eq(a->norm_tokens, b->norm_tokens);
    ck_assert_uint_eq(a->groups, b->groups);
    ck_assert_uint_eq(a->no_signal_groups, b->no_signal_groups);
    ck_assert_uint_eq(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        ck_assert_uint_eq(a->episode[i], b->episode[i]);
        ck_assert_uint_eq(a->group[i], b->group[i]);
        ck_assert_uint_eq(a->payload[i], b->payload[i]);
        ck_assert_double_eq(a->advantage[i], b->advantage[i]);
        ck_assert_int_eq(a->signal[i], b->signal[i]);
    }
}

static bool is_revoked(const struct peer *worker, uint64_t episode)
{
    for (size_t i = 0; i < worker->revoked_count; i++) {
        if (worker->revoked[i] == episode) return true;
    }
    return false;
}

/* Leases of an episode that came after the `first` ones. */
static size_t leases_past(const struct peer *worker, uint64_t episode, size_t first)
{
    size_t count = 0;
    for (size_t i = first; i < worker->lease_count; i++) count += worker->leases[i].episode == episode;
    return count;
}

/* The newest lease of an episode that has one. */
static struct lease *lease_of(struct peer *worker, uint64_t episode)
{
    size_t i = worker->lease_count;
    while (i > 1 && worker->leases[i - 1].episode != episode) i--;
    ck_assert_uint_eq(worker->leases[i - 1].episode, episode);
    return &worker->leases[i - 1];
}

/* ---- a job ---- */

static const struct job SMALL = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 2};

static void check_leases(const struct peer *worker, size_t count)
{
    ck_assert_uint_eq(worker->lease_count, count);
    for (size_t i = 0; i < count; i++) {
        const struct lease *lease = &worker->leases[i];
        ck_assert_str_eq(lease->source, "fresh");
        ck_assert_uint_eq(lease->attempt, 0);
        ck_assert_uint_eq(lease->max_steps, 10);
        ck_assert_int_eq(lease->pin_version, -1);
        ck_assert_uint_eq(lease->group, worker->leases[i / 4 * 4].group);
        ck_assert_uint_eq(lease->task, worker->leases[i / 4 * 4].task);
        if (i > 0) ck_assert_uint_gt(lease->token, worker->leases[i - 1].token);
        ck_assert_int_eq(
            ask("SELECT token FROM episode WHERE job = $1 AND id = $2 AND state = 'leased'", (int64_t)lease->episode),
            (int64_t)lease->token);
    }
}

START_TEST(a_job_from_grants_to_batches)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    begin(gateway, trainer, worker, &SMALL);
    worker_request(worker, 64);
    WAIT_FOR(&stage, worker->lease_count == 8); /* staleness 0: those of the next update, however many are asked for */
    check_leases(worker, 8);
    trainer_ask(trainer, 1);
    for (size_t i = 0; i < 7; i++) worker_end(worker, &worker->leases[i], "ok", i % 2 ? 1.0 : 0.0);
    WAIT_FOR(&stage, worker_acked(worker));
    ck_assert(!has_batch(trainer, 1)); /* a group is open */
    ck_assert_int_eq(ask("SELECT count(*) FROM episode_group WHERE job = $1 AND state = 'closed' AND verdict = 'signal'", 0),
                     1);
    worker_end(worker, &worker->leases[7], "truncated", 1);
    WAIT_FOR(&stage, has_batch(trainer, 1) && worker_acked(worker));
    const struct batch *batch = batch_of(trainer, 1);
    ck_assert_str_eq(batch->kind, "update");
    ck_assert_uint_eq(batch->groups, 2);
    ck_assert_uint_eq(batch->no_signal_groups, 0);
    ck_assert_uint_eq(batch->count, 8);
    for (size_t i = 0; i < 8; i++) {
        ck_assert_uint_eq(batch->episode[i], worker->leases[i].episode);
        ck_assert_double_eq(batch->advantage[i], i % 2 ? 0.5 : -0.5);
        ck_assert(batch->signal[i]);
    }
    ck_assert_int_eq(ask("SELECT norm_tokens FROM batch WHERE job = $1 AND update = 1", 0), (int64_t)batch->norm_tokens);
    ck_assert_int_eq(ask("SELECT count(*) FROM episode e JOIN episode_payload p ON p.job = e.job AND p.episode = e.id"
                         " WHERE e.job = $1 AND e.state = 'done' AND p.bytes = convert_to('payload of ' || e.id, 'UTF8')",
                         0),
                     8);
    apply(trainer, 1);
    apply(trainer, 1); /* said again: acknowledged again, and made once */
    ck_assert_int_eq(ask("SELECT updates_done FROM job WHERE id = $1", 0), 1);
    WAIT_FOR(&stage, worker->lease_count == 16);                                        /* of what was asked for earlier */
    for (size_t i = 8; i < 16; i++) ck_assert_int_eq(worker->leases[i].min_version, 1); /* though it is not published yet */
    publish(trainer, 1);
    WAIT_FOR(&stage, worker->wanted == 1);
    worker_play(worker, false);
    batch = fetch(trainer, 2); /* no group has variance */
    ck_assert_uint_eq(batch->no_signal_groups, 2);
    ck_assert(!batch->signal[0]);
    ck_assert_uint_eq(batch->payload[0], 0);
    ck_assert_int_eq(ask("SELECT count(*) FROM episode_group WHERE job = $1 AND verdict = 'no_signal'", 0), 2);
    ck_assert_int_eq(ask("SELECT count(*) FROM metric WHERE job = $1 AND update = 1 AND name IN ('loss', 'success')", 0), 2);
}
END_TEST

START_TEST(a_job_to_its_end)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    const struct job job = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 2, .staleness = 1, .evaluated = 3};
    begin(gateway, trainer, worker, &job);
    ck_assert_int_eq(submit(gateway, &job, "once"), stage.job + 1);
    ck_assert_int_eq(submit(gateway, &job, "once"), stage.job + 1);
    ck_assert(!gateway->answer_created);
    command(gateway, stage.job + 1, "cancel", "");
    worker_request(worker, 64);
    WAIT_FOR(&stage, worker->lease_count == 19); /* an evaluation's, then two updates */
    for (size_t i = 0; i < 3; i++) {
        ck_assert_str_eq(worker->leases[i].source, "evaluation");
        ck_assert_int_eq(worker->leases[i].pin_version, 0);
    }
    make_update(trainer, worker, 1);
    make_update(trainer, worker, 2);
    ck_assert_str_eq(fetch(trainer, 3)->kind, "end");
    worker_request(worker, 64);
    WAIT_FOR(&stage, worker->lease_count == 22); /* the last version's evaluation */
    ck_assert(state_is(stage.job, "running"));
    worker_play(worker, true);
    WAIT_FOR(&stage, worker_acked(worker));
    commit(trainer, 2);
    WAIT_FOR(&stage, worker->stopped_job == (uint64_t)stage.job && trainer->stopped_job == (uint64_t)stage.job);
    ck_assert(state_is(stage.job, "succeeded"));
    ck_assert_int_eq(ask("SELECT count(*) FROM evaluation WHERE job = $1 AND done = 3", 0), 2);
    ck_assert_int_eq(ask("SELECT count(*) FROM batch WHERE job = $1 AND state = 'committed'", 0), 3);
}
END_TEST

/* ---- fencing ---- */

static int64_t digest_of_episodes(void)
{
    return ask("SELECT coalesce(sum(hashtext(e::text)), 0)::bigint FROM episode e WHERE job = $1", 0);
}

START_TEST(repeated_ends_change_nothing)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    begin(gateway, trainer, worker, &SMALL);
    worker_request(worker, 8);
    WAIT_FOR(&stage, worker->lease_count == 8);
    worker_end(worker, &worker->leases[0], "ok", 1);
    WAIT_FOR(&stage, worker->acks == 1);
    int64_t before = digest_of_episodes();
    worker_end(worker, &worker->leases[0], "ok", 1);
    WAIT_FOR(&stage, worker->acks == 2);
    worker_end(worker, &worker->leases[0], "ok", 0); /* not even with another reward */
    WAIT_FOR(&stage, worker->acks == 3);
    worker_end(worker, &worker->leases[0], "env_error", 0);
    WAIT_FOR(&stage, worker->acks == 4);
    struct lease unknown = worker->leases[1];
    unknown.token += 1000; /* never granted */
    worker_end(worker, &unknown, "ok", 1);
    WAIT_FOR(&stage, worker->acks == 5);
    ck_assert_int_eq(digest_of_episodes(), before);
    ck_assert_int_eq(ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'done' AND reward = 1", 0), 1);
    ck_assert_int_eq(ask("SELECT count(*) FROM decision WHERE job = $1 AND subject = 'episode'", 0), 0);
    /* both ends of one lease in one message: the first counts */
    worker->leases[2].outcome = "ok";
    worker->leases[2].reward = 0.25;
    worker_tell(worker, (struct lease *[]){&worker->leases[2], &worker->leases[2]}, 2);
    WAIT_FOR(&stage, worker->acks == 7);
    ck_assert_int_eq(ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'done'", 0), 2);
}
END_TEST

START_TEST(tokens_of_an_older_grant_are_stale)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    begin(gateway, trainer, worker, &SMALL);
    worker_request(worker, 8);
    WAIT_FOR(&stage, worker->lease_count == 8);
    /* a new incarnation of the same process: the old one's leases return at once */
    struct peer *heir = join("rollout");
    heir->pid = worker->pid;
    worker->mute = true;
    peer_hello(heir);
    WAIT_FOR(&stage, heir->assigns > 1);
    worker_request(heir, 8);
    WAIT_FOR(&stage, heir->lease_count == 8);
    ck_assert_int_eq(ask("SELECT count(*) FROM episode WHERE job = $1 AND attempt = 1 AND failures = '{cancelled}'", 0), 8);
    int64_t before = digest_of_episodes();
    worker_play(worker, true);
    WAIT_FOR(&stage, worker_acked(worker)); /* refused for good: it may forget them */
    ck_assert_int_eq(digest_of_episodes(), before);
    for (size_t i = 0; i < 8; i++) {
        const struct lease *old = &worker->leases[i], *lease = lease_of(heir, old->episode);
        ck_assert_uint_gt(lease->token, old->token);
        ck_assert_uint_eq(lease->attempt, 1);
        ck_assert_uint_eq(lease->task, old->task);
    }
    make_update(trainer, heir, 1);
    ck_assert_int_eq(ask("SELECT count(*) FROM training_use WHERE job = $1 AND update = 1", 0), 8);
}
END_TEST

/* ---- failures ---- */

/* Fails every attempt of a lease until its retries are spent; returns how often it was tried. */
static int fail_for_good(struct peer *worker, uint64_t episode, const char *outcome)
{
    for (int tries = 1;; tries++) {
        struct lease *lease = lease_of(worker, episode);
        size_t before = worker->lease_count;
        worker_end(worker, lease, outcome, 1); /* a reward that must not count */
        WAIT_FOR(&stage, lease->acked);
        if (ask("SELECT count(*) FROM episode WHERE job = $1 AND id = $2 AND state = 'void'", (int64_t)episode)) return tries;
        WAIT_FOR(&stage, leases_past(worker, episode, before) == 1);
        ck_assert_uint_gt(lease_of(worker, episode)->token, lease->token);
        ck_assert_uint_eq(lease_of(worker, episode)->attempt, lease->attempt + 1);
    }
}

START_TEST(failures_are_retried_then_void)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    begin(gateway, trainer, worker, &SMALL);
    worker_request(worker, 64);
    WAIT_FOR(&stage, worker->lease_count == 8);
    uint64_t first = worker->leases[0].episode, group = worker->leases[0].group;
    ck_assert_int_eq(fail_for_good(worker, first, "env_error"), 3); /* two retries, as rollout/outcome.def says */
    ck_assert_int_eq(fail_for_good(worker, first + 1, "env_crash"), 4);
    ck_assert_int_eq(ask("SELECT count(*) FROM episode WHERE job = $1 AND reward IS NOT NULL", 0), 0);
    ck_assert_int_eq(ask("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'retry' AND verdict = 'again'", 0), 5);
    ck_assert_int_eq(ask("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'retry' AND verdict = 'void'", 0), 2);
    ck_assert_int_eq(ask("SELECT cardinality(failures)::bigint FROM episode WHERE job = $1 AND id = $2", (int64_t)first + 1),
                     4);
    /* a reward that is none, and an outcome that nobody knows, are poisoned: void at once */
    size_t before = worker->lease_count;
    worker_end(worker, lease_of(worker, first + 2), "ok", 1.5);
    WAIT_FOR(&stage, worker_acked(worker));
    ck_assert_int_eq(ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'void' AND outcome = 'poisoned'", 0), 1);
    worker_end(worker, lease_of(worker, first + 3), "ok", 1); /* one done of four: too few */
    WAIT_FOR(&stage, worker->lease_count == before + 4);
    ck_assert_int_eq(ask("SELECT count(*) FROM episode_group WHERE job = $1 AND id = $2 AND state = 'void'"
                         " AND verdict = 'void' AND advantage IS NULL",
                         (int64_t)group),
                     1);
    ck_assert_int_eq(ask("SELECT update_for FROM episode_group WHERE job = $1 AND replaces = $2", (int64_t)group), 1);
    worker_play(worker, true);
    const struct batch *batch = fetch(trainer, 1);
    ck_assert_uint_eq(batch->count, 8);
    for (size_t i = 0; i < batch->count; i++) ck_assert_uint_ne(batch->group[i], group);
}
END_TEST

START_TEST(a_group_closes_with_enough)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    begin(gateway, trainer, worker, &SMALL);
    worker_request(worker, 64);
    WAIT_FOR(&stage, worker->lease_count == 8);
    worker_end(worker, &worker->leases[1], "poisoned", 0);
    worker_end(worker, &worker->leases[2], "poisoned", 0);
    worker_play(worker, true);
    const struct batch *batch = fetch(trainer, 1);
    ck_assert_uint_eq(batch->count, 6);
    ck_assert_int_eq(
        ask("SELECT cardinality(array_positions(advantage, NULL))::bigint FROM episode_group WHERE job = $1 AND id = $2",
            (int64_t)worker->leases[0].group),
        2);
    ck_assert_int_eq(
        ask("SELECT done::bigint FROM episode_group WHERE job = $1 AND id = $2", (int64_t)worker->leases[0].group), 2);
}
END_TEST

/* Every lease of one task ends as poisoned, all others are played. */
static void play_but(struct peer *worker, uint64_t task)
{
    for (size_t i = 0; i < worker->lease_count; i++) {
        struct lease *lease = &worker->leases[i];
        if (lease->said || lease->min_version > worker->wanted) continue;
        bool bad = lease->task == task;
        worker_end(worker, lease, bad ? "poisoned" : "ok", !bad && lease->episode % 2 ? 1.0 : 0.0);
    }
}

START_TEST(three_void_groups_quarantine_a_task)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    const struct job job = {.tasks = 3, .group_size = 2, .groups = 2, .updates = 50};
    begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(&stage, worker->lease_count == 4);
    uint64_t task = worker->leases[0].task;
    int64_t update = 1;
    while (!ask("SELECT count(*) FROM task WHERE job = $1 AND id = $2 AND state = 'quarantined'", (int64_t)task)) {
        worker_request(worker, 64);
        trainer_ask(trainer, update);
        size_t before = trainer->batch_count;
        WAIT_FOR(&stage, (play_but(worker, task), trainer->batch_count > before));
        apply(trainer, update);
        publish(trainer, update++);
        ck_assert_int_lt(update, 20);
    }
    ck_assert_int_eq(
        ask("SELECT count(*) FROM episode_group WHERE job = $1 AND task = $2 AND verdict = 'void'", (int64_t)task), 3);
    ck_assert_int_eq(ask("SELECT count(*) FROM decision WHERE job = $1 AND subject = 'task' AND key = $2"
                         " AND verdict = 'quarantined'",
                         (int64_t)task),
                     1);
    ck_assert_int_eq(ask("SELECT count(*) FROM job_event WHERE job = $1 AND kind = 'quarantine'", 0), 1);
    size_t first = worker->lease_count;
    for (int64_t last = update + 4; update < last; update++) {
        worker_request(worker, 64);
        size_t before = trainer->batch_count;
        trainer_ask(trainer, update);
        WAIT_FOR(&stage, (play_but(worker, UINT64_MAX), trainer->batch_count > before));
        apply(trainer, update);
        publish(trainer, update);
    }
    for (size_t i = first; i < worker->lease_count; i++) ck_assert_uint_ne(worker->leases[i].task, task);
}
END_TEST

START_TEST(a_job_without_a_task_left_fails)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    const struct job job = {.tasks = 1, .group_size = 2, .groups = 1, .updates = 5};
    begin(gateway, trainer, worker, &job);
    worker_request(worker, 2);
    WAIT_FOR(&stage, (play_but(worker, 0), worker_request(worker, 2), worker->stops > 0));
    ck_assert(state_is(stage.job, "failed"));
    WAIT_FOR(&stage, worker_acked(worker));
    ck_assert_int_eq(ask("SELECT count(*) FROM job WHERE id = $1 AND reason = 'every training task is quarantined'", 0), 1);
    ck_assert_int_eq(ask("SELECT count(*) FROM episode_group WHERE job = $1 AND state = 'void'", 0), 3);
    ck_assert_int_eq(ask("SELECT count(*) FROM task WHERE job = $1 AND state = 'quarantined'", 0), 1);
}
END_TEST

/* ---- batches and lineages ---- */

START_TEST(a_new_trainer_begins_a_lineage)
{
    struct peer *gateway = join("gateway"), *first = join("trainer"), *worker = join("rollout");
    const struct job job = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 4, .staleness = 1};
    begin(gateway, first, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(&stage, worker->lease_count == 16);
    make_update(first, worker, 1); /* past the checkpoint of version 0 */
    struct batch one = *batch_of(first, 1), two = *fetch(first, 2);
    same_batch(&two, fetch(first, 2));
    same_batch(&one, fetch(first, 1));           /* even when it was applied long ago */
    WAIT_FOR(&stage, worker->lease_count == 24); /* update 3's are on their way when the trainer dies */
    first->mute = true;

    struct peer *second = join("trainer");
    WAIT_FOR(&stage, second->job == (uint64_t)stage.job);
    ck_assert_int_eq(second->lineage, first->lineage + 1);
    ck_assert_int_eq(second->resume_version, 0);
    ck_assert_str_eq(second->resume_path, "/tmp/nowhere.ckpt");
    ck_assert_int_eq(ask("SELECT lineage::bigint FROM job WHERE id = $1", 0), second->lineage);
    ck_assert_int_eq(ask("SELECT updates_done FROM job WHERE id = $1", 0), 0);
    say_done(first, 2, first->lineage, "applied", 2); /* the older lineage is refused from now on */
    publish(second, 0);
    same_batch(&one, fetch(second, 1));
    apply(second, 1);
    publish(second, 1);
    same_batch(&two, fetch(second, 2));
    same_batch(&two, fetch(second, 2));
    apply(second, 2);
    publish(second, 2);
    commit(second, 2);
    ck_assert_int_eq(first->applied_ack, 1);
    ck_assert_int_eq(ask("SELECT count(*) FROM batch WHERE job = $1 AND lineage = $2 AND update = 2 AND state = 'handed_out'",
                         first->lineage),
                     1);
    make_update(second, worker, 3); /* with the leases of before */
    ck_assert_int_eq(
        ask("SELECT count(*) FROM training_use WHERE job = $1 AND lineage = $2 AND update IN (1, 2)", second->lineage), 16);
    ck_assert_int_eq(ask("SELECT count(*) FROM batch WHERE job = $1 AND update = 3", 0), 1);
    ck_assert_int_eq(ask("SELECT count(*) FROM job_event WHERE job = $1 AND kind = 'lineage'", 0), 1);
}
END_TEST

/* ---- deaths ---- */

START_TEST(a_killed_data_manager_goes_on)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    const struct job job = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 6, .staleness = 1};
    begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(&stage, worker->lease_count == 16);
    worker_end(worker, &worker->leases[0], "env_error", 0);
    WAIT_FOR(&stage, worker->lease_count == 17); /* one failure of its class is in the ledger */
    for (size_t i = 1; i < 9; i++) {
        worker_end(worker, &worker->leases[i], "ok", i % 2 ? 1.0 : 0.0);
        if (i % 3) continue;
        uint64_t again = worker->hellos_again; /* killed before, in the middle of, or after what it was told last */
        stage_restart(&stage);
        WAIT_FOR(&stage, worker->hellos_again > again && worker_acked(worker));
        ck_assert_int_eq(ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'done'", 0), (int64_t)i);
    }
    ck_assert_int_eq(ask("SELECT epoch FROM data_epoch", 0), 3);
    ck_assert_int_eq(fail_for_good(worker, worker->leases[0].episode, "env_error"), 2); /* and they are counted on */
    trainer_ask(trainer, 1);
    stage_restart(&stage);
    make_update(trainer, worker, 1);
    ck_assert_uint_eq(batch_of(trainer, 1)->count, 7);
    say_done(trainer, 2, trainer->lineage, "applied", 2); /* not even asked for: nothing to apply */
    stage_restart(&stage);
    make_update(trainer, worker, 2);
    make_update(trainer, worker, 3);
    ck_assert_int_eq(trainer->lineage, 0); /* the same trainer: no new lineage */
    ck_assert_int_eq(ask("SELECT count(*) FROM batch WHERE job = $1 AND state <> 'handed_out'", 0), 4);
    ck_assert_int_eq(ask("SELECT count(DISTINCT token) FROM episode WHERE job = $1 AND token > 0", 0) ==
                         ask("SELECT count(*) FROM episode WHERE job = $1 AND token > 0", 0),
                     1);
}
END_TEST

START_TEST(leases_outlive_a_restart)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout"), *dead = join("rollout");
    begin(gateway, trainer, worker, &SMALL);
    worker_request(worker, 4);
    WAIT_FOR(&stage, worker->lease_count == 4);
    WAIT_FOR(&stage, dead->job == (uint64_t)stage.job);
    worker_request(dead, 4);
    WAIT_FOR(&stage, dead->lease_count == 4);
    dead->mute = true;
    stage_restart(&stage);
    WAIT_FOR(&stage, worker->hellos_again > 0);
    worker_request(worker, 4);
    WAIT_FOR(&stage, worker->lease_count == 8); /* those of the worker that is not there any more */
    for (size_t i = 4; i < 8; i++) ck_assert_uint_eq(worker->leases[i].attempt, 1);
    uint64_t end = uv_now(&stage.loop) + 300;
    WAIT_FOR(&stage, uv_now(&stage.loop) > end); /* a few looks at the leases later */
    ck_assert_uint_eq(worker->revoked_count, 0); /* its own are still its own */
    ck_assert_int_eq(ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'leased' AND attempt = 0", 0), 4);
    make_update(trainer, worker, 1);
}
END_TEST

START_TEST(a_second_data_manager_fences_the_first)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    begin(gateway, trainer, worker, &SMALL);
    worker_request(worker, 8);
    WAIT_FOR(&stage, worker->lease_count == 8);
    manager_make(&stage.managers[1], &cluster, "two");
    WAIT_FOR(&stage, ask("SELECT epoch FROM data_epoch", 0) == 2);
    struct peer *next = peer_join(&stage, &stage.managers[1], "rollout", worker);
    WAIT_FOR(&stage, next->job == (uint64_t)stage.job);
    ck_assert_uint_eq(next->epoch, 2);
    int64_t before = digest_of_episodes();
    worker_play(worker, true); /* to the older one */
    int code = -1;
    WAIT_FOR(&stage, (code = manager_ended(&stage.managers[0])) >= 0);
    ck_assert_int_eq(code, 3);
    ck_assert_uint_eq(worker->acks, 0);
    ck_assert_int_eq(digest_of_episodes(), before);
    memcpy(next->leases, worker->leases, sizeof next->leases); /* the worker itself, on its new link */
    next->lease_count = worker->lease_count;
    worker_resend(next);
    WAIT_FOR(&stage, worker_acked(next));
    ck_assert_int_eq(ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'done'", 0), 8);
    struct peer *again = peer_join(&stage, &stage.managers[1], "trainer", trainer);
    WAIT_FOR(&stage, again->job == (uint64_t)stage.job);
    ck_assert_int_eq(again->lineage, 0);
    ck_assert_uint_eq(fetch(again, 1)->count, 8);
}
END_TEST

/* As a worker's outbox does: what is not acknowledged is sent again after a while. */
static bool acked_in_the_end(struct peer *worker, uint64_t *next_ms)
{
    if (uv_now(&stage.loop) >= *next_ms) {
        worker_resend(worker);
        *next_ms += 200;
    }
    return worker_acked(worker);
}

START_TEST(a_lost_connection_loses_nothing)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    begin(gateway, trainer, worker, &SMALL);
    worker_request(worker, 8);
    WAIT_FOR(&stage, worker->lease_count == 8);
    for (size_t i = 0; i < 8; i++) {
        if (i % 3 == 1) /* the server ends every session but ours */
            ck_assert_int_eq(ask("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                                 " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                                 " AND backend_type = 'client backend'",
                                 0),
                             1);
        worker_end(worker, &worker->leases[i], "ok", i % 2 ? 1.0 : 0.0);
        uint64_t next = uv_now(&stage.loop) + 200;
        WAIT_FOR(&stage, acked_in_the_end(worker, &next));
        ck_assert_int_eq(ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'done'", 0), (int64_t)i + 1);
    }
    ck_assert_uint_eq(fetch(trainer, 1)->count, 8);
    ck_assert_int_eq(ask("SELECT epoch FROM data_epoch", 0), 1); /* the same data manager all along */
    ck_assert_int_eq(ask("SELECT count(*) FROM episode WHERE job = $1 AND cardinality(failures) > 0", 0), 0);
}
END_TEST

/* ---- commands ---- */

START_TEST(cancelling_makes_room_for_the_next)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout"), *env = join("env");
    begin(gateway, trainer, worker, &SMALL);
    worker_request(worker, 8);
    WAIT_FOR(&stage, worker->lease_count == 8);
    int64_t one = stage.job, two = submit(gateway, &SMALL, ""), three = submit(gateway, &SMALL, "");
    ck_assert(state_is(two, "queued"));
    command(gateway, two, "cancel", ""); /* it never starts */
    ck_assert(state_is(two, "cancelled"));
    command(gateway, one, "cancel", "");
    WAIT_FOR(&stage, worker->stopped_job == (uint64_t)one && trainer->stopped_job == (uint64_t)one &&
                         env->stopped_job == (uint64_t)one);
    ck_assert(state_is(one, "cancelled"));
    ck_assert_int_eq(ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'void' AND outcome = 'cancelled'", 0), 8);
    ck_assert_int_eq(ask("SELECT count(*) FROM episode_group WHERE job = $1 AND state = 'open'", 0), 0);
    WAIT_FOR(&stage, worker->job == (uint64_t)three && trainer->job == (uint64_t)three && env->job == (uint64_t)three);
    ck_assert(state_is(three, "running"));
    command(gateway, one, "cancel", "conflict");
    command(gateway, 99, "cancel", "not_found");
    int64_t before = digest_of_episodes();
    worker_play(worker, true); /* what comes late of the old job is acknowledged and forgotten */
    WAIT_FOR(&stage, worker_acked(worker));
    ck_assert_int_eq(digest_of_episodes(), before);
    ck_assert_int_eq(ask("SELECT count(*) FROM episode WHERE job = $2", three), 0);
    stage.job = three;
    ck_assert_str_eq(fetch(trainer, 0)->kind, "warmstart");
}
END_TEST

START_TEST(a_paused_job_hands_out_nothing)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    begin(gateway, trainer, worker, &SMALL);
    worker_request(worker, 8);
    WAIT_FOR(&stage, worker->lease_count == 8);
    command(gateway, stage.job, "pause", "");
    ck_assert(state_is(stage.job, "paused"));
    worker_play(worker, true);
    trainer_ask(trainer, 1);
    WAIT_FOR(&stage, worker_acked(worker)); /* what runs is played to its end and kept */
    stage_restart(&stage);
    WAIT_FOR(&stage, trainer->hellos_again > 0 && worker->hellos_again > 0);
    command(gateway, stage.job, "priority", ""); /* a turn later */
    ck_assert(!has_batch(trainer, 1));
    command(gateway, stage.job, "resume", "");
    WAIT_FOR(&stage, has_batch(trainer, 1));
    ck_assert(state_is(stage.job, "running"));
    apply(trainer, 1);
}
END_TEST

/* ---- late groups ---- */

START_TEST(a_late_group_is_dropped)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    struct job job = SMALL;
    job.trainer = ", \"late\": \"drop\", \"straggler_ms\": 100";
    begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(&stage, worker->lease_count == 8);
    for (size_t i = 0; i < 5; i++) worker_end(worker, &worker->leases[i], "ok", i % 2 ? 1.0 : 0.0);
    WAIT_FOR(&stage, worker_acked(worker));
    struct lease *late = &worker->leases[5];
    trainer_ask(trainer, 1); /* now it is waited for */
    WAIT_FOR(&stage, worker->lease_count == 12);
    for (size_t i = 5; i < 8; i++) ck_assert(is_revoked(worker, worker->leases[i].episode));
    ck_assert(!is_revoked(worker, worker->leases[4].episode)); /* it has ended */
    ck_assert_int_eq(ask("SELECT count(*) FROM episode_group WHERE job = $1 AND id = $2 AND state = 'void'"
                         " AND verdict = 'stale'",
                         (int64_t)late->group),
                     1);
    ck_assert_int_eq(ask("SELECT count(*) FROM decision WHERE job = $1 AND subject = 'group' AND key = $2"
                         " AND rule = 'late' AND verdict = 'stale'",
                         (int64_t)late->group),
                     1);
    ck_assert_int_eq(ask("SELECT update_for FROM episode_group WHERE job = $1 AND replaces = $2", (int64_t)late->group), 1);
    uint64_t group = late->group;
    worker_play(worker, true); /* the late ones too */
    WAIT_FOR(&stage, has_batch(trainer, 1) && worker_acked(worker));
    for (size_t i = 0; i < 8; i++) ck_assert_uint_ne(batch_of(trainer, 1)->group[i], group);
    ck_assert_int_eq(ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'void' AND outcome = 'stale'", 0), 3);
    ck_assert_int_eq(ask("SELECT count(*) FROM task WHERE job = $1 AND state = 'quarantined'", 0), 0);
}
END_TEST

START_TEST(a_late_group_is_cut_short)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    struct job job = SMALL;
    job.trainer = ", \"late\": \"wait\", \"straggler_ms\": 100";
    begin(gateway, trainer, worker, &job);
    worker_request(worker, 8);
    WAIT_FOR(&stage, worker->lease_count == 8);
    for (size_t i = 0; i < 6; i++) worker_end(worker, &worker->leases[i], "ok", i % 2 ? 1.0 : 0.0);
    trainer_ask(trainer, 1);
    WAIT_FOR(&stage, (worker_request(worker, 8), has_batch(trainer, 1))); /* it retries in vain */
    ck_assert_uint_eq(batch_of(trainer, 1)->count, 6);
    ck_assert(is_revoked(worker, worker->leases[6].episode));
    ck_assert_int_eq(ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'void' AND outcome = 'timeout'", 0), 2);
    ck_assert_int_eq(ask("SELECT count(*) FROM episode_group WHERE job = $1 AND state = 'closed' AND verdict = 'signal'", 0),
                     2);
}
END_TEST

START_TEST(a_group_of_too_old_weights_is_dropped)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    begin(gateway, trainer, worker, &SMALL);
    worker_request(worker, 8);
    WAIT_FOR(&stage, worker->lease_count == 8);
    make_update(trainer, worker, 1);
    worker_request(worker, 8);
    WAIT_FOR(&stage, worker->lease_count == 16);
    ck_assert_int_eq(worker->leases[8].min_version, 1);
    worker->wanted = 0; /* whatever its lease said */
    for (size_t i = 8; i < 12; i++) worker_end(worker, &worker->leases[i], "ok", i % 2 ? 1.0 : 0.0);
    worker_request(worker, 4);
    WAIT_FOR(&stage, worker->lease_count == 20);
    worker->wanted = 1;
    worker_play(worker, true);
    ck_assert_uint_eq(fetch(trainer, 2)->count, 8);
    ck_assert_int_eq(ask("SELECT count(*) FROM episode_group WHERE job = $1 AND id = $2 AND verdict = 'stale'",
                         (int64_t)worker->leases[8].group),
                     1);
}
END_TEST

START_TEST(a_skipped_update_makes_no_version)
{
    struct peer *gateway = join("gateway"), *trainer = join("trainer"), *worker = join("rollout");
    const struct job job = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 4, .staleness = 1};
    begin(gateway, trainer, worker, &job);
    worker_request(worker, 64);
    WAIT_FOR(&stage, worker->lease_count == 16);
    worker_play(worker, true);
    ck_assert_uint_eq(fetch(trainer, 1)->count, 8);
    say_done(trainer, 1, trainer->lineage, "skipped", 0);
    WAIT_FOR(&stage, worker->lease_count == 24); /* update 3's: they cannot wait for version 1 */
    ck_assert_int_eq(worker->leases[16].min_version, 0);
    worker_play(worker, true);
    WAIT_FOR(&stage, worker_acked(worker));
    ck_assert_uint_eq(fetch(trainer, 2)->count, 8);
    apply(trainer, 2);
    publish(trainer, 2);
    ck_assert_uint_eq(fetch(trainer, 3)->count, 8); /* of version 0, the weights after update 1 */
    WAIT_FOR(&stage, worker->lease_count == 32);
    ck_assert_int_eq(worker->leases[24].min_version, 2);
}
END_TEST

int main(void)
{
    cluster_start(&cluster);
    Suite *suite = suite_create("data");
    TCase *tcase = tcase_create("data");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_job_from_grants_to_batches);
    tcase_add_test(tcase, a_job_to_its_end);
    tcase_add_test(tcase, repeated_ends_change_nothing);
    tcase_add_test(tcase, tokens_of_an_older_grant_are_stale);
    tcase_add_test(tcase, failures_are_retried_then_void);
    tcase_add_test(tcase, a_group_closes_with_enough);
    tcase_add_test(tcase, three_void_groups_quarantine_a_task);
    tcase_add_test(tcase, a_job_without_a_task_left_fails);
    tcase_add_test(tcase, a_new_trainer_begins_a_lineage);
    tcase_add_test(tcase, a_killed_data_manager_goes_on);
    tcase_add_test(tcase, leases_outlive_a_restart);
    tcase_add_test(tcase, a_second_data_manager_fences_the_first);
    tcase_add_test(tcase, a_lost_connection_loses_nothing);
    tcase_add_test(tcase, cancelling_makes_room_for_the_next);
    tcase_add_test(tcase, a_paused_job_hands_out_nothing);
    tcase_add_test(tcase, a_late_group_is_dropped);
    tcase_add_test(tcase, a_late_group_is_cut_short);
    tcase_add_test(tcase, a_group_of_too_old_weights_is_dropped);
    tcase_add_test(tcase, a_skipped_update_makes_no_version);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    cluster_stop(&cluster);
    return failed == 0 ? 0 : 1;
}
