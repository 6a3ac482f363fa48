#include "services/env/child.h"

#include "services/common/run/log.h"
#include "services/env/launch.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CHUNK_BYTES   8192
#define COMMAND_WORDS 64
#define SELF          "/proc/self/exe"

struct child {
    const char *name; /* for the log */
    uv_process_t process;
    uv_pipe_t in, out, err;
    int open_handles;
    struct child_events events;
    struct buf line;
    bool handing; /* the line is being told */
    size_t max_line;
    char err_line[CHILD_STDERR_BYTES + 1];
    size_t err_size;
    char last_err[CHILD_STDERR_BYTES + 1];
    size_t err_lines;
    bool ended; /* reaped */
    bool deaf;  /* killed or over-long: no more lines */
    char chunk[CHUNK_BYTES];
};

static void on_closed(uv_handle_t *handle)
{
    struct child *child = handle->data;
    if (--child->open_handles > 0) return;
    buf_fini(&child->line);
    free(child);
}

static void on_ended(uv_process_t *process, int64_t status, int number)
{
    struct child *child = process->data;
    char why[CHILD_WHY_BYTES];
    child->ended = true;
    const char *last = child->err_size ? child->err_line : child->last_err;
    if (number)
        (void)snprintf(why, sizeof why, "the environment ended by signal %d%s%s", number, *last ? ": " : "", last);
    else
        (void)snprintf(why, sizeof why, "the environment exited with status %d%s%s", (int)status, *last ? ": " : "", last);
    child->deaf = true;
    /* whatever it started goes with it */
    (void)kill(-process->pid, SIGKILL);
    uv_close((uv_handle_t *)&child->process, on_closed);
    uv_close((uv_handle_t *)&child->in, on_closed);
    uv_close((uv_handle_t *)&child->out, on_closed);
    uv_close((uv_handle_t *)&child->err, on_closed);
    child->events.on_gone(child->events.ctx, why);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    (void)suggested;
    struct child *child = handle->data;
    *ret = uv_buf_init(child->chunk, CHUNK_BYTES);
}

/* Hands over the whole lines of a chunk and keeps the rest. */
static void take_output(struct child *child, struct span chunk)
{
    while (chunk.size && !child->deaf) {
        const uint8_t *end = memchr(chunk.data, '\n', chunk.size);
        size_t part = end ? (size_t)(end - chunk.data) : chunk.size;
        size_t room = child->max_line + 1 - child->line.size;
        size_t kept = part < room ? part : room;
        if (buf_append(&child->line, chunk.data, kept) != ERR_ok) {
            child_kill(child);
            return;
        }
        if (!end && child->line.size <= child->max_line) return;
        if (child->line.size > child->max_line) child->deaf = true;
        child->handing = true;
        child->events.on_line(child->events.ctx, buf_span(&child->line), end && chunk.size > part + 1);
        child->handing = false;
        buf_clear(&child->line);
        if (!end) return;
        chunk = span_of(end + 1, chunk.size - part - 1);
    }
}

static void on_output(uv_stream_t *stream, ssize_t size, const uv_buf_t *chunk)
{
    struct child *child = stream->data;
    if (size > 0) {
        take_output(child, span_of(chunk->base, (size_t)size));
    } else if (size < 0) {
        (void)uv_read_stop(stream); /* it is ending; if it is not, the call's deadline finds it */
    }
}

static void end_stderr_line(struct child *child)
{
    child->err_line[child->err_size] = '\0';
    if (child->err_size == 0) return;
    memcpy(child->last_err, child->err_line, child->err_size + 1);
    child->err_size = 0;
    if (child->err_lines++ < CHILD_STDERR_LINES)
        log_info("%s (pid %d): %s", child->name, (int)child->process.pid, child->last_err);
    else
        (*child->events.stderr_dropped)++;
}

static void on_stderr(uv_stream_t *stream, ssize_t size, const uv_buf_t *chunk)
{
    struct child *child = stream->data;
    if (size < 0) (void)uv_read_stop(stream);
    for (ssize_t i = 0; i < size; i++) {
        char c = chunk->base[i];
        if (c == '\n')
            end_stderr_line(child);
        else if (child->err_size < CHILD_STDERR_BYTES)
            child->err_line[child->err_size++] = c >= 0x20 && c < 0x7f ? c : '?';
    }
    child->err_line[child->err_size] = '\0';
}

struct outgoing {
    uv_write_t request;
    char bytes[];
};

static void on_written(uv_write_t *request, int status)
{
    (void)status; /* a broken pipe shows as the child's end */
    free(request->data);
}

err_t child_write(struct child *child, struct span bytes)
{
    struct outgoing *out = malloc(sizeof *out + bytes.size);
    if (!out) return err_set(ERR_memory, "a request");
    memcpy(out->bytes, bytes.data, bytes.size);
    out->request.data = out;
    uv_buf_t chunk = uv_buf_init(out->bytes, (unsigned)bytes.size);
    if (child->ended || uv_write(&out->request, (uv_stream_t *)&child->in, &chunk, 1, on_written) != 0) {
        free(out);
        return err_set(ERR_unavailable, "the environment takes no input");
    }
    return ERR_ok;
}

bool child_unread(const struct child *child)
{
    int fd = -1, waiting = 0;
    if (child->line.size > 0 && !child->handing) return true;
    return uv_fileno((const uv_handle_t *)&child->out, &fd) == 0 && ioctl(fd, FIONREAD, &waiting) == 0 && waiting > 0;
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    (void)status;
    free(request);
}

void child_end_input(struct child *child)
{
    uv_shutdown_t *request = malloc(sizeof *request);
    if (!request || child->ended || uv_shutdown(request, (uv_stream_t *)&child->in, on_shutdown) != 0) free(request);
}

void child_kill(struct child *child)
{
    child->deaf = true;
    if (!child->ended) (void)kill(-child->process.pid, SIGKILL);
}

static int spawn(uv_loop_t *loop, struct child *child, char *const *command)
{
    char parent[24];
    char *words[LAUNCH_WORDS + COMMAND_WORDS + 1] = {0};
    static char self[] = SELF, flag[] = LAUNCH_FLAG;
    (void)snprintf(parent, sizeof parent, "%d", (int)getpid());
    words[0] = self;
    words[1] = flag;
    words[2] = parent;
    for (size_t i = 0; command[i]; i++) {
        if (i == COMMAND_WORDS) return UV_E2BIG;
        words[LAUNCH_WORDS + i] = command[i];
    }
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&child->in},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&child->out},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&child->err},
    };
    uv_process_options_t options = {
        .exit_cb = on_ended,
        .file = SELF,
        .args = words,
        .flags = UV_PROCESS_DETACHED, /* a group of its own */
        .stdio_count = 3,
        .stdio = stdio,
    };
    return uv_spawn(loop, &child->process, &options);
}

err_t child_start(uv_loop_t *loop, const char *name, char *const *command, size_t max_line, struct child_events events,
                  struct child **ret)
{
    struct child *child = calloc(1, sizeof *child);
    if (!child) return err_set(ERR_memory, "a child process");
    *child = (struct child){.name = name, .events = events, .max_line = max_line, .open_handles = 4};
    buf_init(&child->line, max_line + 1);
    (void)uv_pipe_init(loop, &child->in, 0);
    (void)uv_pipe_init(loop, &child->out, 0);
    (void)uv_pipe_init(loop, &child->err, 0);
    child->process.data = child->in.data = child->out.data = child->err.data = child;
    int failed = spawn(loop, child, command);
    if (failed) {
        child->ended = true;
        uv_close((uv_handle_t *)&child->process, on_closed);
        uv_close((uv_handle_t *)&child->in, on_closed);
        uv_close((uv_handle_t *)&child->out, on_closed);
        uv_close((uv_handle_t *)&child->err, on_closed);
        return err_set(ERR_unavailable, "%s: cannot be started: %s", name, uv_strerror(failed));
    }
    (void)uv_read_start((uv_stream_t *)&child->out, on_alloc, on_output);
    (void)uv_read_start((uv_stream_t *)&child->err, on_alloc, on_stderr);
    *ret = child;
    return ERR_ok;
}
