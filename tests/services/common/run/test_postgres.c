/* LABELS: store
 * postgres: a private cluster is made, started, stopped and started again, in each way this user can run it; a half-made one
 * is made again; it ends with its parent. */
#include "services/common/run/child.h"
#include "services/common/run/postgres.h"
#include "services/common/store/store.h"

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 60000

struct place {
    char state[200];
    char run[256];
};

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st;
    (void)kind;
    (void)walk;
    return remove(path);
}

static void place_make(struct place *place, const char *pattern, mode_t mode)
{
    (void)snprintf(place->state, sizeof place->state, "%s", pattern);
    ck_assert_ptr_nonnull(mkdtemp(place->state));
    ck_assert_int_eq(chmod(place->state, mode), 0);
    (void)snprintf(place->run, sizeof place->run, "%s/run", place->state);
    ck_assert_int_eq(mkdir(place->run, mode), 0);
}

static void place_remove(const struct place *place)
{
    (void)nftw(place->state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#define OK(call)                                                                                                             \
    do {                                                                                                                     \
        err_t ok_ = (call);                                                                                                  \
        ck_assert_msg(ok_ == ERR_ok, "%s: %s", err_name(ok_), err_text());                                                   \
    } while (0)

static int open_log(const struct place *place)
{
    char path[300];
    (void)snprintf(path, sizeof path, "%s/log", place->state);
    int fd = open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static void connect_as(const struct place *place, const char *role, err_t want)
{
    char conninfo[512];
    OK(store_conninfo(place->run, role, conninfo, sizeof conninfo));
    AUTO_PTR(store) store = NULL;
    err_t err = store_open(&store, conninfo);
    ck_assert_msg(err == want, "as %s: %s: %s", role, err_name(err), err_text());
}

static void live_through(const char *pattern, mode_t mode, enum postgres_as want)
{
    struct place place;
    place_make(&place, pattern, mode);
    struct postgres pg;
    OK(postgres_init(&pg, place.state, place.run));
    ck_assert_int_eq(pg.as, want);
    OK(postgres_create(&pg, false));
    int log = open_log(&place);
    pid_t pid = 0;
    for (int round = 0; round < 3; round++) {
        OK(postgres_start(&pg, log, START_MS, &pid));
        ck_assert(postgres_ready(&pg, pid));
        ck_assert(!postgres_ready(&pg, pid + 1));
        connect_as(&place, "pal", ERR_ok);
        connect_as(&place, "pal_reader", ERR_ok);
        connect_as(&place, "nobody", ERR_unavailable);
        if (round == 1) { /* a crash: the next start recovers */
            (void)kill(pid, SIGKILL);
            int status;
            OK(child_wait(pid, 10000, &status));
            continue;
        }
        OK(postgres_stop(&pid, 20000));
        ck_assert_int_eq(pid, 0);
        OK(postgres_init(&pg, place.state, place.run)); /* an existing cluster keeps the way it was made */
        ck_assert_int_eq(pg.as, want);
        OK(postgres_create(&pg, false));
    }
    (void)close(log);
    place_remove(&place);
}

START_TEST(runs_where_its_user_can_reach)
{
    live_through("/tmp/pal-test-XXXXXX", 0711, geteuid() == 0 ? POSTGRES_AS_SETPRIV : POSTGRES_AS_SELF);
}
END_TEST

START_TEST(runs_where_nobody_else_can_reach)
{
    live_through("/tmp/pal-test-XXXXXX", 0700, geteuid() == 0 ? POSTGRES_AS_UNSHARE : POSTGRES_AS_SELF);
}
END_TEST

START_TEST(runs_in_a_closed_home)
{
    if (geteuid() != 0) return;
    live_through("/root/pal-test-XXXXXX", 0700, POSTGRES_AS_UNSHARE);
}
END_TEST

START_TEST(a_half_made_cluster_is_made_again)
{
    struct place place;
    place_make(&place, "/tmp/pal-test-XXXXXX", 0700);
    char path[300];
    (void)snprintf(path, sizeof path, "%s/postgres.new", place.state);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/postgres.new/PG_VERSION", place.state);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    ck_assert_int_ge(fd, 0);
    (void)close(fd);
    struct postgres pg;
    OK(postgres_init(&pg, place.state, place.run));
    OK(postgres_create(&pg, false));
    (void)snprintf(path, sizeof path, "%s/postgres.new", place.state);
    ck_assert_int_ne(access(path, F_OK), 0);
    place_remove(&place);
}
END_TEST

START_TEST(another_version_is_refused)
{
    struct place place;
    place_make(&place, "/tmp/pal-test-XXXXXX", 0700);
    char path[300];
    (void)snprintf(path, sizeof path, "%s/postgres", place.state);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/postgres/PG_VERSION", place.state);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    ck_assert_int_eq(write(fd, "9.1\n", 4), 4);
    (void)close(fd);
    struct postgres pg;
    ck_assert_int_eq(postgres_init(&pg, place.state, place.run), ERR_conflict);
    ck_assert_ptr_nonnull(strstr(err_text(), "9.1"));
    place_remove(&place);
}
END_TEST

/* The parent of the server is killed: the server must end by itself. We become the reaper of what it leaves. */
static void end_with_parent(mode_t mode)
{
    struct place place;
    place_make(&place, "/tmp/pal-test-XXXXXX", mode);
    struct postgres pg;
    OK(postgres_init(&pg, place.state, place.run));
    OK(postgres_create(&pg, false));
    int log = open_log(&place);
    int fds[2];
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    pid_t parent = fork();
    if (parent == 0) {
        pid_t pid = 0;
        if (postgres_start(&pg, log, START_MS, &pid) != ERR_ok) pid = 0;
        if (write(fds[1], &pid, sizeof pid) != sizeof pid) _exit(1);
        for (;;) (void)pause();
    }
    pid_t server = 0;
    ck_assert_int_eq(read(fds[0], &server, sizeof server), sizeof server);
    ck_assert_int_gt(server, 0);
    (void)kill(parent, SIGKILL);
    int status;
    OK(child_wait(parent, 10000, &status));
    OK(child_wait(server, 20000, &status)); /* ours now */
    ck_assert(WIFEXITED(status));
    (void)close(fds[0]);
    (void)close(fds[1]);
    (void)close(log);
    place_remove(&place);
}

START_TEST(it_ends_with_its_parent)
{
    end_with_parent(0700);
    end_with_parent(0711);
}
END_TEST

START_TEST(a_child_has_a_deadline_and_a_verdict)
{
    char sh[] = "sh", c[] = "-c", sleepy[] = "exec cat >&2; read x", bad[] = "echo first; echo why >&2; exit 3",
         echo[] = "cat; exec tail -c 0";
    AUTO(buf) output = {0};
    char *hang[] = {sh, c, sleepy, NULL};
    int fds[2];
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid;
    OK(child_spawn(hang, fds[0], -1, &pid));
    int status;
    ck_assert_int_eq(child_wait(pid, 50, &status), ERR_timeout);
    (void)kill(pid, SIGKILL);
    OK(child_wait(pid, 10000, &status));
    ck_assert(WIFSIGNALED(status));
    char *fails[] = {sh, c, bad, NULL};
    ck_assert_int_eq(child_run(fails, span_text(""), 10000, &output), ERR_io);
    ck_assert_ptr_nonnull(strstr(err_text(), "status 3: why"));
    buf_clear(&output);
    char *copies[] = {sh, c, echo, NULL};
    OK(child_run(copies, span_text("hello"), 10000, &output));
    ck_assert_str_eq(buf_chars(&output), "hello");
    char missing[] = "/nonexistent/program";
    char *none[] = {missing, NULL};
    ck_assert_int_eq(child_run(none, span_text(""), 10000, &output), ERR_io);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("postgres");
    TCase *tcase = tcase_create("postgres");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, a_child_has_a_deadline_and_a_verdict);
    tcase_add_test(tcase, runs_where_its_user_can_reach);
    tcase_add_test(tcase, runs_where_nobody_else_can_reach);
    tcase_add_test(tcase, runs_in_a_closed_home);
    tcase_add_test(tcase, a_half_made_cluster_is_made_again);
    tcase_add_test(tcase, another_version_is_refused);
    tcase_add_test(tcase, it_ends_with_its_parent);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
