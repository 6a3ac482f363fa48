/* Environments that are programs: one child per seat, spoken to in JSON lines (env/process_codec.h).
 *
 * A child that keeps to the protocol outlives its episode: it waits warm for the next seat, so a program starts once per
 * slot and not once per episode. One that breaks the protocol, or is left in the middle of a call, is killed. */
#include "env/process_codec.h"
#include "services/env/child.h"
#include "services/env/provider.h"

#include <stdio.h>
#include <stdlib.h>

#define UNASKED        "the environment wrote a line that nobody asked for"
#define CLOSE_GRACE_MS 500
#define COMMAND_WORDS  64
#define REQUEST_BYTES  65536
#define ARENA_BYTES    (4u * PROCESS_LINE_BYTES)

/* A child and who sits in it. */
struct worker {
    struct provider *provider;
    struct child *child;
    struct seat *seat;          /* NULL: warm and free, or written off */
    struct worker *prev, *next; /* all of the provider */
    bool served;                /* has answered a request: it is no longer fresh */
    bool doomed;                /* killed: not to be used again */
};

struct provider {
    uv_loop_t *loop;
    char *name;
    char *command[COMMAND_WORDS + 1];
    struct provider_counters *counters;
    struct worker *workers;
    struct arena arena; /* of the reply being read */
    bool closing;
    uv_timer_t grace;
};

struct seat {
    struct provider *provider;
    struct worker *worker; /* NULL: lost */
    provider_done_t done;
    void *ctx;
    bool busy;          /* a call is in flight */
    bool resetting;     /* and it is a reset */
    struct buf request; /* the line in flight, to say it again to a new child */
    enum outcome lost;  /* why there is no worker */
    char why[CHILD_WHY_BYTES];
};

/* ---- the end of things ---- */

static void on_grace_closed(uv_handle_t *handle)
{
    struct provider *provider = handle->data;
    for (size_t i = 0; provider->command[i]; i++) free(provider->command[i]);
    arena_fini(&provider->arena);
    free(provider->name);
    free(provider);
}

static void close_if_done(struct provider *provider)
{
    if (!provider->closing || provider->workers || uv_is_closing((uv_handle_t *)&provider->grace)) return;
    uv_close((uv_handle_t *)&provider->grace, on_grace_closed);
}

static void worker_unlink(struct worker *worker)
{
    struct provider *provider = worker->provider;
    if (worker->prev) worker->prev->next = worker->next;
    if (worker->next) worker->next->prev = worker->prev;
    if (provider->workers == worker) provider->workers = worker->next;
    provider->counters->children--;
}

/* Takes the worker from its seat and kills it; the seat's next call, or the one in flight, is told why. */
static void worker_doom(struct worker *worker)
{
    if (!worker->doomed) worker->provider->counters->killed++;
    worker->doomed = true;
    if (worker->seat) worker->seat->worker = NULL;
    worker->seat = NULL;
    child_kill(worker->child);
}

/* ---- answers ---- */

static void fail(struct seat *seat, enum outcome outcome, const char *detail)
{
    seat->busy = false;
    struct provider_answer answer = {.outcome = outcome, .detail = span_text(detail)};
    seat->done(seat->ctx, &answer); /* the seat may be gone now */
}

static void lose(struct seat *seat, enum outcome outcome, const char *why)
{
    seat->lost = outcome;
    (void)snprintf(seat->why, sizeof seat->why, "%s", why);
    if (seat->busy) fail(seat, outcome, seat->why);
}

static void on_line(void *ctx, struct span line, bool more)
{
    struct worker *worker = ctx;
    struct seat *seat = worker->seat;
    struct provider *provider = worker->provider;
    if (worker->doomed) return;
    if (!seat || !seat->busy || more) { /* which of its lines answers what cannot be told any more */
        worker_doom(worker);
        if (seat) lose(seat, OUTCOME_env_error, UNASKED);
        return;
    }
    struct process_reply reply;
    arena_clear(&provider->arena);
    if (process_read_reply(line, &provider->arena, &reply) != ERR_ok) {
        worker_doom(worker);
        lose(seat, OUTCOME_env_error, err_text());
        return;
    }
    worker->served = true;
    seat->busy = false;
    struct provider_answer answer = {
        .outcome = reply.error.size ? OUTCOME_env_error : OUTCOME_ok,
        .text = reply.text,
        .reward = reply.reward,
        .terminated = reply.terminated,
        .expert = reply.expert,
        .hint = reply.hint,
        .detail = reply.error,
    };
    seat->done(seat->ctx, &answer);
}

static err_t start(struct seat *seat);

static void on_gone(void *ctx, const char *why)
{
    struct worker *worker = ctx;
    struct provider *provider = worker->provider;
    struct seat *seat = worker->seat;
    bool again = seat && seat->busy && seat->resetting && worker->served;
    worker_unlink(worker);
    free(worker);
    if (seat) {
        seat->worker = NULL;
        /* a program that plays one episode and ends is asked again in a new life, once */
        if (!again || start(seat) != ERR_ok || child_write(seat->worker->child, buf_span(&seat->request)) != ERR_ok)
            lose(seat, OUTCOME_env_crash, why);
    }
    close_if_done(provider);
}

/* ---- seats ---- */

/* Gives the seat a new child. */
static err_t start(struct seat *seat)
{
    struct provider *provider = seat->provider;
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker) return err_set(ERR_memory, "a child process");
    *worker = (struct worker){.provider = provider, .seat = seat, .next = provider->workers};
    struct child_events events = {worker, on_line, on_gone, &provider->counters->stderr_dropped};
    err_t err = child_start(provider->loop, provider->name, provider->command, PROCESS_LINE_BYTES, events, &worker->child);
    if (err != ERR_ok) {
        free(worker);
        return err;
    }
    if (provider->workers) provider->workers->prev = worker;
    provider->workers = worker;
    provider->counters->children++;
    provider->counters->started++;
    seat->worker = worker;
    return ERR_ok;
}

static err_t process_enter(struct provider *provider, provider_done_t done, void *ctx, struct seat **ret, bool *ret_fresh)
{
    BUG_IF(provider->closing);
    struct seat *seat = calloc(1, sizeof *seat);
    if (!seat) return err_set(ERR_memory, "a seat");
    *seat = (struct seat){.provider = provider, .done = done, .ctx = ctx};
    buf_init(&seat->request, REQUEST_BYTES);
    for (struct worker *worker = provider->workers; worker && !seat->worker; worker = worker->next) {
        if (worker->seat || worker->doomed) continue;
        worker->seat = seat;
        seat->worker = worker;
    }
    *ret_fresh = !seat->worker;
    if (!seat->worker) {
        err_t err = start(seat);
        if (err != ERR_ok) {
            free(seat);
            return err;
        }
    }
    *ret = seat;
    return ERR_ok;
}

static void call(struct seat *seat, err_t err)
{
    BUG_IF(seat->busy);
    if (!seat->worker) {
        fail(seat, seat->lost, seat->why);
        return;
    }
    if (child_unread(seat->worker->child)) { /* it would be taken for the answer */
        worker_doom(seat->worker);
        lose(seat, OUTCOME_env_error, UNASKED);
        fail(seat, seat->lost, seat->why);
        return;
    }
    if (err == ERR_ok) err = child_write(seat->worker->child, buf_span(&seat->request));
    if (err != ERR_ok)
        fail(seat, OUTCOME_env_error, err_text());
    else
        seat->busy = true;
}

static void process_reset(struct seat *seat, const struct provider_reset *reset)
{
    struct process_reset line = {.task_text = reset->task_text,
                                 .seed = reset->episode_seed,
                                 .expert = reset->expert,
                                 .hint = reset->hint,
                                 .noise = reset->noise,
                                 .noise_seed = reset->noise_seed};
    seat->resetting = true;
    buf_clear(&seat->request);
    call(seat, process_write_reset(&line, &seat->request));
}

static void process_step(struct seat *seat, struct span action)
{
    seat->resetting = false;
    buf_clear(&seat->request);
    call(seat, process_write_step(action, &seat->request));
}

static void process_leave(struct seat **seat)
{
    struct seat *s = *seat;
    *seat = NULL;
    if (!s) return;
    if (s->worker && s->busy) worker_doom(s->worker);
    if (s->worker) s->worker->seat = NULL;
    buf_fini(&s->request);
    free(s);
}

/* ---- the provider ---- */

static err_t process_open(const struct provider_setup *setup, struct provider **ret)
{
    if (!setup->command || !setup->command[0]) return err_set(ERR_invalid, "command: a process environment needs one");
    struct provider *provider = calloc(1, sizeof *provider);
    if (!provider) return err_set(ERR_memory, "a provider");
    provider->loop = setup->loop;
    provider->counters = setup->counters;
    arena_init(&provider->arena, ARENA_BYTES);
    (void)uv_timer_init(setup->loop, &provider->grace);
    provider->grace.data = provider;
    provider->name = strdup(setup->name);
    bool whole = provider->name != NULL;
    for (size_t i = 0; whole && i < COMMAND_WORDS && setup->command[i]; i++) {
        provider->command[i] = strdup(setup->command[i]);
        whole = provider->command[i] != NULL;
    }
    if (!whole) {
        provider->closing = true;
        close_if_done(provider);
        return err_set(ERR_memory, "a provider");
    }
    *ret = provider;
    return ERR_ok;
}

static void on_grace(uv_timer_t *timer)
{
    struct provider *provider = timer->data;
    for (struct worker *worker = provider->workers; worker; worker = worker->next) worker_doom(worker);
}

static void process_close(struct provider **provider)
{
    struct provider *p = *provider;
    *provider = NULL;
    if (!p) return;
    AUTO(buf) line = {0};
    buf_init(&line, 0);
    err_t err = process_write_close(&line);
    p->closing = true;
    for (struct worker *worker = p->workers; worker; worker = worker->next) {
        BUG_IF(worker->seat);
        if (worker->doomed) continue;
        if (err != ERR_ok || child_write(worker->child, buf_span(&line)) != ERR_ok) worker_doom(worker);
        child_end_input(worker->child);
    }
    (void)uv_timer_start(&p->grace, on_grace, CLOSE_GRACE_MS, 0);
    close_if_done(p);
}

const struct provider_class provider_process = {
    .name = "process",
    .open = process_open,
    .close = process_close,
    .enter = process_enter,
    .reset = process_reset,
    .step = process_step,
    .leave = process_leave,
};
