#include "tests/support/data_peer.h"

#include "services/common/run/rundir.h"

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOP_MS 30000

static void on_message(void *ctx, const char *from, enum wire_id id, const void *message)
{
    struct data_peer *peer = ctx;
    (void)snprintf(peer->peer, sizeof peer->peer, "%s", from);
    if (id == WIRE_hello) peer->hellos++;
    if (id == WIRE_heartbeat) {
        const struct wire_heartbeat_ack ack = {.epoch = 1, .hello_again = peer->hello_again};
        peer->hello_again = false;
        peer->beats++;
        data_peer_send(peer, WIRE_heartbeat_ack, &ack);
    }
    peer->on_message(peer->ctx, id, message);
}

static void on_bad(void *ctx, const char *from, const char *why)
{
    (void)ctx;
    ck_abort_msg("a bad frame from %s: %s", from, why);
}

static void spawn(struct data_peer *peer, const char *program)
{
    char log[DATA_PEER_PATH_BYTES + 64], path[1024];
    (void)snprintf(log, sizeof log, "%s/%s.log", peer->state_dir, program);
    (void)snprintf(path, sizeof path, "%s/%s", PAL_BIN_DIR, program);
    peer->peer[0] = 0;
    peer->pid = fork();
    ck_assert_int_ge(peer->pid, 0);
    if (peer->pid > 0) return;
    if (peer->crash_at) (void)setenv("PAL_CRASH_AT", peer->crash_at, 1);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0) (void)dup2(fd, STDERR_FILENO);
    if (peer->trace) (void)setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* LeakSanitizer cannot work under a tracer */
    /* -D: the tracer is a child of the service, which keeps our signals and our wait */
    if (peer->trace)
        (void)execlp("strace", "strace", "-D", "-f", "-z", "-s", "2048", "-e",
                     "trace=openat,write,fsync,rename,sendto,sendmsg", "-o", peer->trace, path, "--state", peer->state_dir,
                     "--threads", "2", (char *)NULL);
    else
        (void)execl(path, program, "--state", peer->state_dir, "--threads", "2", (char *)NULL);
    _exit(127);
}

void data_peer_start(struct data_peer *peer, const char *program)
{
    char run_dir[DATA_PEER_PATH_BYTES], endpoint[DATA_PEER_PATH_BYTES + 32];
    (void)snprintf(peer->state_dir, sizeof peer->state_dir, "/tmp/pal-peer-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(peer->state_dir));
    ck_assert_int_eq(rundir_path(peer->state_dir, run_dir, sizeof run_dir), ERR_ok);
    ck_assert_int_eq(rundir_make(run_dir), ERR_ok);
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s/data.sock", run_dir);
    ck_assert_int_eq(uv_loop_init(&peer->loop), 0);
    ck_assert_int_eq(uv_timer_init(&peer->loop, &peer->deadline), 0);
    peer->deadline.data = peer;
    const struct bus_events events = {.ctx = peer, .on_message = on_message, .on_bad = on_bad};
    ck_assert_int_eq(bus_listen(&peer->bus, &peer->loop, endpoint, events), ERR_ok);
    spawn(peer, program);
}

void data_peer_restart(struct data_peer *peer, const char *program)
{
    ck_assert_int_eq(kill(peer->pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(peer->pid, NULL, 0), peer->pid);
    spawn(peer, program);
}

static bool has_ended(struct data_peer *peer, int *ret_status)
{
    if (waitpid(peer->pid, ret_status, WNOHANG) != peer->pid) return false;
    peer->pid = 0;
    return true;
}

static void on_look(uv_timer_t *timer)
{
    (void)timer; /* the loop turns, that is all */
}

/* Turns the loop until the service has ended; false when it is still there after deadline_ms. */
static bool wait_end(struct data_peer *peer, int deadline_ms, int *ret_status)
{
    uv_timer_t look;
    uint64_t end = uv_hrtime() + (uint64_t)deadline_ms * 1000000;
    (void)uv_timer_init(&peer->loop, &look);
    (void)uv_timer_start(&look, on_look, 5, 5);
    while (!has_ended(peer, ret_status) && uv_hrtime() < end) (void)uv_run(&peer->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&look, NULL);
    (void)uv_run(&peer->loop, UV_RUN_NOWAIT);
    return peer->pid == 0;
}

bool data_peer_crashed(struct data_peer *peer, const char *program, int deadline_ms)
{
    int status = 0;
    if (!wait_end(peer, deadline_ms, &status)) return false;
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the service ended with status %#x", (unsigned)status);
    spawn(peer, program);
    return true;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

void data_peer_end(struct data_peer *peer)
{
    int status = 0;
    ck_assert_int_eq(kill(peer->pid, SIGTERM), 0);
    ck_assert_msg(wait_end(peer, STOP_MS, &status), "the service still runs %d s after SIGTERM", STOP_MS / 1000);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the service ended with status %#x", (unsigned)status);
}

void data_peer_again(struct data_peer *peer, const char *program)
{
    spawn(peer, program);
}

void data_peer_stop(struct data_peer *peer)
{
    if (peer->pid) data_peer_end(peer);
    bus_free(&peer->bus);
    uv_close((uv_handle_t *)&peer->deadline, NULL);
    (void)uv_run(&peer->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&peer->loop);
    (void)nftw(peer->state_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void data_peer_send(struct data_peer *peer, enum wire_id id, const void *message)
{
    err_t err = bus_send(peer->bus, peer->peer, id, message);
    ck_assert_msg(err == ERR_ok, "sending message %d: %s", (int)id, err_text());
}

static void on_deadline(uv_timer_t *timer)
{
    ((struct data_peer *)timer->data)->expired = true;
}

bool data_peer_wait(struct data_peer *peer, bool (*holds)(void *ctx), int deadline_ms)
{
    peer->expired = false;
    (void)uv_timer_start(&peer->deadline, on_deadline, (uint64_t)deadline_ms, 0);
    while (!holds(peer->ctx) && !peer->expired) (void)uv_run(&peer->loop, UV_RUN_ONCE);
    (void)uv_timer_stop(&peer->deadline);
    return !peer->expired;
}
