#include "bench/support/methods.h"

#include "env/env.h"
#include "services/common/base/digest.h"
#include "services/common/job/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define POLL_MS        500
#define DEMONSTRATIONS 64
#define DEMONSTRATED   "@demonstrations" /* in an assignment: a file of the expert's actions on the first training tasks */
#define STEPS_MOST     64
#define WINDOW         10 /* updates */

void methods_folder(void)
{
    (void)mkdir(PAL_RESULTS_DIR, 0777);
    if (access(PAL_RESULTS_DIR, W_OK) != 0) rig_die(PAL_RESULTS_DIR, "cannot be written");
}

static void read_file(const char *path, struct buf *out)
{
    FILE *file = fopen(path, "re");
    char chunk[4096];
    if (!file) rig_die(path, "cannot be opened");
    for (size_t n = fread(chunk, 1, sizeof chunk, file); n > 0; n = fread(chunk, 1, sizeof chunk, file)) {
        if (buf_append(out, chunk, n) != ERR_ok) rig_die(path, err_text());
    }
    (void)fclose(file);
}

static void write_file(const char *path, const char *text)
{
    char name[600];
    (void)snprintf(name, sizeof name, "%s.new", path);
    FILE *file = fopen(name, "we");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0 || rename(name, path) != 0) rig_die(path, "cannot be written");
}

/* ---- the job ---- */

static void assign(struct buf *job, const char *assignment)
{
    AUTO(buf) next = {0};
    if (job_override(buf_span(job), assignment, &next) != ERR_ok) rig_die(assignment, err_text());
    buf_clear(job);
    if (buf_append(job, next.data, next.size) != ERR_ok) rig_die(assignment, err_text());
}

/* The expert's actions on the first training tasks of the first environment, as `pal pool import` reads them. */
static void demonstrate(const struct job_spec *spec, const char *path)
{
    const struct job_environment *env = &spec->environments[0];
    const struct job_generate *generate = &env->tasks.generate;
    const struct env_class *class = env_find(env->name);
    void *state = class ? aligned_alloc(64, (class->state_bytes + 63) / 64 * 64) : NULL;
    FILE *file = fopen(path, "we");
    if (!state || !file) rig_die(path, "demonstrations cannot be made");
    for (size_t i = 0; i < DEMONSTRATIONS; i++) {
        struct env_task task;
        struct env_obs obs;
        struct rng rng;
        char action[ENV_ACTION_BYTES];
        json_t *actions = json_array();
        rng_init(&rng, i, 0);
        memset(state, 0, class->state_bytes);
        if (class->generate((int32_t)generate->levels[i % generate->level_count], (uint64_t)generate->seed + i,
                            env->variant[0] ? env->variant : NULL, &task) != ERR_ok ||
            class->reset(state, span_text(task.text), 0, &obs) != ERR_ok)
            rig_die("a demonstration", err_text());
        for (size_t step = 0; step < STEPS_MOST && !obs.terminated; step++) {
            class->expert(state, 0, &rng, action);
            (void)json_array_append_new(actions, json_string(action));
            if (class->step(state, span_text(action), &obs) != ERR_ok) rig_die("a demonstration", err_text());
        }
        json_t *line = json_pack("{s:o, s:o}", "task", json_loads(task.text, 0, NULL), "actions", actions);
        (void)json_dumpf(line, file, JSON_COMPACT);
        (void)fputc('\n', file);
        json_decref(line);
    }
    free(state);
    if (fclose(file) != 0) rig_die(path, "cannot be written");
}

static void parse(const struct buf *text, struct arena *arena, struct job_spec *ret)
{
    struct job_problems problems;
    if (job_parse(buf_span(text), arena, ret, &problems) != ERR_ok) rig_die("the arm's job", err_text());
}

/* The arm's job: file, assignments, seed, budget. */
static void make_job(const struct experiment *e, const char *sets, int64_t seed, double tokens, struct buf *out)
{
    char path[512], line[1024];
    (void)snprintf(path, sizeof path, "%s/methods/%s", PAL_BENCH_DIR, e->file);
    read_file(path, out);
    (void)snprintf(line, sizeof line, "seed=%lld", (long long)seed);
    assign(out, line);
    (void)snprintf(line, sizeof line, "stop.tokens=%.0f", tokens);
    assign(out, line);
    for (const char *at = sets; *at;) {
        size_t length = strcspn(at, "\n");
        const char *mark = strstr(at, DEMONSTRATED);
        if (mark && mark < at + length) {
            AUTO(arena) arena = {0};
            static struct job_spec spec;
            parse(out, &arena, &spec);
            (void)snprintf(path, sizeof path, "%s/%s.demonstrations.jsonl", PAL_RESULTS_DIR, e->file);
            demonstrate(&spec, path);
            (void)snprintf(line, sizeof line, "%.*s%s%.*s", (int)(mark - at), at, path,
                           (int)(at + length - (mark + strlen(DEMONSTRATED))), mark + strlen(DEMONSTRATED));
        } else {
            (void)snprintf(line, sizeof line, "%.*s", (int)length, at);
        }
        assign(out, line);
        at += length + (at[length] == '\n');
    }
}

/* ---- the run ---- */

static bool has_ended(const struct rig *rig, char *ret_reason, size_t size)
{
    json_t *job = rig_get(rig, "/v1/jobs/1", NULL);
    const char *state = json_string_value(json_object_get(job, "state"));
    const char *reason = json_string_value(json_object_get(job, "reason"));
    bool over = state && (strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0);
    if (over && strcmp(state, "failed") == 0) rig_die("the job failed", reason ? reason : "?");
    (void)snprintf(ret_reason, size, "%s", reason ? reason : "");
    json_decref(job);
    return over;
}

/* All pages of a metric, as update -> value of the newest lineage. */
static json_t *metric(const struct rig *rig, const char *name)
{
    json_t *all = json_object();
    for (double from = 0;;) {
        char path[160], key[32];
        (void)snprintf(path, sizeof path, "/v1/jobs/1/metrics?names=%s&from=%.0f&limit=1000", name, from);
        json_t *page = rig_get(rig, path, NULL), *row = NULL;
        const json_t *rows = json_is_array(page) ? page : json_object_get(page, "metrics");
        size_t i = 0, count = json_array_size(rows);
        double last = from;
        json_array_foreach(rows, i, row)
        {
            last = rig_number(row, "update");
            (void)snprintf(key, sizeof key, "%.0f", last);
            (void)json_object_set(all, key, json_object_get(json_object_get(row, "values"), name));
        }
        json_decref(page);
        if (count < 1000) return all;
        from = last;
    }
}

/* Mean of a metric over its first or last WINDOW updates; -1 without any. */
static double mean_of(json_t *values, bool last)
{
    double sum = 0;
    size_t count = json_object_size(values), from = last && count > WINDOW ? count - WINDOW : 0, i = 0, n = 0;
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(values, key, value)
    {
        if (i++ < from || n == WINDOW) continue;
        sum += json_number_value(value);
        n++;
    }
    return n ? sum / (double)n : -1;
}

/* Evaluations and the tokens that were spent when their version was made. */
static json_t *collect(const struct rig *rig)
{
    json_t *tokens = metric(rig, "tokens_spent"), *hinted = metric(rig, "hint_rate"), *solved = metric(rig, "hinted_success");
    json_t *answer = rig_get(rig, "/v1/jobs/1/evaluations", NULL), *row = NULL, *points = json_array();
    json_t *rows = json_is_array(answer) ? answer : json_object_get(answer, "evaluations");
    size_t i = 0;
    json_array_foreach(rows, i, row)
    {
        char key[32];
        (void)snprintf(key, sizeof key, "%.0f", rig_number(row, "version"));
        (void)json_array_append_new(points, json_pack("{s:f, s:f, s:f, s:O}", "version", rig_number(row, "version"), "tokens",
                                                      rig_number(tokens, key), "success",
                                                      rig_number(row, "successes") / rig_number(row, "done"), "levels",
                                                      json_object_get(row, "by_level")));
    }
    double hint_rate = 0, updates = (double)json_object_size(hinted);
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(hinted, key, value) hint_rate += json_number_value(value) / updates;
    json_decref(answer);
    json_decref(tokens);
    json_decref(hinted);
    double before = mean_of(solved, false), after = mean_of(solved, true);
    json_decref(solved);
    return json_pack("{s:o, s:f, s:f, s:f}", "points", points, "hint_rate", hint_rate, "hinted_before", before,
                     "hinted_after", after);
}

static json_t *play(const char *job, const char *what)
{
    struct rig rig;
    char path[512], reason[256];
    double begin = rig_now(), told = begin;
    rig_open(&rig);
    (void)rig_start(&rig);
    (void)snprintf(path, sizeof path, "%s/job.json", rig.state);
    write_file(path, job);
    (void)snprintf(path, sizeof path, "submit '%s/job.json'", rig.state);
    if (!rig_pal(&rig, path, NULL, 0)) rig_die("pal submit", what);
    while (!has_ended(&rig, reason, sizeof reason)) {
        rig_pause(POLL_MS);
        if (rig_now() < told + 10) continue;
        told = rig_now();
        json_t *status = rig_ask(&rig, "/v1/status", NULL), *state = json_object_get(status, "job");
        (void)fprintf(stderr, "  %s: %.0f s, update %.0f, success %.2f\n", what, told - begin, rig_number(state, "update"),
                      rig_number(state, "evaluated_success"));
        json_decref(status);
    }
    json_t *result = collect(&rig);
    (void)json_object_set_new(result, "seconds", json_real(rig_now() - begin));
    (void)json_object_set_new(result, "reason", json_string(reason));
    if (!rig_pal(&rig, "verify 1", NULL, 0)) rig_die(what, "pal verify found a broken invariant");
    rig_close(&rig);
    return result;
}

/* ---- results ---- */

static int by_version(const void *a, const void *b)
{
    double x = rig_number(*(json_t *const *)a, "version"), y = rig_number(*(json_t *const *)b, "version");
    return (x > y) - (x < y);
}

static void read_result(const json_t *file, struct result *ret)
{
    const json_t *points = json_object_get(file, "points");
    const json_t *rows[CURVE_POINTS];
    size_t count = json_array_size(points) < CURVE_POINTS ? json_array_size(points) : CURVE_POINTS;
    for (size_t i = 0; i < count; i++) rows[i] = json_array_get(points, i);
    qsort(rows, count, sizeof *rows, by_version);
    for (size_t i = 0; i < count; i++) {
        double tokens = rig_number(rows[i], "tokens");
        if (i > 0 && tokens < ret->curve.tokens[i - 1]) tokens = ret->curve.tokens[i - 1];
        ret->curve.tokens[i] = tokens;
        ret->curve.success[i] = rig_number(rows[i], "success");
    }
    ret->curve.count = count;
    ret->seconds = rig_number(file, "seconds");
    ret->hinted = rig_number(file, "hint_rate");
    ret->hinted_before = rig_number(file, "hinted_before");
    ret->hinted_after = rig_number(file, "hinted_after");
    ret->levels = json_object();
    const char *level = NULL;
    json_t *value = NULL;
    json_object_foreach(count ? json_object_get(rows[count - 1], "levels") : NULL, level, value)(void)
        json_object_set_new(ret->levels, level, json_real(rig_number(value, "successes") / rig_number(value, "done")));
}

void methods_run(const struct experiment *e, const char *label, const char *sets, int64_t seed, double tokens,
                 struct result *ret)
{
    AUTO(buf) job = {0};
    AUTO(buf) resolved = {0};
    AUTO(arena) arena = {0};
    static struct job_spec spec;
    struct digest digest;
    char path[512], what[160];
    make_job(e, sets, seed, tokens, &job);
    parse(&job, &arena, &spec);
    if (job_dump(&spec, false, &resolved) != ERR_ok || digest_bytes(buf_span(&resolved), &digest) != ERR_ok)
        rig_die(label, err_text());
    (void)snprintf(path, sizeof path, "%s/%.16s-%lld.json", PAL_RESULTS_DIR, digest.hex, (long long)seed);
    (void)snprintf(what, sizeof what, "%s, %s, seed %lld", e->name, label, (long long)seed);
    json_t *file = json_load_file(path, 0, NULL);
    if (!file) {
        file = play(buf_chars(&job), what);
        (void)json_object_set_new(file, "arm", json_string(what));
        char *text = json_dumps(file, JSON_INDENT(1));
        if (!text) rig_die(path, "no memory");
        write_file(path, text);
        free(text);
    }
    *ret = (struct result){.seed = seed};
    read_result(file, ret);
    (void)fprintf(stderr, "%s: %.2f -> %.2f in %.0f s\n", what, ret->curve.count ? ret->curve.success[0] : 0,
                  ret->curve.count ? ret->curve.success[ret->curve.count - 1] : 0, ret->seconds);
    json_decref(file);
}
