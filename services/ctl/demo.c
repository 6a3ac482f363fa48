/* pal demo: a stack of its own, the demo job, what was learned, and how to look further. */
#include "services/common/job/job.h"
#include "services/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* examples/adventure.json of the source tree this was built from, else beside the programs. */
static err_t read_example(const struct ctl *ctl, struct buf *out)
{
    char path[CTL_PATH_BYTES + 64], chunk[4096];
    const char *const places[] = {PAL_EXAMPLES_DIR, ctl->bin_dir};
    FILE *file = NULL;
    for (size_t i = 0; i < 2 && !file; i++) {
        (void)snprintf(path, sizeof path, "%s/adventure.json", places[i]);
        file = fopen(path, "re");
    }
    if (!file) return err_set(ERR_not_found, "adventure.json is neither in %s nor in %s", places[0], places[1]);
    err_t err = ERR_ok;
    for (size_t n = fread(chunk, 1, sizeof chunk, file); n > 0 && err == ERR_ok; n = fread(chunk, 1, sizeof chunk, file))
        err = buf_append(out, chunk, n);
    (void)fclose(file);
    return err;
}

static err_t submit(const struct ctl *ctl, const char *seed, int64_t *ret_job)
{
    AUTO(buf) text = {0};
    AUTO(buf) seeded = {0};
    char assignment[64];
    json_t *root = NULL;
    (void)snprintf(assignment, sizeof assignment, "seed=%s", seed);
    TRY(read_example(ctl, &text));
    TRY(job_override(buf_span(&text), assignment, &seeded));
    TRY(client_json(ctl, "POST", "/v1/jobs", buf_chars(&seeded), &root));
    *ret_job = json_integer_value(json_object_get(root, "id"));
    json_decref(root);
    return ERR_ok;
}

static double rate(const json_t *evaluation)
{
    double done = ctl_number(evaluation, "done");
    return done > 0 ? ctl_number(evaluation, "successes") / done : 0;
}

static void print_row(const char *what, const json_t *evaluation)
{
    const char *level = NULL;
    json_t *row = NULL;
    (void)printf("  %-22s %5.1f %%  (%.0f of %.0f)", what, 100 * rate(evaluation), ctl_number(evaluation, "successes"),
                 ctl_number(evaluation, "done"));
    json_object_foreach(json_object_get(evaluation, "by_level"), level, row)
    {
        double done = ctl_number(row, "done");
        (void)printf("   level %s: %5.1f %%", level, done > 0 ? 100 * ctl_number(row, "successes") / done : 0);
    }
    (void)printf("\n");
}

/* An evaluation episode of a version with this outcome; 0 when there is none. */
static int64_t episode_of(const struct ctl *ctl, int64_t job, const char *outcome, double version)
{
    char path[160];
    json_t *rows = NULL;
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld/episodes?limit=1&source=evaluation&outcome=%s&version=%.0f",
                   (long long)job, outcome, version);
    if (client_json(ctl, "GET", path, NULL, &rows) != ERR_ok) return 0;
    int64_t id = json_integer_value(json_object_get(json_array_get(rows, 0), "id"));
    json_decref(rows);
    return id;
}

static void print_learned(struct ctl *ctl, int64_t job, const json_t *first, const json_t *last)
{
    (void)printf("\nHeld-out tasks solved (sampled, temperature 1, never trained on):\n");
    print_row("after the warm start", first);
    print_row("at the end", last);
    int64_t before = episode_of(ctl, job, "failure", ctl_number(first, "version"));
    int64_t after = episode_of(ctl, job, "success", ctl_number(last, "version"));
    (void)printf("\nBefore:\n");
    if (before) (void)print_episode(ctl, job, before);
    (void)printf("\nAfter:\n");
    if (after) (void)print_episode(ctl, job, after);
}

static json_t *summary(const struct ctl *ctl, const json_t *job, const char *seed, const json_t *first, const json_t *last)
{
    const json_t *episodes = json_object_get(job, "episodes");
    return json_pack("{s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s}", "success_before", rate(first),
                     "success_after", rate(last), "train_seconds", ctl_number(job, "train_seconds"), "episodes",
                     (json_int_t)ctl_number(episodes, "done"), "tokens", (json_int_t)ctl_number(episodes, "tokens"),
                     "updates", (json_int_t)ctl_number(job, "update"), "seed", (json_int_t)strtoll(seed, NULL, 10), "version",
                     (json_int_t)ctl_number(job, "version"), "job", (json_int_t)ctl_number(job, "id"), "state",
                     ctl_text(job, "state"), "checkpoint", ctl_text(job, "checkpoint"), "state_dir", ctl->state_dir);
}

static err_t report(struct ctl *ctl, int64_t id, const char *seed, bool json)
{
    char path[64];
    json_t *job = NULL;
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld", (long long)id);
    TRY(client_json(ctl, "GET", path, NULL, &job));
    json_t *evaluations = json_object_get(job, "evaluations");
    size_t count = json_array_size(evaluations);
    const json_t *first = json_array_get(evaluations, 0), *last = json_array_get(evaluations, count ? count - 1 : 0);
    print_learned(ctl, id, first, last);
    int port = 0;
    (void)!client_port(ctl, &port);
    (void)printf(
        "\nTrained for %.1f s: %.0f updates, %.0f episodes, %.0f tokens.\nCheckpoint: %s\nREST: http://127.0.0.1:%d/\n",
        ctl_number(job, "train_seconds"), ctl_number(job, "update"), ctl_number(json_object_get(job, "episodes"), "done"),
        ctl_number(json_object_get(job, "episodes"), "tokens"), ctl_text(job, "checkpoint"), port);
    (void)printf("Look further (with the stack up: --keep, or `pal up` on the same --state):\n"
                 "  ./run pal --state %s show %lld\n  ./run pal --state %s episode --last failure\n  ./run pal --state %s "
                 "verify %lld\n",
                 ctl->state_dir, (long long)id, ctl->state_dir, ctl->state_dir, (long long)id);
    json_t *line = json ? summary(ctl, job, seed, first, last) : NULL;
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
    json_decref(line);
    json_decref(job);
    if (text) (void)printf("%s\n", text);
    free(text);
    return json && !text ? err_set(ERR_memory, "the summary") : ERR_ok;
}

static int run(struct ctl *ctl, const char *seed, bool json)
{
    int64_t job = 0;
    int port = 0;
    err_t err = client_port(ctl, &port);
    if (err == ERR_ok) err = submit(ctl, seed, &job);
    if (err != ERR_ok) return ctl_fail(err);
    (void)printf("stack up: http://127.0.0.1:%d/ (state in %s); job %lld submitted\n", port, ctl->state_dir, (long long)job);
    int code = watch_job(ctl, job, false);
    if (code == 0) {
        err = report(ctl, job, seed, json);
        code = err == ERR_ok ? 0 : ctl_fail(err);
    }
    return code;
}

int command_demo(struct ctl *ctl)
{
    bool keep = ctl_flag(ctl, "--keep"), json = ctl->json;
    const char *seed = ctl_option(ctl, "--seed");
    char *end = NULL;
    ctl->json = false; /* transcripts stay readable; the summary is the last line */
    if (seed && (strtoll(seed, &end, 10) < 0 || *end || end == seed)) {
        (void)fprintf(stderr, "pal: --seed must be an integer from 0\n");
        return 2;
    }
    if (!ctl_no_more(ctl, 0)) return 2;
    (void)printf("starting a stack in %s\n", ctl->state_dir);
    (void)fflush(stdout);
    err_t err = stack_start(ctl, 0);
    if (err != ERR_ok) return ctl_fail(err);
    int code = run(ctl, seed ? seed : "1", json);
    (void)fflush(stdout);
    if (keep) {
        (void)fprintf(stderr, "the stack stays up: `./run pal --state %s down` stops it\n", ctl->state_dir);
        return code;
    }
    err = stack_stop(ctl);
    return err == ERR_ok ? code : ctl_fail(err);
}
