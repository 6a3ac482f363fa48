#include "bench/support/play.h"

#include "bench/support/rig.h"

#include <stdio.h>
#include <string.h>

#define POLL_MS 500
#define WINDOW  10 /* updates */

void play_write(const char *path, const char *text)
{
    char name[600];
    (void)snprintf(name, sizeof name, "%s.new", path);
    FILE *file = fopen(name, "we");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0 || rename(name, path) != 0) rig_die(path, "cannot be written");
}

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

/* Means over the updates, of those that were told at all. */
static json_t *means(const struct rig *rig)
{
    static const char *const names[] = {"episodes",  "passes",         "orm_balanced_accuracy",
                                        "orm_auroc", "inversion_rate", "kl_first_pass"};
    json_t *all = json_object();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *values = metric(rig, names[i]), *value = NULL;
        const char *key = NULL;
        double sum = 0, count = 0;
        json_object_foreach(values, key, value)
        {
            if (strcmp(key, "0") == 0) continue; /* the warm start */
            sum += json_number_value(value);
            count += json_is_number(value);
        }
        if (count > 0) (void)json_object_set_new(all, names[i], json_real(sum / count));
        json_decref(values);
    }
    return all;
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
    return json_pack("{s:o, s:o, s:f, s:f, s:f}", "points", points, "means", means(rig), "hint_rate", hint_rate,
                     "hinted_before", before, "hinted_after", after);
}

json_t *play_job(const char *job, const char *what, const char *first)
{
    struct rig rig;
    char path[512], reason[256];
    double begin = rig_now(), told = begin;
    rig_open(&rig);
    (void)rig_start(&rig);
    (void)snprintf(path, sizeof path, "%s/job.json", rig.state);
    play_write(path, job);
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
    if (first) {
        (void)snprintf(path, sizeof path, "export 1 '%s' --version 0", first);
        if (!rig_pal(&rig, path, NULL, 0)) rig_die("pal export", what);
    }
    rig_close(&rig);
    return result;
}
