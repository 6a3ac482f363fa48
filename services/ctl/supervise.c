/* The supervisor: starts PostgreSQL, then the five processes; restarts what dies, with backoff and a limit; stops in reverse
 * order. */
#include "services/common/base/arena.h"
#include "services/common/run/log.h"
#include "services/common/run/postgres.h"
#include "services/common/run/rundir.h"
#include "services/common/run/service.h"
#include "services/ctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#define LOG_BYTES ((off_t)32 << 20)
#define TICK_MS   50
#define START_MS  60000 /* until the whole stack must be ready */

struct service_row {
    const char *name;
    int nice;
    size_t max_restarts;
    uint64_t window_ms, backoff_ms, backoff_most_ms, stop_ms;
};

static const struct service_row rows[] = {
#define SERVICE(name, nice, restarts, window, backoff, most, stop, doc)                                                      \
    {name, nice, restarts, (window)*1000u, backoff, most, stop},
#include "services/ctl/services.def"
#undef SERVICE
};

#define SERVICES  (sizeof rows / sizeof *rows)
#define POSTGRES  0
#define WORKED_MS 3000 /* a process that lives so long has not died of its start */

struct child {
    const struct service_row *row;
    struct supervisor *supervisor;
    uv_process_t process;
    bool runs, handle;
    uint64_t start_at_ms; /* 0: not scheduled */
    uint64_t started_ms;
    uint64_t deaths[64]; /* times of the newest, a ring */
    size_t death_count;
    uint64_t backoff_ms;
    uint64_t stop_deadline_ms;
    int log_fd;
};

struct supervisor {
    const struct ctl *ctl;
    const struct supervise_options *options;
    uv_loop_t loop;
    uv_signal_t term, interrupt, hangup;
    uv_timer_t tick;
    struct arena arena;
    struct postgres postgres;
    struct child children[SERVICES];
    char port[16];
    bool server_up, services_started, ready, stopping;
    uint64_t began_ms;
    int exit_code;
};

static uint64_t now_ms(const struct supervisor *s)
{
    return uv_now(&s->loop);
}

static void say(const struct supervisor *s, const char *fmt, ...) PRINTF(2, 3);
static void say(const struct supervisor *s, const char *fmt, ...)
{
    char line[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (s->options->quiet)
        log_info("%s", line);
    else
        (void)printf("%s\n", line), (void)fflush(stdout);
}

/* ---- children ---- */

static void log_path(const struct supervisor *s, const char *name, char *ret, size_t size)
{
    (void)snprintf(ret, size, "%s/logs/%s.log", s->ctl->state_dir, name);
}

/* Keeps a log within LOG_BYTES: the older half goes to NAME.log.1. */
static void bound_log(const struct supervisor *s, struct child *child)
{
    struct stat st;
    char path[CTL_PATH_BYTES + 64], old[CTL_PATH_BYTES + 72];
    if (child->log_fd < 0 || fstat(child->log_fd, &st) != 0 || st.st_size < LOG_BYTES) return;
    log_path(s, child->row->name, path, sizeof path);
    (void)snprintf(old, sizeof old, "%s.1", path);
    int to = open(old, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), from = open(path, O_RDONLY | O_CLOEXEC);
    char chunk[65536];
    for (ssize_t n = from >= 0 && to >= 0 ? read(from, chunk, sizeof chunk) : 0; n > 0; n = read(from, chunk, sizeof chunk)) {
        if (write(to, chunk, (size_t)n) != n) break;
    }
    if (from >= 0) (void)close(from);
    if (to >= 0) (void)close(to);
    (void)!ftruncate(child->log_fd, 0); /* writers append */
}

static void stop_all(struct supervisor *s, int exit_code);

static void on_handle_closed(uv_handle_t *handle)
{
    struct child *child = handle->data;
    child->handle = false;
}

static size_t deaths_within(const struct child *child, uint64_t now)
{
    size_t n = 0, most = sizeof child->deaths / sizeof *child->deaths;
    for (size_t i = 0; i < most && i < child->death_count; i++) n += now - child->deaths[i] < child->row->window_ms;
    return n;
}

/* The newest error in a service's log, without its time. */
static void last_error(const struct supervisor *s, const struct child *child, char *ret, size_t size)
{
    char path[CTL_PATH_BYTES + 64], line[1024];
    (void)snprintf(ret, size, "it did not say why");
    log_path(s, child->row->name, path, sizeof path);
    FILE *file = fopen(path, "re");
    if (!file) return;
    (void)fseek(file, -(long)(8 * sizeof line), SEEK_END); /* a shorter file is read whole */
    while (fgets(line, sizeof line, file)) {
        const char *error = strstr(line, " error ");
        if (error) (void)snprintf(ret, size, "%.*s", (int)strcspn(error + 7, "\n"), error + 7);
    }
    (void)fclose(file);
}

static void on_child_exit(uv_process_t *process, int64_t status, int signal_number)
{
    struct child *child = process->data;
    struct supervisor *s = child->supervisor;
    uint64_t now = now_ms(s);
    child->runs = false;
    uv_close((uv_handle_t *)process, on_handle_closed);
    if (child == &s->children[POSTGRES]) s->server_up = false;
    if (s->stopping) return;
    if (!signal_number && status == SERVICE_HOPELESS) {
        char why[1024];
        last_error(s, child, why, sizeof why);
        say(s, "%s", why);
        stop_all(s, 1);
        return;
    }
    child->deaths[child->death_count++ % (sizeof child->deaths / sizeof *child->deaths)] = now;
    size_t deaths = deaths_within(child, now);
    /* one that had worked is wanted back at once; the waits are for those that die as they start */
    bool worked = now - child->started_ms >= WORKED_MS;
    child->backoff_ms = worked || deaths <= 1 ? child->row->backoff_ms : child->backoff_ms * 2;
    if (child->backoff_ms > child->row->backoff_most_ms) child->backoff_ms = child->row->backoff_most_ms;
    if (deaths > child->row->max_restarts) {
        say(s, "%s ended %zu times within %llu s: giving up; see `pal logs %s`", child->row->name, deaths,
            (unsigned long long)child->row->window_ms / 1000, child->row->name);
        stop_all(s, 1);
        return;
    }
    if (signal_number)
        say(s, "%s was ended by signal %d; again in %llu ms", child->row->name, signal_number,
            (unsigned long long)child->backoff_ms);
    else
        say(s, "%s ended with %lld; again in %llu ms", child->row->name, (long long)status,
            (unsigned long long)child->backoff_ms);
    child->start_at_ms = now + child->backoff_ms;
}

static err_t argv_of(struct supervisor *s, const struct child *child, char ***ret)
{
    if (child == &s->children[POSTGRES]) return postgres_argv(&s->postgres, &s->arena, ret);
    char **argv = arena_array(&s->arena, char *, 8);
    if (!argv) return ERR_memory;
    size_t n = 0;
    argv[n++] = arena_printf(&s->arena, "%s/pal-%s", s->ctl->bin_dir, child->row->name);
    argv[n++] = arena_text(&s->arena, span_text("--state"));
    argv[n++] = arena_text(&s->arena, span_text(s->ctl->state_dir));
    if (strcmp(child->row->name, "gateway") == 0) {
        argv[n++] = arena_text(&s->arena, span_text("--port"));
        argv[n++] = s->port;
    }
    for (size_t i = 0; i < n; i++) {
        if (!argv[i]) return ERR_memory;
    }
    *ret = argv;
    return ERR_ok;
}

static err_t start_child(struct supervisor *s, struct child *child)
{
    char path[CTL_PATH_BYTES + 64], **argv = NULL;
    TRY(argv_of(s, child, &argv));
    log_path(s, child->row->name, path, sizeof path);
    if (child->log_fd < 0) child->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (child->log_fd < 0) return err_set(ERR_io, "%s: %s", path, strerror(errno));
    uv_stdio_container_t stdio[3] = {{.flags = UV_IGNORE},
                                     {.flags = UV_INHERIT_FD, .data.fd = child->log_fd},
                                     {.flags = UV_INHERIT_FD, .data.fd = child->log_fd}};
    uv_process_options_t options = {
        .file = argv[0], .args = argv, .exit_cb = on_child_exit, .stdio = stdio, .stdio_count = 3};
    options.flags = UV_PROCESS_DETACHED; /* a session of its own: Ctrl-C is for the supervisor, which knows the order */
    if (child == &s->children[POSTGRES]) options.cwd = "/";
    child->start_at_ms = 0;
    child->started_ms = now_ms(s);
    int code = uv_spawn(&s->loop, &child->process, &options);
    child->process.data = child;
    child->handle = true;
    if (code != 0) {
        uv_close((uv_handle_t *)&child->process, on_handle_closed);
        return err_set(ERR_io, "%s cannot be started: %s", argv[0], uv_strerror(code));
    }
    child->runs = true;
    /* beside the others of this stack, whatever its own priority */
    int nice = getpriority(PRIO_PROCESS, 0) + child->row->nice;
    if (child->row->nice && setpriority(PRIO_PROCESS, (id_t)child->process.pid, nice) != 0)
        say(s, "%s keeps the priority of the others: %s", child->row->name, strerror(errno));
    return ERR_ok;
}

static void start_or_stop(struct supervisor *s, struct child *child)
{
    err_t err = start_child(s, child);
    if (err == ERR_ok) return;
    say(s, "%s", err_text());
    stop_all(s, 1);
}

/* ---- stopping ---- */

static void signal_child(const struct child *child, int number)
{
    if (child->runs) (void)uv_kill(child->process.pid, number);
}

/* Asks once, kills past the deadline; true while it runs. */
static bool stop_child(struct supervisor *s, struct child *child, int number)
{
    uint64_t now = now_ms(s);
    if (!child->runs) return false;
    if (child->stop_deadline_ms == 0) {
        child->stop_deadline_ms = now + child->row->stop_ms;
        signal_child(child, number);
    } else if (now >= child->stop_deadline_ms) {
        say(s, "%s does not stop: killed", child->row->name);
        child->stop_deadline_ms = now + 1000;
        signal_child(child, SIGKILL);
    }
    return true;
}

/* The trainer first, while the others can still take its checkpoint in; then the four together, PostgreSQL after them. */
static void stop_next(struct supervisor *s)
{
    bool some = false;
    for (size_t i = 1; i < SERVICES; i++) {
        if (strcmp(rows[i].name, "trainer") == 0 && stop_child(s, &s->children[i], SIGTERM)) return;
    }
    for (size_t i = 1; i < SERVICES; i++) some |= stop_child(s, &s->children[i], SIGTERM);
    if (some || stop_child(s, &s->children[POSTGRES], SIGINT)) return;
    for (size_t i = 0; i < SERVICES; i++) {
        if (s->children[i].handle) return;
    }
    if (uv_is_closing((const uv_handle_t *)&s->tick)) return;
    uv_close((uv_handle_t *)&s->tick, NULL);
    uv_close((uv_handle_t *)&s->term, NULL);
    uv_close((uv_handle_t *)&s->interrupt, NULL);
    uv_close((uv_handle_t *)&s->hangup, NULL);
}

static void stop_all(struct supervisor *s, int exit_code)
{
    if (s->stopping) return;
    s->stopping = true;
    s->exit_code = exit_code;
    for (size_t i = 0; i < SERVICES; i++) s->children[i].start_at_ms = 0;
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct supervisor *s = handle->data;
    if (s->stopping) { /* somebody is impatient: what still runs is killed, but for PostgreSQL */
        for (size_t i = 1; i < SERVICES; i++) s->children[i].stop_deadline_ms = 1;
        return;
    }
    say(s, "%s: stopping; what was computed is kept first", number == SIGINT ? "Ctrl-C" : "asked to end");
    stop_all(s, 0);
}

/* ---- the clock ---- */

static void check_ready(struct supervisor *s)
{
    int port = 0;
    if (s->ready || !s->services_started) return;
    if (!client_ready(s->ctl)) {
        if (now_ms(s) - s->began_ms > START_MS) {
            say(s, "the stack is not ready after %d s; see `pal logs` and `pal doctor`", START_MS / 1000);
            stop_all(s, 1);
        }
        return;
    }
    s->ready = true;
    (void)!client_port(s->ctl, &port);
    (void)snprintf(s->port, sizeof s->port, "%d", port); /* a gateway that is started again keeps its address */
    say(s, "ready after %.1f s: http://127.0.0.1:%d/  (state in %s)", (double)(now_ms(s) - s->began_ms) / 1e3, port,
        s->ctl->state_dir);
    if (s->options->ready_fd >= 0) {
        (void)!write(s->options->ready_fd, "R", 1);
        (void)close(s->options->ready_fd);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct supervisor *s = timer->data;
    if (s->stopping) {
        stop_next(s);
        return;
    }
    struct child *server = &s->children[POSTGRES];
    for (size_t i = 0; i < SERVICES; i++) {
        struct child *child = &s->children[i];
        bool due = child->start_at_ms && now_ms(s) >= child->start_at_ms && !child->runs && !child->handle;
        if (due) start_or_stop(s, child);
        if (s->stopping) return;
    }
    if (!s->server_up && server->runs) s->server_up = postgres_ready(&s->postgres, server->process.pid);
    if (s->server_up && !s->services_started) {
        s->services_started = true;
        for (size_t i = 1; i < SERVICES && !s->stopping; i++) start_or_stop(s, &s->children[i]);
    }
    check_ready(s);
    if (now_ms(s) / TICK_MS % 100 == 0) {
        for (size_t i = 0; i < SERVICES; i++) bound_log(s, &s->children[i]);
    }
}

static err_t prepare(struct supervisor *s)
{
    char path[CTL_PATH_BYTES + 64], run_dir[CTL_PATH_BYTES];
    TRY(rundir_make(s->ctl->state_dir));
    (void)snprintf(path, sizeof path, "%s/logs", s->ctl->state_dir);
    TRY(rundir_make(path));
    TRY(rundir_path(s->ctl->state_dir, run_dir, sizeof run_dir));
    TRY(rundir_make(run_dir));
    (void)snprintf(path, sizeof path, "%s/gateway.port", s->ctl->state_dir);
    (void)unlink(path);
    TRY(postgres_init(&s->postgres, s->ctl->state_dir, run_dir));
    struct stat st;
    if (stat(s->postgres.data, &st) != 0) say(s, "making a private PostgreSQL cluster in %s", s->postgres.data);
    return postgres_create(&s->postgres, true);
}

int supervise(const struct ctl *ctl, const struct supervise_options *options)
{
    struct supervisor s = {.ctl = ctl, .options = options};
    (void)snprintf(s.port, sizeof s.port, "%d", options->port);
    (void)signal(SIGPIPE, SIG_IGN);
    err_t err = prepare(&s);
    if (err != ERR_ok) {
        say(&s, "pal: %s", err_text());
        return 1;
    }
    if (uv_loop_init(&s.loop) != 0) return 1;
    (void)uv_signal_init(&s.loop, &s.term);
    (void)uv_signal_init(&s.loop, &s.interrupt);
    (void)uv_signal_init(&s.loop, &s.hangup);
    (void)uv_timer_init(&s.loop, &s.tick);
    s.term.data = s.interrupt.data = s.hangup.data = s.tick.data = &s;
    (void)uv_signal_start(&s.term, on_signal, SIGTERM);
    (void)uv_signal_start(&s.interrupt, on_signal, SIGINT);
    (void)uv_signal_start(&s.hangup, on_signal, SIGHUP); /* the terminal was closed */
    (void)uv_timer_start(&s.tick, on_tick, 1, TICK_MS);
    s.began_ms = now_ms(&s);
    for (size_t i = 0; i < SERVICES; i++) s.children[i] = (struct child){.row = &rows[i], .supervisor = &s, .log_fd = -1};
    start_or_stop(&s, &s.children[POSTGRES]);
    (void)uv_run(&s.loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&s.loop);
    for (size_t i = 0; i < SERVICES; i++) {
        if (s.children[i].log_fd >= 0) (void)close(s.children[i].log_fd);
    }
    arena_fini(&s.arena);
    say(&s, "stopped");
    return s.exit_code;
}
