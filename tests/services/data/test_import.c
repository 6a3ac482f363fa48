/* LABELS: unit store
 * Demonstrations for the pool in the real pal-data: what is refused, what is played and pooled, what fails, what saves a
 * group, a file of them, and all of it with the process killed in between. */
#include "tests/support/stage.h"

#include <stdio.h>

#define DART(keys) ", \"curation\": {\"dart\": {\"count\": false, \"cap\": false, \"keep\": 1" keys "}}"

static const struct stage_job JOB = {.tasks = 2, .group_size = 4, .groups = 1, .updates = 9, .more = DART("")};

struct cast {
    struct peer *gateway, *trainer, *worker;
};

static struct cast begin(const struct stage_job *job)
{
    struct cast c = {stage_join("gateway"), stage_join("trainer"), stage_join("rollout")};
    stage_begin(c.gateway, c.trainer, c.worker, job);
    return c;
}

static void restart(const struct cast *c)
{
    uint64_t worker = c->worker->hellos_again, trainer = c->trainer->hellos_again, gateway = c->gateway->hellos_again;
    stage_restart();
    WAIT_FOR(c->worker->hellos_again > worker && c->trainer->hellos_again > trainer && c->gateway->hellos_again > gateway);
}

static void import(struct peer *gateway, const struct wire_import_item *items, size_t count, const char *want_error)
{
    const struct wire_pool_import message = {3, 10000, (uint64_t)stage.job, items, count};
    uint64_t before = gateway->answers;
    peer_send(gateway, WIRE_pool_import, &message);
    WAIT_FOR(gateway->answers > before);
    ck_assert_msg(strcmp(gateway->answer_error, want_error) == 0, "'%s' is the answer: %s", gateway->answer_error,
                  gateway->answer_detail);
}

static struct wire_import_item by_number(int64_t task, const char *script)
{
    return (struct wire_import_item){task, -1, span_text(""), span_text(script)};
}

static int64_t count_of(const char *sql)
{
    return ledger_ask(sql, 0);
}

#define SOURCE_COUNT(source) count_of("SELECT count(*) FROM episode_group WHERE job = $1 AND source = '" source "'")

START_TEST(what_cannot_be_played_is_refused)
{
    struct cast c = begin(&JOB);
    int64_t held_out = count_of("SELECT min(id) FROM task WHERE job = $1 AND split = 'holdout'");
    const struct wire_import_item good = by_number(0, "go east"), none = by_number(99, "go east"),
                                  held = by_number(held_out, "go east");
    import(c.gateway, (const struct wire_import_item[]){good, none}, 2, "invalid");
    ck_assert_uint_eq(c.gateway->refused, 2);
    ck_assert_ptr_nonnull(strstr(c.gateway->answer_detail, "no task 99"));
    import(c.gateway, &held, 1, "invalid");
    ck_assert_ptr_nonnull(strstr(c.gateway->answer_detail, "held out"));
    const struct wire_import_item other = {-1, -1, span_text("{\"level\": 1, \"seed\": 4711}"), span_text("go east")},
                                  foreign = {-1, -1, span_text("{\"no\": \"task\"}"), span_text("go east")},
                                  elsewhere = {0, 3, span_text(""), span_text("go east")};
    import(c.gateway, &other, 1, "invalid");
    ck_assert_ptr_nonnull(strstr(c.gateway->answer_detail, "no such task"));
    import(c.gateway, &foreign, 1, "invalid");
    import(c.gateway, &elsewhere, 1, "invalid");
    ck_assert_int_eq(SOURCE_COUNT("import"), 0); /* all or none */
    stage.job++;
    import(c.gateway, &good, 1, "conflict"); /* no such job runs */
    stage.job--;
}
END_TEST

START_TEST(a_job_without_a_pool_takes_none)
{
    struct cast c = begin(&STAGE_SMALL);
    const struct wire_import_item good = by_number(0, "go east");
    import(c.gateway, &good, 1, "conflict");
    ck_assert_ptr_nonnull(strstr(c.gateway->answer_detail, "no pool"));
}
END_TEST

START_TEST(what_succeeds_is_pooled_what_fails_is_told)
{
    struct cast c = begin(&JOB);
    const struct wire_import_item items[] = {by_number(0, "go east\ntake gem"), by_number(1, "wait"),
                                             by_number(0, "go east\ntake gem")};
    import(c.gateway, items, 3, "");
    ck_assert_uint_eq(c.gateway->planned, 2);
    ck_assert_uint_eq(c.gateway->known, 1); /* twice the same */
    restart(&c);                            /* planned, and not granted yet */
    worker_request(c.worker, 2);
    WAIT_FOR(c.worker->lease_count == 2); /* before any group */
    ck_assert_str_eq(c.worker->leases[0].source, "import");
    ck_assert_str_eq(c.worker->leases[0].script, "go east\ntake gem");
    ck_assert_str_eq(c.worker->leases[1].script, "wait");
    ck_assert_uint_eq(c.worker->leases[0].max_steps, 10);
    worker_end(c.worker, &c.worker->leases[0], "ok", 1);
    worker_end(c.worker, &c.worker->leases[1], "truncated", 0);
    WAIT_FOR(worker_acked(c.worker));
    ck_assert_int_eq(count_of("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'import' AND verdict = 'pooled'"), 1);
    ck_assert_int_eq(count_of("SELECT count(*) FROM decision WHERE job = $1 AND rule = 'import' AND verdict = 'failed'"), 1);
    ck_assert_int_eq(count_of("SELECT count(*) FROM job_event WHERE job = $1 AND kind = 'import' AND message LIKE"
                              " '%imported for task 1 do not solve it: truncated%'"),
                     1);
    import(c.gateway, items, 3, "");
    ck_assert_uint_eq(c.gateway->planned, 0); /* word for word what it had */
    ck_assert_uint_eq(c.gateway->known, 3);
}
END_TEST

/* An import that cannot be played at all quarantines no task. */
START_TEST(a_void_import_says_nothing_of_its_task)
{
    struct cast c = begin(&JOB);
    const struct wire_import_item items[] = {by_number(0, "a"), by_number(0, "b"), by_number(0, "c"), by_number(0, "d")};
    import(c.gateway, items, 4, "");
    worker_request(c.worker, 4);
    WAIT_FOR(c.worker->lease_count == 4);
    for (size_t i = 0; i < 4; i++) worker_end(c.worker, &c.worker->leases[i], "poisoned", 0);
    WAIT_FOR(worker_acked(c.worker));
    ck_assert_int_eq(count_of("SELECT count(*) FROM task WHERE job = $1 AND state <> 'active'"), 0);
    ck_assert_int_eq(count_of("SELECT count(*) FROM job_event WHERE job = $1 AND kind = 'import'"), 4);
    import(c.gateway, items, 1, "");
    ck_assert_uint_eq(c.gateway->planned, 1); /* it was not played: it may be tried again */
}
END_TEST

/* The first group fails and is saved by the import, the batch is the same after a kill. */
static void saves(struct cast *c)
{
    worker_request(c->worker, 64);
    WAIT_FOR(c->worker->lease_count == 5);
    struct lease *demonstration = &c->worker->leases[0];
    ck_assert_str_eq(demonstration->source, "import");
    demonstration->steps = 3;
    worker_end(c->worker, demonstration, "ok", 1);
    WAIT_FOR(worker_acked(c->worker));
    restart(c);
    for (size_t i = 1; i < 5; i++) worker_end(c->worker, &c->worker->leases[i], "ok", 0);
    WAIT_FOR(worker_acked(c->worker));
    restart(c);
    struct batch batch = *trainer_fetch(c->trainer, 1);
    ck_assert_uint_eq(batch.count, 4);
    ck_assert_str_eq(batch.source[3], "pool");
    ck_assert_uint_eq(batch.episode[3], demonstration->episode);
    ck_assert_uint_eq(batch.group[3], c->worker->leases[1].group);
    ck_assert_uint_eq(batch.pass[3], 1);
    ck_assert_double_eq_tol(batch.advantage[3], 0.75, 1e-9);
    batch_same(&batch, trainer_fetch(c->trainer, 1));
    trainer_apply(c->trainer, 1);
    ck_assert_int_eq(count_of("SELECT count(*) FROM training_use WHERE job = $1 AND source = 'pool'"), 1);
}

START_TEST(an_import_saves_a_failed_group)
{
    const struct stage_job job = {.tasks = 1, .group_size = 4, .groups = 1, .updates = 9, .more = DART("")};
    struct cast c = begin(&job);
    const struct wire_import_item item = by_number(0, "go east\ntake gem");
    import(c.gateway, &item, 1, "");
    saves(&c);
}
END_TEST

/* ---- a file ---- */

/* A job whose pool begins with this file. */
static struct stage_job with_file(const char *text, char *more, size_t size)
{
    char path[STAGE_TEXT + 32];
    (void)snprintf(path, sizeof path, "%s/pool.jsonl", stage.managers[0].state_dir);
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
    (void)snprintf(more, size, DART(", \"pool_file\": \"%s\""), path);
    return (struct stage_job){.tasks = 1, .group_size = 4, .groups = 1, .updates = 9, .more = more};
}

START_TEST(a_file_is_imported_at_the_start)
{
    char more[2 * STAGE_TEXT];
    const struct stage_job job =
        with_file("\n{\"actions\": [\"go east\", \"take gem\"], \"task\": {\"seed\": 7, \"level\": 1}}\n", more, sizeof more);
    struct cast c = begin(&job);
    saves(&c);
    ck_assert_str_eq(c.worker->leases[0].script, "go east\ntake gem");
}
END_TEST

START_TEST(a_file_with_a_problem_fails_the_job)
{
    char more[2 * STAGE_TEXT];
    struct peer *gateway = stage_join("gateway");
    struct stage_job job = with_file("\n{\"task_id\": 0, \"actions\": [\"a\", 7]}\n", more, sizeof more);
    stage.job = stage_submit(gateway, &job, "");
    WAIT_FOR(ledger_state_is(stage.job, "failed"));
    ck_assert_int_eq(count_of("SELECT count(*) FROM job WHERE id = $1 AND reason LIKE '/curation/dart/pool_file: %pool.jsonl:"
                              " line 2: /actions/1 %'"),
                     1);
    job = with_file("{\"task_id\": 0, \"actions\": [\"a\"]}\n\n{\"task_id\": 1, \"actions\": [\"a\"]}\n", more, sizeof more);
    stage.job = stage_submit(gateway, &job, "");
    WAIT_FOR(ledger_state_is(stage.job, "failed"));
    ck_assert_int_eq(count_of("SELECT count(*) FROM job WHERE id = $1 AND reason LIKE '%line 3: task 1 is held out%'"), 1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        what_cannot_be_played_is_refused,       a_job_without_a_pool_takes_none, what_succeeds_is_pooled_what_fails_is_told,
        a_void_import_says_nothing_of_its_task, an_import_saves_a_failed_group,  a_file_is_imported_at_the_start,
        a_file_with_a_problem_fails_the_job,
    };
    return stage_main("import", tests, sizeof tests / sizeof *tests);
}
