#include "services/common/run/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define INPUT_MAX 4096

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int left_ms(int64_t deadline)
{
    int64_t left = deadline - now_ms();
    return left > 0 ? (int)left : 0;
}

err_t child_spawn(char *const *argv, int in_fd, int out_fd, pid_t *ret)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t all;
    sigset_t none;
    sigfillset(&all);
    sigemptyset(&none);
    if (posix_spawn_file_actions_init(&actions) != 0) return err_set(ERR_memory, "starting %s", argv[0]);
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return err_set(ERR_memory, "starting %s", argv[0]);
    }
    int failed = posix_spawn_file_actions_addchdir_np(&actions, "/");
    if (!failed && in_fd >= 0) failed = posix_spawn_file_actions_adddup2(&actions, in_fd, 0);
    if (!failed && out_fd >= 0) failed = posix_spawn_file_actions_adddup2(&actions, out_fd, 1);
    if (!failed && out_fd >= 0) failed = posix_spawn_file_actions_adddup2(&actions, out_fd, 2);
    if (!failed) failed = posix_spawnattr_setsigdefault(&attributes, &all);
    if (!failed) failed = posix_spawnattr_setsigmask(&attributes, &none);
    if (!failed) failed = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    if (!failed) failed = posix_spawnp(ret, argv[0], &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return failed ? err_set(ERR_io, "starting %s: %s", argv[0], strerror(failed)) : ERR_ok;
}

err_t child_wait(pid_t pid, int timeout_ms, int *ret_status)
{
    int64_t deadline = now_ms() + timeout_ms;
    int fd = pidfd_open(pid, 0);
    if (fd < 0) return err_set(ERR_io, "process %d: %s", (int)pid, strerror(errno));
    struct pollfd wait = {fd, POLLIN, 0};
    int n;
    do n = poll(&wait, 1, left_ms(deadline));
    while (n < 0 && errno == EINTR && left_ms(deadline) > 0);
    (void)close(fd);
    if (n <= 0) return err_set(ERR_timeout, "process %d still runs", (int)pid);
    pid_t got;
    do got = waitpid(pid, ret_status, 0);
    while (got < 0 && errno == EINTR);
    return got == pid ? ERR_ok : err_set(ERR_io, "process %d: %s", (int)pid, strerror(errno));
}

/* Until the other end is closed by all who have it. */
static err_t read_all(int fd, int64_t deadline, struct buf *output)
{
    for (;;) {
        struct pollfd wait = {fd, POLLIN, 0};
        int n = poll(&wait, 1, left_ms(deadline));
        if (n == 0) return err_set(ERR_timeout, "it still runs");
        if (n < 0 && errno != EINTR) return err_set(ERR_io, "poll: %s", strerror(errno));
        if (n < 0) continue;
        char part[4096];
        ssize_t got = read(fd, part, sizeof part);
        if (got == 0) return ERR_ok;
        if (got < 0 && errno != EINTR && errno != EAGAIN) return err_set(ERR_io, "read: %s", strerror(errno));
        if (got > 0 && buf_append(output, part, (size_t)got) != ERR_ok) continue; /* past the maximum: dropped, as said */
    }
}

/* The last line with text in it. */
static struct span last_line(const struct buf *output)
{
    const char *text = buf_chars(output);
    size_t end = output->size;
    while (end > 0 && (text[end - 1] == '\n' || text[end - 1] == ' ')) end--;
    size_t start = end;
    while (start > 0 && text[start - 1] != '\n') start--;
    return span_of(text + start, end - start);
}

static err_t settle(pid_t pid, const char *name, err_t err, int64_t deadline, const struct buf *output)
{
    int status = 0;
    if (err == ERR_ok) err = child_wait(pid, left_ms(deadline), &status);
    if (err != ERR_ok) {
        (void)kill(pid, SIGKILL);
        pid_t got;
        do got = waitpid(pid, NULL, 0);
        while (got < 0 && errno == EINTR);
        return err_prefix(err, "%s", name);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return ERR_ok;
    struct span line = last_line(output);
    return err_set(ERR_io, "%s ended with %s %d: %.*s", name, WIFEXITED(status) ? "status" : "signal",
                   WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), SPAN_ARG(line));
}

err_t child_run(char *const *argv, struct span input, int timeout_ms, struct buf *output)
{
    BUG_IF(input.size > INPUT_MAX); /* what a pipe is sure to hold: writing never blocks */
    int64_t deadline = now_ms() + timeout_ms;
    int in[2];
    int out[2];
    if (pipe2(in, O_CLOEXEC) != 0) return err_set(ERR_io, "pipe: %s", strerror(errno));
    if (pipe2(out, O_CLOEXEC) != 0) {
        int problem = errno;
        (void)close(in[0]);
        (void)close(in[1]);
        return err_set(ERR_io, "pipe: %s", strerror(problem));
    }
    err_t err = ERR_ok;
    if (input.size && write(in[1], input.data, input.size) != (ssize_t)input.size)
        err = err_set(ERR_io, "pipe: %s", strerror(errno));
    (void)close(in[1]);
    pid_t pid = 0;
    if (err == ERR_ok) err = child_spawn(argv, in[0], out[1], &pid);
    (void)close(in[0]);
    (void)close(out[1]);
    if (err == ERR_ok) err = settle(pid, argv[0], read_all(out[0], deadline, output), deadline, output);
    (void)close(out[0]);
    return err;
}
