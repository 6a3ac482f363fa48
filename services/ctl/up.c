/* A stack's life as commands: up, down, and whether one runs here. One stack per state directory, by a lock. */
#include "services/common/run/rundir.h"
#include "services/ctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DOWN_MS      45000
#define UP_MS        120000
#define DEFAULT_PORT 7878

static void lock_path(const struct ctl *ctl, char *ret, size_t size)
{
    (void)snprintf(ret, size, "%s/pal.pid", ctl->state_dir);
}

/* The lock of a running stack is held by its supervisor, whose pid the file holds. */
static err_t take_lock(const struct ctl *ctl, int *ret_fd)
{
    char path[CTL_PATH_BYTES + 32], line[32];
    TRY(rundir_make(ctl->state_dir));
    lock_path(ctl, path, sizeof path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return err_set(ERR_io, "%s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        (void)close(fd);
        return err_set(ERR_conflict, "a stack runs already in %s; `pal down` stops it", ctl->state_dir);
    }
    int n = snprintf(line, sizeof line, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || write(fd, line, (size_t)n) != n) {
        (void)close(fd);
        return err_set(ERR_io, "%s: %s", path, strerror(errno));
    }
    *ret_fd = fd;
    return ERR_ok;
}

bool stack_runs(const struct ctl *ctl, long *ret_pid)
{
    char path[CTL_PATH_BYTES + 32], line[32] = "";
    lock_path(ctl, path, sizeof path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool held = flock(fd, LOCK_EX | LOCK_NB) != 0;
    ssize_t n = held ? read(fd, line, sizeof line - 1) : 0;
    (void)close(fd);
    *ret_pid = n > 0 ? strtol(line, NULL, 10) : 0;
    return held && *ret_pid > 0;
}

static int run_locked(const struct ctl *ctl, const struct supervise_options *options)
{
    int lock = -1;
    err_t err = take_lock(ctl, &lock);
    if (err != ERR_ok) return ctl_fail(err);
    int code = supervise(ctl, options);
    (void)close(lock);
    return code;
}

/* The background supervisor: its own session, its output in STATE/logs/pal.log. */
static int background(const struct ctl *ctl, int port, int ready_fd)
{
    char path[CTL_PATH_BYTES + 32];
    (void)setsid();
    (void)snprintf(path, sizeof path, "%s/logs", ctl->state_dir);
    if (rundir_make(path) != ERR_ok) return 1;
    (void)snprintf(path, sizeof path, "%s/logs/pal.log", ctl->state_dir);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600), null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (log < 0 || null < 0) return 1;
    (void)dup2(null, STDIN_FILENO);
    (void)dup2(log, STDOUT_FILENO);
    (void)dup2(log, STDERR_FILENO);
    const struct supervise_options options = {.port = port, .ready_fd = ready_fd};
    return run_locked(ctl, &options);
}

/* The last line the supervisor wrote, to say why it ended. */
static void last_line(const struct ctl *ctl, char *ret, size_t size)
{
    char path[CTL_PATH_BYTES + 32], line[512];
    (void)snprintf(path, sizeof path, "%s/logs/pal.log", ctl->state_dir);
    FILE *file = fopen(path, "re");
    ret[0] = 0;
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (strcmp(line, "stopped") != 0) (void)snprintf(ret, size, "%s", line);
    }
    if (file) (void)fclose(file);
}

err_t stack_start(const struct ctl *ctl, int port)
{
    int ready[2];
    long pid = 0;
    char word = 0, why[512];
    if (stack_runs(ctl, &pid)) return err_set(ERR_conflict, "a stack runs already in %s (pid %ld)", ctl->state_dir, pid);
    if (pipe2(ready, O_CLOEXEC) != 0) return err_set(ERR_io, "a pipe: %s", strerror(errno));
    (void)fflush(NULL);
    pid_t child = fork();
    if (child < 0) return err_set(ERR_io, "fork: %s", strerror(errno));
    if (child == 0) {
        (void)close(ready[0]);
        /* a second fork, so that nobody has to wait for the supervisor */
        if (fork() == 0) _exit(background(ctl, port, ready[1]));
        _exit(0);
    }
    (void)close(ready[1]);
    (void)waitpid(child, NULL, 0);
    /* the supervisor gives up by itself before that; 0 bytes when it ended */
    struct pollfd wait = {ready[0], POLLIN, 0};
    int some = poll(&wait, 1, UP_MS);
    ssize_t n = some > 0 ? read(ready[0], &word, 1) : -1;
    (void)close(ready[0]);
    if (n == 1 && word == 'R') return ERR_ok;
    if (some == 0) return err_set(ERR_timeout, "the stack is not ready after %d s; see `pal logs pal`", UP_MS / 1000);
    last_line(ctl, why, sizeof why);
    return err_set(ERR_unavailable, "the stack did not start: %s", why);
}

static void wait_ms(long ms)
{
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
}

err_t stack_stop(const struct ctl *ctl)
{
    long pid = 0;
    if (!stack_runs(ctl, &pid)) return err_set(ERR_not_found, "no stack runs in %s", ctl->state_dir);
    if (kill((pid_t)pid, SIGTERM) != 0) return err_set(ERR_refused, "signalling pid %ld: %s", pid, strerror(errno));
    for (long waited = 0; waited < DOWN_MS; waited += 20) {
        if (!stack_runs(ctl, &pid)) return ERR_ok;
        wait_ms(20);
    }
    return err_set(ERR_timeout, "the stack (pid %ld) still runs after %d s", pid, DOWN_MS / 1000);
}

int command_up(struct ctl *ctl)
{
    bool detach = ctl_flag(ctl, "--detach");
    const char *text = ctl_option(ctl, "--port");
    char *end = NULL;
    long port = text ? strtol(text, &end, 10) : DEFAULT_PORT;
    if ((text && (end == text || *end)) || port < 0 || port > 65535) {
        (void)fprintf(stderr, "pal: --port must be 0 to 65535\n");
        return 2;
    }
    if (!ctl_no_more(ctl, 0)) return 2;
    if (!detach) {
        const struct supervise_options options = {.port = (int)port, .ready_fd = -1};
        return run_locked(ctl, &options);
    }
    int chosen = 0;
    err_t err = stack_start(ctl, (int)port);
    if (err == ERR_ok) err = client_port(ctl, &chosen);
    if (err != ERR_ok) return ctl_fail(err);
    (void)printf("ready: http://127.0.0.1:%d/  (state in %s; `pal down` stops it)\n", chosen, ctl->state_dir);
    return 0;
}

int command_down(struct ctl *ctl)
{
    if (!ctl_no_more(ctl, 0)) return 2;
    err_t err = stack_stop(ctl);
    if (err != ERR_ok) return ctl_fail(err);
    (void)printf("stopped\n");
    return 0;
}
