#include "tests/support/stage.h"

#include "services/common/run/rundir.h"
#include "services/common/store/store_verify.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BEAT_MS 100
#define TICK_MS 5 /* how often conditions are looked at while no message comes */
#define QUERIES 64

static struct cluster cluster; /* main starts it */
struct stage stage = {.cluster = &cluster};

/* ---- waiting ---- */

static void print_log(const struct manager *manager)
{
    char path[STAGE_TEXT + 16], chunk[4096];
    (void)snprintf(path, sizeof path, "%s/data.log", manager->state_dir);
    FILE *file = manager->state_dir[0] ? fopen(path, "re") : NULL;
    if (!file) return;
    for (size_t n = fread(chunk, 1, sizeof chunk, file); n > 0; n = fread(chunk, 1, sizeof chunk, file))
        (void)fwrite(chunk, 1, n, stderr);
    (void)fclose(file);
}

void stage_step(uint64_t end, const char *what, const char *file, int line)
{
    (void)uv_run(&stage.loop, UV_RUN_ONCE);
    if (uv_hrtime() < end) return;
    for (size_t i = 0; i < STAGE_MANAGERS; i++) print_log(&stage.managers[i]);
    ck_abort_msg("%s:%d: waited in vain for %s", file, line, what);
}

/* ---- the ledger ---- */

/* The one bigint that a query gives; $1 is the job on stage, $2 the argument. */
int64_t ledger_ask(const char *sql, int64_t argument)
{
    static struct store_statement queries[QUERIES];
    static char names[QUERIES][16];
    size_t i = 0;
    while (i < QUERIES && queries[i].text && strcmp(queries[i].text, sql) != 0) i++;
    ck_assert_uint_lt(i, QUERIES);
    if (!queries[i].text) {
        (void)snprintf(names[i], sizeof names[i], "asked_%zu", i);
        const struct store_statement query = {
            .name = names[i], .params = {STORE_INT8, STORE_INT8}, .columns = {STORE_INT8}, .text = sql};
        memcpy(&queries[i], &query, sizeof query);
    }
    AUTO(store_args) args = {0};
    AUTO(store_rows) rows = {0};
    store_args_init(&args, &queries[i]);
    store_put_int(&args, stage.job);
    store_put_int(&args, argument);
    err_t err = store_run_one(stage.ledger, &args, &rows, "an answer");
    ck_assert_msg(err == ERR_ok, "%s: %s", sql, err_text());
    return store_get_int(&rows, 0, 0);
}

static int64_t broken_of(struct store *store, const char *invariant)
{
    struct store_verdict verdict;
    size_t i = 0;
    while (i < store_verify_count() && strcmp(store_verify_at(i)->name, invariant) != 0) i++;
    ck_assert_msg(i < store_verify_count(), "there is no invariant %s", invariant);
    ck_assert_msg(store_verify(store, i, stage.job, &verdict) == ERR_ok, "%s: %s", invariant, err_text());
    return verdict.broken;
}

static void run(struct store *store, const char *sql)
{
    err_t err = store_simple(store, sql, STORE_STATEMENT_MS, NULL);
    ck_assert_msg(err == ERR_ok, "%s: %s", sql, err_text());
}

/* Inside a transaction: nothing but verify looks any more. */
static const char unguarded[] =
    "SET LOCAL session_replication_role = replica;"
    "DO $$DECLARE c record; BEGIN FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint"
    " WHERE contype IN ('c', 'u') AND connamespace = 'public'::regnamespace LOOP"
    " EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname); END LOOP; END$$";

void ledger_notices(const char *invariant, const char *sql)
{
    char conninfo[CLUSTER_TEXT_BYTES];
    AUTO_PTR(store) store = NULL;
    cluster_conninfo(stage.cluster, stage.name, POSTGRES_USER, conninfo, sizeof conninfo);
    ck_assert_msg(store_open(&store, conninfo) == ERR_ok, "%s", err_text());
    run(store, "BEGIN");
    run(store, unguarded);
    ck_assert_int_eq(broken_of(store, invariant), 0);
    run(store, sql);
    ck_assert_msg(broken_of(store, invariant) > 0, "%s does not notice: %s", invariant, sql);
    store_rollback(store);
}

void ledger_verify(int64_t job)
{
    for (size_t i = 0; i < store_verify_count(); i++) {
        struct store_verdict verdict;
        err_t err = store_verify(stage.ledger, i, job, &verdict);
        ck_assert_msg(err == ERR_ok, "%s: %s", store_verify_at(i)->name, err_text());
        ck_assert_msg(verdict.broken == 0, "job %lld breaks %ld times: %s", (long long)job, (long)verdict.broken,
                      store_verify_at(i)->doc);
    }
}

bool ledger_state_is(int64_t job, const char *state)
{
    int64_t is = ledger_ask("SELECT array_position(ARRAY['queued', 'starting', 'running', 'paused', 'succeeded', 'failed',"
                            " 'cancelled'], state)::bigint FROM job WHERE id = $2",
                            job);
    static const char *const names[] = {"", "queued", "starting", "running", "paused", "succeeded", "failed", "cancelled"};
    return strcmp(names[is], state) == 0;
}

int64_t ledger_digest(void)
{
    return ledger_ask("SELECT coalesce(sum(hashtext(e::text)), 0)::bigint FROM episode e WHERE job = $1", 0);
}

/* ---- the process ---- */

static void manager_start(struct manager *manager)
{
    char log[STAGE_TEXT + 16];
    (void)snprintf(log, sizeof log, "%s/data.log", manager->state_dir);
    manager->pid = fork();
    ck_assert_int_ge(manager->pid, 0);
    if (manager->pid > 0) return;
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0) (void)dup2(fd, STDERR_FILENO);
    (void)execl(PAL_BIN_DIR "/pal-data", "pal-data", "--state", manager->state_dir, (char *)NULL);
    _exit(127);
}

void manager_kill(struct manager *manager)
{
    int status = 0;
    ck_assert_int_eq(kill(manager->pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(manager->pid, &status, 0), manager->pid);
    manager->pid = 0;
}

/* The exit code of a process that ended by itself, -1 while it runs. */
int manager_ended(struct manager *manager)
{
    int status = 0;
    pid_t got = waitpid(manager->pid, &status, WNOHANG);
    if (got == 0) return -1;
    ck_assert_int_eq(got, manager->pid);
    manager->pid = 0;
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- the stage ---- */

static void on_beat(uv_timer_t *timer)
{
    (void)timer;
    for (size_t i = 0; i < stage.peer_count; i++) {
        if (!stage.peers[i]->mute) peer_beat(stage.peers[i]);
    }
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer; /* it ends a turn of the loop, so that conditions are looked at */
}

static void manager_make(struct manager *manager, const char *name)
{
    (void)snprintf(manager->state_dir, sizeof manager->state_dir, "%.100s/%s-%s", stage.cluster->state_dir, name, stage.name);
    ck_assert_int_eq(rundir_make(manager->state_dir), ERR_ok);
    manager_start(manager);
}

static void conninfo_of(char *ret, size_t size)
{
    cluster_conninfo(stage.cluster, stage.name, "pal", ret, size);
}

struct manager *manager_join(const char *name)
{
    size_t i = 0;
    while (i < STAGE_MANAGERS && stage.managers[i].state_dir[0]) i++;
    ck_assert_uint_lt(i, STAGE_MANAGERS);
    char conninfo[CLUSTER_TEXT_BYTES];
    conninfo_of(conninfo, sizeof conninfo);
    ck_assert_int_eq(setenv("PAL_DATABASE_URL", conninfo, 1), 0);
    manager_make(&stage.managers[i], name);
    return &stage.managers[i];
}

void stage_recluster(void)
{
    char conninfo[CLUSTER_TEXT_BYTES];
    store_close(&stage.ledger);
    cluster_again(stage.cluster);
    conninfo_of(conninfo, sizeof conninfo);
    err_t err = store_open(&stage.ledger, conninfo);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
}

void stage_behind_proxy(void)
{
    char door[STAGE_TEXT], conninfo[STAGE_TEXT + 64];
    (void)snprintf(door, sizeof door, "%.100s/door-%s", stage.cluster->state_dir, stage.name);
    ck_assert_int_eq(mkdir(door, 0700), 0);
    proxy_open(&stage.proxy, &stage.loop, door, stage.cluster->postgres.sockets);
    stage.proxied = true;
    (void)snprintf(conninfo, sizeof conninfo, "host=%s port=%d dbname=%s user=pal", door, STORE_PORT, stage.name);
    ck_assert_int_eq(setenv("PAL_DATABASE_URL", conninfo, 1), 0);
    stage_restart();
}

/* A fresh ledger in the cluster and a data manager on it. */
static void open_stage(void)
{
    static int number; /* with CK_FORK=no the tests share a process */
    stage = (struct stage){.cluster = &cluster};
    (void)signal(SIGPIPE, SIG_IGN);
    (void)snprintf(stage.name, sizeof stage.name, "data_%d_%d", (int)getpid(), number++);
    stage.ledger = cluster_ledger(stage.cluster, stage.name, PAL_SOURCE_DIR "/migrations");
    ck_assert_int_eq(uv_loop_init(&stage.loop), 0);
    ck_assert_int_eq(uv_timer_init(&stage.loop, &stage.tick), 0);
    ck_assert_int_eq(uv_timer_init(&stage.loop, &stage.beat), 0);
    ck_assert_int_eq(uv_timer_start(&stage.tick, on_tick, TICK_MS, TICK_MS), 0);
    ck_assert_int_eq(uv_timer_start(&stage.beat, on_beat, BEAT_MS, BEAT_MS), 0);
    (void)manager_join("one");
}

static void close_stage(void)
{
    int64_t jobs = ledger_ask("SELECT count(*) FROM job", 0);
    ck_assert_int_gt(jobs, 0);
    for (int64_t job = 1; job <= jobs; job++) ledger_verify(job);
    for (size_t i = 0; i < STAGE_MANAGERS; i++) {
        struct manager *manager = &stage.managers[i];
        if (manager->pid == 0) continue;
        int code = -1;
        ck_assert_int_eq(kill(manager->pid, SIGTERM), 0);
        WAIT_FOR((code = manager_ended(manager)) >= 0);
        ck_assert_msg(code == 0, "pal-data ended with code %d", code);
    }
    for (size_t i = 0; i < stage.peer_count; i++) bus_free(&stage.peers[i]->bus);
    if (stage.proxied) proxy_close(&stage.proxy);
    uv_close((uv_handle_t *)&stage.tick, NULL);
    uv_close((uv_handle_t *)&stage.beat, NULL);
    (void)uv_run(&stage.loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&stage.loop), 0);
    for (size_t i = 0; i < stage.peer_count; i++) {
        buf_fini(&stage.peers[i]->said);
        free(stage.peers[i]);
    }
    store_close(&stage.ledger);
}

void stage_restart(void)
{
    manager_kill(&stage.managers[0]);
    manager_start(&stage.managers[0]);
}

int stage_main(const char *name, const TTest *const *tests, size_t count)
{
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, open_stage, close_stage);
    tcase_set_timeout(tcase, 150);
    for (size_t i = 0; i < count; i++) {
        int before = 0;
        for (size_t k = 0; k < i; k++) before += tests[k] == tests[i];
        tcase_add_loop_test(tcase, tests[i], before, before + 1);
    }
    suite_add_tcase(suite, tcase);
    cluster_start(stage.cluster);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    cluster_stop(stage.cluster);
    return failed == 0 ? 0 : 1;
}
