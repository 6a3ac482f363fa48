#include "tests/support/cluster.h"

#include "services/common/run/child.h"

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 60000
#define STOP_MS  20000
#define SHM_ROOM ((uint64_t)2 << 30) /* bytes that must be free there */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st;
    (void)kind;
    (void)walk;
    return remove(path);
}

static err_t run(struct cluster *c)
{
    char log[CLUSTER_TEXT_BYTES + 16];
    (void)snprintf(log, sizeof log, "%s/postgres.log", c->state_dir);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return err_set(ERR_io, "%s", log);
    err_t err = postgres_start(&c->postgres, fd, START_MS, &c->pid);
    (void)close(fd);
    return err;
}

static err_t start(struct cluster *c)
{
    /* the server's user must be able to enter */
    if (chmod(c->state_dir, 0711) != 0 || mkdir(c->run_dir, 0711) != 0) return err_set(ERR_io, "%s", c->run_dir);
    TRY(postgres_init(&c->postgres, c->state_dir, c->run_dir));
    TRY(postgres_create(&c->postgres, false));
    return run(c);
}

/* In memory where there is room: a busy disk would be most of what a test takes. */
static const char *place(void)
{
    struct statvfs fs;
    bool roomy = statvfs("/dev/shm", &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize >= SHM_ROOM;
    return roomy && access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
}

void cluster_start(struct cluster *cluster)
{
    *cluster = (struct cluster){.pid = 0};
    (void)snprintf(cluster->state_dir, sizeof cluster->state_dir, "%s/pal-test-XXXXXX", place());
    if (!mkdtemp(cluster->state_dir)) {
        perror("mkdtemp");
        exit(1);
    }
    (void)snprintf(cluster->run_dir, sizeof cluster->run_dir, "%.100s/run", cluster->state_dir);
    err_t err = start(cluster);
    if (err == ERR_ok) return;
    (void)fprintf(stderr, "no cluster to test with: %s: %s (%s)\n", err_name(err), err_text(), err_place());
    cluster_stop(cluster);
    exit(1);
}

void cluster_stop(struct cluster *cluster)
{
    err_t err = postgres_stop(&cluster->pid, STOP_MS);
    if (err != ERR_ok) (void)fprintf(stderr, "stopping PostgreSQL: %s\n", err_text());
    (void)nftw(cluster->state_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

void cluster_kill(struct cluster *cluster)
{
    int status = 0;
    ck_assert_int_eq(kill(cluster->pid, SIGKILL), 0); /* its sessions notice, and end */
    ck_assert_int_eq(waitpid(cluster->pid, &status, 0), cluster->pid);
    cluster->pid = 0;
}

void cluster_again(struct cluster *cluster)
{
    err_t err = run(cluster);
    ck_assert_msg(err == ERR_ok, "starting PostgreSQL again: %s", err_text());
}

void cluster_conninfo(const struct cluster *cluster, const char *name, const char *role, char *ret, size_t size)
{
    int n = snprintf(ret, size, "host=%s/pg port=%d dbname=%s user=%s", cluster->run_dir, STORE_PORT, name, role);
    ck_assert_int_lt(n, (int)size);
}

void cluster_database(const struct cluster *cluster, const char *name)
{
    AUTO(arena) arena = {0};
    AUTO(buf) output = {0};
    const char *const words[] = {"-h", cluster->postgres.sockets, "-U", POSTGRES_USER, "-O", "pal", name};
    char **argv;
    ck_assert_int_eq(postgres_command(&cluster->postgres, "createdb", words, 7, &arena, &argv), ERR_ok);
    err_t err = child_run(argv, span_of(NULL, 0), START_MS, &output);
    ck_assert_msg(err == ERR_ok, "createdb: %s: %s", err_text(), buf_chars(&output));
}

struct store *cluster_ledger(const struct cluster *cluster, const char *name, const char *migrations)
{
    char conninfo[CLUSTER_TEXT_BYTES];
    cluster_database(cluster, name);
    cluster_conninfo(cluster, name, "pal", conninfo, sizeof conninfo);
    struct store *store = NULL;
    err_t err = store_open(&store, conninfo);
    ck_assert_msg(err == ERR_ok, "open: %s", err_text());
    err = store_migrate(store, migrations);
    ck_assert_msg(err == ERR_ok, "migrate: %s", err_text());
    return store;
}
