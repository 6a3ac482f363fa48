/* Following a job: its progress twice a second, until it ends. */
#include "services/ctl/ctl.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS    500
#define SPARKS     32 /* width of the sparkline */
#define LOST_LOOKS 20

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

struct history {
    double success[SPARKS];
    size_t count;
    double last_update;
};

static void remember(struct history *h, double update, double success)
{
    if (update <= h->last_update) return;
    h->last_update = update;
    if (h->count == SPARKS)
        memmove(h->success, h->success + 1, (SPARKS - 1) * sizeof *h->success);
    else
        h->count++;
    h->success[h->count - 1] = success;
}

static void sparkline(const struct history *h, char *ret, size_t size)
{
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    size_t n = 0;
    ret[0] = 0;
    for (size_t i = 0; i < h->count; i++) {
        int level = (int)(h->success[i] * 7.999);
        n += (size_t)snprintf(ret + n, size - n, "%s", bars[level < 0 ? 0 : level > 7 ? 7 : level]);
    }
}

/* Where time goes: "play 61 % | train 35 % | trainer waits 65 %". */
static void shares(const json_t *root, char *ret, size_t size)
{
    double plays = 0, trains = 0, waits = 0;
    json_t *peer = NULL;
    size_t index = 0;
    json_array_foreach(json_object_get(root, "services"), index, peer)
    {
        json_t *rates = json_object_get(peer, "rates");
        if (strcmp(ctl_text(peer, "state"), "alive") != 0) continue;
        if (strcmp(ctl_text(peer, "service"), "rollout") == 0) plays = ctl_number(rates, "engine_ms") / 10;
        if (strcmp(ctl_text(peer, "service"), "trainer") == 0) {
            trains = ctl_number(rates, "busy_ms") / 10;
            waits = ctl_number(rates, "wait_ms") / 10;
        }
    }
    (void)snprintf(ret, size, "plays %.0f %%, trains %.0f %%, waits for data %.0f %%", plays, trains, waits);
}

static void draw(const json_t *root, struct history *h, bool tty)
{
    const json_t *job = json_object_get(root, "job");
    char sparks[SPARKS * 4 + 1], time[128];
    remember(h, ctl_number(job, "update"), ctl_number(job, "success"));
    sparkline(h, sparks, sizeof sparks);
    shares(root, time, sizeof time);
    (void)printf(
        "%supdate %4.0f/%-4.0f  success %.2f %s  %5.0f episodes/s  %6.0f tokens/s  version %.0f  staleness %.1f  %s%s",
        tty ? "\r\033[K" : "", ctl_number(job, "update") < 0 ? 0 : ctl_number(job, "update"), ctl_number(job, "updates"),
        ctl_number(job, "success"), sparks, ctl_number(job, "episodes_per_second"), ctl_number(job, "tokens_per_second"),
        ctl_number(job, "version"), ctl_number(job, "staleness_mean"), time, tty ? "" : "\n");
    (void)fflush(stdout);
}

static void pause_ms(long ms)
{
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
}

static bool has_ended(const char *state)
{
    return strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0 || strcmp(state, "cancelled") == 0;
}

/* Prints events after *after; quietly moves on when the stack does not answer. */
static void print_events(struct ctl *ctl, int64_t job, int64_t *after, bool tty)
{
    char path[96];
    json_t *rows = NULL, *row = NULL;
    size_t index = 0;
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld/events?follow=false&after=%lld", (long long)job, (long long)*after);
    if (client_json(ctl, "GET", path, NULL, &rows) != ERR_ok) return;
    json_array_foreach(rows, index, row)
    {
        *after = json_integer_value(json_object_get(row, "seq"));
        if (strcmp(ctl_text(row, "kind"), "checkpoint") == 0) continue;
        (void)printf("%s%s: %s\n", tty ? "\r\033[K" : "", ctl_text(row, "kind"), ctl_text(row, "message"));
    }
    json_decref(rows);
}

int watch_job(struct ctl *ctl, int64_t job, bool quiet)
{
    struct history history = {.last_update = 0};
    int64_t after = 0;
    char path[64], state[32] = "", reason[512] = "";
    bool tty = isatty(STDOUT_FILENO) == 1;
    const struct sigaction action = {.sa_handler = on_interrupt};
    (void)sigaction(SIGINT, &action, NULL);
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld", (long long)job);
    for (int looks = 0, lost = 0; !interrupted && !has_ended(state); looks++) {
        json_t *root = NULL, *row = NULL;
        err_t err = client_json(ctl, "GET", path, NULL, &row);
        lost = err == ERR_ok ? 0 : lost + 1;
        if (err == ERR_not_found || lost > LOST_LOOKS) return ctl_fail(err);
        if (err == ERR_ok) {
            (void)snprintf(state, sizeof state, "%s", ctl_text(row, "state"));
            (void)snprintf(reason, sizeof reason, "%s", ctl_text(row, "reason"));
        }
        json_decref(row);
        if (!quiet) print_events(ctl, job, &after, tty);
        bool look = !quiet && (tty || looks % 4 == 0) && strcmp(state, "running") == 0;
        if (look && client_json(ctl, "GET", "/v1/status", NULL, &root) == ERR_ok) {
            if ((int64_t)ctl_number(json_object_get(root, "job"), "id") == job) draw(root, &history, tty);
            json_decref(root);
        }
        if (!has_ended(state)) pause_ms(LOOK_MS);
    }
    if (interrupted)
        (void)fprintf(stderr, "\njob %lld goes on; `pal watch %lld` follows it, `pal cancel %lld` ends it\n", (long long)job,
                      (long long)job, (long long)job);
    else if (!quiet)
        (void)printf("%sjob %lld: %s%s%s\n", tty ? "\r\033[K" : "", (long long)job, state, *reason ? ": " : "", reason);
    return strcmp(state, "succeeded") == 0 ? 0 : 1;
}

int command_watch(struct ctl *ctl)
{
    int64_t job = 0;
    return ctl_id(ctl, &job) ? watch_job(ctl, job, false) : 2;
}
