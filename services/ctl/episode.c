/* pal episode: a readable transcript. */
#include "services/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>

err_t ctl_newest_job(struct ctl *ctl, int64_t *ret)
{
    json_t *rows = NULL;
    TRY(client_json(ctl, "GET", "/v1/jobs?limit=1", NULL, &rows));
    bool some = json_array_size(rows) == 1;
    *ret = some ? json_integer_value(json_object_get(json_array_get(rows, 0), "id")) : 0;
    json_decref(rows);
    return some ? ERR_ok : err_set(ERR_not_found, "there is no job yet");
}

static err_t last_of(struct ctl *ctl, int64_t job, const char *outcome, const char *version, int64_t *ret)
{
    char path[160];
    json_t *rows = NULL;
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld/episodes?limit=1&outcome=%s%s%s", (long long)job, outcome,
                   version ? "&version=" : "", version ? version : "");
    TRY(client_json(ctl, "GET", path, NULL, &rows));
    bool some = json_array_size(rows) == 1;
    *ret = some ? json_integer_value(json_object_get(json_array_get(rows, 0), "id")) : 0;
    json_decref(rows);
    return some ? ERR_ok : err_set(ERR_not_found, "job %lld has no such episode", (long long)job);
}

static void print_lines(const char *text, const char *before)
{
    for (const char *at = text; *at;) {
        size_t length = strcspn(at, "\n");
        if (length) (void)printf("    %s%.*s\n", before, (int)length, at);
        at += length + (at[length] == '\n');
    }
}

static void print_turns(const json_t *turns)
{
    json_t *turn = NULL;
    size_t index = 0;
    json_array_foreach(turns, index, turn)
    {
        print_lines(ctl_text(turn, "hint"), "hint: ");
        print_lines(ctl_text(turn, "observation"), "");
        if (!*ctl_text(turn, "action")) continue;
        double sum = 0;
        json_t *logps = json_object_get(turn, "logp"), *logp = NULL;
        size_t i = 0;
        json_array_foreach(logps, i, logp)
        {
            sum += json_number_value(logp);
        }
        (void)printf("  > %s", ctl_text(turn, "action"));
        if (json_array_size(logps))
            (void)printf("   (log-prob %.2f, version %.0f)", sum,
                         json_number_value(json_array_get(json_object_get(turn, "version"), 0)));
        (void)printf("\n");
    }
}

int print_episode(struct ctl *ctl, int64_t job, int64_t episode)
{
    char path[96];
    json_t *root = NULL;
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld/episodes/%lld", (long long)job, (long long)episode);
    err_t err = client_json(ctl, "GET", path, NULL, &root);
    if (err != ERR_ok) return ctl_fail(err);
    if (ctl->json) {
        char *text = json_dumps(root, JSON_INDENT(2));
        (void)printf("%s\n", text ? text : "null");
        free(text);
    } else {
        const json_t *group = json_object_get(root, "group"), *task = json_object_get(root, "task");
        (void)printf("episode %lld of job %lld: %s, %s, reward %.0f, %.0f steps, level %.0f\n", (long long)episode,
                     (long long)job, ctl_text(group, "source"),
                     *ctl_text(root, "outcome") ? ctl_text(root, "outcome") : ctl_text(root, "state"),
                     ctl_number(root, "reward"), ctl_number(root, "steps"), ctl_number(task, "level"));
        if (*ctl_text(root, "error")) (void)printf("  error: %s\n", ctl_text(root, "error"));
        print_turns(json_object_get(root, "transcript"));
    }
    json_decref(root);
    return 0;
}

int command_episode(struct ctl *ctl)
{
    const char *last = ctl_option(ctl, "--last"), *job_text = ctl_option(ctl, "--job"),
               *version = ctl_option(ctl, "--version");
    int64_t job = job_text ? strtoll(job_text, NULL, 10) : 0, episode = 0;
    bool outcome = last && (strcmp(last, "success") == 0 || strcmp(last, "failure") == 0);
    if (last && !outcome) {
        (void)fprintf(stderr, "pal: --last must be success or failure\n");
        return 2;
    }
    if (last ? !ctl_no_more(ctl, 0) : !ctl_id(ctl, &episode)) return 2;
    err_t err = job_text ? ERR_ok : ctl_newest_job(ctl, &job);
    if (err == ERR_ok && last) err = last_of(ctl, job, last, version, &episode);
    return err == ERR_ok ? print_episode(ctl, job, episode) : ctl_fail(err);
}
