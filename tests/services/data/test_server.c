/* LABELS: unit store
 * The real pal-data while its PostgreSQL dies, or has no room left on its disk, against scripted peers
 * (tests/support/stage.h). */
#include "tests/support/stage.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

START_TEST(a_killed_server_loses_nothing)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    for (size_t i = 0; i < 4; i++) worker_end(worker, &worker->leases[i], "ok", i % 2 ? 1.0 : 0.0);
    WAIT_FOR(worker->acks >= 2);
    uint64_t acked = worker->acks;
    cluster_kill(stage.cluster);
    worker_play(worker, true);
    WAIT_FOR(!stage_ready(gateway));
    stage_recluster();
    ck_assert_int_ge(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'done'", 0), (int64_t)acked);
    WAIT_FOR(worker_acked(worker));
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'done'", 0), 8);
    WAIT_FOR(stage_ready(gateway));
    ck_assert_uint_eq(trainer_fetch(trainer, 1)->count, 8);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND cardinality(failures) > 0", 0), 0);
}
END_TEST

/* The ledger that is read again says that the dead worker's leases are still its own. */
START_TEST(a_worker_may_die_while_the_server_is_away)
{
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    cluster_kill(stage.cluster);
    WAIT_FOR(!stage_ready(gateway));
    struct peer *heir = stage_join("rollout");
    heir->pid = worker->pid;
    worker->mute = true;
    peer_hello(heir);
    WAIT_FOR(!stage_ready(gateway)); /* it was heard before this was asked */
    stage_recluster();
    uint64_t before = heir->assigns;
    WAIT_FOR(heir->assigns > before);
    worker_request(heir, 8);
    WAIT_FOR(heir->lease_count == 8); /* not after the leases' time */
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND failures = '{cancelled}'", 0), 8);
    stage_update(trainer, heir, 1);
}
END_TEST

/* ---- a full disk ---- */

#define DISK_BYTES  "4m"
#define LEFT_BYTES  ((size_t)128 << 10)
#define CHUNK_BYTES ((size_t)16 << 10)

static bool own_mounts; /* what is mounted here is seen by this program and its server only, and goes with them */

/* Anybody may mount in a user namespace of his own; his user keeps its number, so that the server runs as always. */
static bool leave_mounts(void)
{
    char line[64];
    uid_t uid = geteuid();
    gid_t gid = getegid();
    if (unshare(CLONE_NEWNS | (uid ? CLONE_NEWUSER : 0)) != 0) return false;
    const char *const paths[] = {"/proc/self/setgroups", "/proc/self/uid_map", "/proc/self/gid_map"};
    for (size_t i = 0; uid && i < 3; i++) {
        (void)snprintf(line, sizeof line, "%u %u 1", i == 1 ? uid : gid, i == 1 ? uid : gid);
        int fd = open(paths[i], O_WRONLY | O_CLOEXEC);
        const char *text = i == 0 ? "deny" : line;
        bool good = fd >= 0 && write(fd, text, strlen(text)) > 0;
        if (fd >= 0) (void)close(fd);
        if (!good) return false;
    }
    return mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static void as_superuser(const char *sql)
{
    char conninfo[CLUSTER_TEXT_BYTES];
    AUTO_PTR(store) store = NULL;
    cluster_conninfo(stage.cluster, stage.name, "postgres", conninfo, sizeof conninfo);
    ck_assert_msg(store_open(&store, conninfo) == ERR_ok, "%s", err_text());
    err_t err = store_simple(store, sql, STORE_STATEMENT_MS, NULL);
    ck_assert_msg(err == ERR_ok, "%s: %s", sql, err_text());
}

/* Payloads lie on a small disk of their own from now on. */
static void move_payloads(char *ret_disk, size_t size)
{
    char sql[CLUSTER_TEXT_BYTES + 64];
    (void)snprintf(ret_disk, size, "%.100s/small", stage.cluster->state_dir);
    ck_assert_int_eq(mkdir(ret_disk, 0700), 0);
    ck_assert_int_eq(mount("tmpfs", ret_disk, "tmpfs", 0, "size=" DISK_BYTES ",mode=0700"), 0);
    ck_assert_int_eq(chown(ret_disk, stage.cluster->postgres.uid, stage.cluster->postgres.gid), 0);
    (void)snprintf(sql, sizeof sql, "CREATE TABLESPACE small LOCATION '%s'", ret_disk);
    as_superuser(sql);
    as_superuser("ALTER TABLE episode_payload SET TABLESPACE small");
}

/* Nearly full. */
static void fill(const char *disk, char *ret_path, size_t size)
{
    static const char bytes[CHUNK_BYTES];
    struct statvfs fs;
    (void)snprintf(ret_path, size, "%.400s/filler", disk);
    int fd = open(ret_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    while (statvfs(disk, &fs) == 0 && (size_t)fs.f_bavail * fs.f_frsize > LEFT_BYTES)
        ck_assert_int_eq(write(fd, bytes, sizeof bytes), sizeof bytes);
    ck_assert_int_eq(close(fd), 0);
}

START_TEST(a_full_disk_is_waited_for)
{
    char disk[CLUSTER_TEXT_BYTES], filler[CLUSTER_TEXT_BYTES];
    if (!own_mounts) {
        (void)fprintf(stderr, "no mounts of our own: a full disk is not tried\n");
        struct peer *gateway = stage_join("gateway");
        (void)stage_submit(gateway, &STAGE_SMALL, "");
        return;
    }
    move_payloads(disk, sizeof disk);
    struct peer *gateway = stage_join("gateway"), *trainer = stage_join("trainer"), *worker = stage_join("rollout");
    stage_begin(gateway, trainer, worker, &STAGE_SMALL);
    worker_request(worker, 8);
    WAIT_FOR(worker->lease_count == 8);
    worker->payload_bytes = (size_t)64 << 10;
    worker_end(worker, &worker->leases[0], "ok", 1);
    WAIT_FOR(worker_acked(worker));
    fill(disk, filler, sizeof filler);
    worker_play(worker, true);
    trainer_ask(trainer, 1);
    WAIT_FOR(!stage_ready(gateway));
    uint64_t end = uv_now(&stage.loop) + 1500, again = worker->hellos_again;
    WAIT_FOR(uv_now(&stage.loop) > end);
    ck_assert(!stage_ready(gateway));
    ck_assert_uint_le(worker->hellos_again, again + 8); /* it waits longer each time */
    ck_assert_uint_lt(worker->acks, 8);
    ck_assert(!trainer_has(trainer, 1));
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND state = 'done'", 0), (int64_t)worker->acks);
    ck_assert_int_eq(unlink(filler), 0);
    WAIT_FOR(worker_acked(worker) && trainer_has(trainer, 1));
    WAIT_FOR(stage_ready(gateway));
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode_payload WHERE job = $1 AND length(bytes) = 65536", 0), 8);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND cardinality(failures) > 0", 0), 0);
    ck_assert_uint_eq(trainer_batch(trainer, 1)->count, 8);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {a_full_disk_is_waited_for, a_killed_server_loses_nothing,
                                  a_worker_may_die_while_the_server_is_away};
    own_mounts = leave_mounts();
    if (setenv("CK_FORK", "no", 1) != 0) return 1; /* the server is this process's child */
    return stage_main("data.server", tests, sizeof tests / sizeof *tests);
}
