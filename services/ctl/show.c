/* Commands that ask and print: status, jobs, show, cancel, pause, resume, verify. */
#include "services/common/job/job.h"
#include "services/common/run/rundir.h"
#include "services/common/store/store_read.h"
#include "services/common/store/store_verify.h"
#include "services/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>

const char *ctl_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

double ctl_number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

int print_json(const json_t *value)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    (void)printf("%s\n", text ? text : "null");
    free(text);
    return 0;
}

/* GET path, then print as JSON or by a function. */
static int get_and_print(struct ctl *ctl, const char *path, void (*print)(const json_t *root))
{
    json_t *root = NULL;
    err_t err = client_json(ctl, "GET", path, NULL, &root);
    if (err != ERR_ok) return ctl_fail(err);
    if (ctl->json)
        (void)print_json(root);
    else
        print(root);
    json_decref(root);
    return 0;
}

static void print_status(const json_t *root)
{
    json_t *peer = NULL, *job = json_object_get(root, "job"), *neck = json_object_get(root, "bottleneck");
    size_t index = 0;
    (void)printf("%-9s %-8s %-8s %-10s %s\n", "PROCESS", "STATE", "PID", "VERSION", "IDENTITY");
    json_array_foreach(json_object_get(root, "services"), index, peer)
    {
        (void)printf("%-9s %-8s %-8.0f %-10.0f %s\n", ctl_text(peer, "service"), ctl_text(peer, "state"),
                     ctl_number(peer, "pid"), ctl_number(peer, "version"), ctl_text(peer, "identity"));
    }
    if (json_is_object(job))
        (void)printf(
            "\njob %.0f (%s) %s: update %.0f of %.0f, version %.0f, lineage %.0f\n"
            "  %.0f episodes/s, %.0f tokens/s played, %.0f tokens/s trained, success %.2f, staleness %.1f (max %.0f)\n"
            "  groups open %.0f, closed %.0f; slots leased %.0f, pending %.0f; retried %.0f, void groups %.0f\n",
            ctl_number(job, "id"), ctl_text(job, "name"), ctl_text(job, "state"), ctl_number(job, "update"),
            ctl_number(job, "updates"), ctl_number(job, "version"), ctl_number(job, "lineage"),
            ctl_number(job, "episodes_per_second"), ctl_number(job, "tokens_per_second"),
            ctl_number(job, "trained_tokens_per_second"), ctl_number(job, "success"), ctl_number(job, "staleness_mean"),
            ctl_number(job, "staleness_max"), ctl_number(job, "groups_open"), ctl_number(job, "groups_closed"),
            ctl_number(job, "slots_leased"), ctl_number(job, "slots_pending"), ctl_number(job, "episodes_retried"),
            ctl_number(job, "groups_void"));
    const char *stage = ctl_text(neck, "stage");
    (void)printf("\nbottleneck: %s (%s)\n", *stage ? stage : "none", ctl_text(neck, "evidence"));
}

int command_status(struct ctl *ctl)
{
    return ctl_no_more(ctl, 0) ? get_and_print(ctl, "/v1/status", print_status) : 2;
}

static void print_jobs(const json_t *root)
{
    json_t *job = NULL;
    size_t index = 0;
    (void)printf("%-6s %-20s %-10s %-9s %-9s %s\n", "JOB", "NAME", "STATE", "UPDATE", "VERSION", "REASON");
    json_array_foreach(root, index, job)
    {
        (void)printf("%-6.0f %-20s %-10s %-9.0f %-9.0f %s\n", ctl_number(job, "id"), ctl_text(job, "name"),
                     ctl_text(job, "state"), ctl_number(job, "update"), ctl_number(job, "version"), ctl_text(job, "reason"));
    }
}

int command_jobs(struct ctl *ctl)
{
    return ctl_no_more(ctl, 0) ? get_and_print(ctl, "/v1/jobs", print_jobs) : 2;
}

static void print_job(const json_t *job)
{
    json_t *evaluation = NULL, *episodes = json_object_get(job, "episodes");
    size_t index = 0;
    (void)printf("job %.0f (%s): %s%s%s\n", ctl_number(job, "id"), ctl_text(job, "name"), ctl_text(job, "state"),
                 *ctl_text(job, "reason") ? ", " : "", ctl_text(job, "reason"));
    (void)printf("  update %.0f, version %.0f, lineage %.0f, trained for %.1f s\n", ctl_number(job, "update"),
                 ctl_number(job, "version"), ctl_number(job, "lineage"), ctl_number(job, "train_seconds"));
    (void)printf("  episodes: %.0f done, %.0f open, %.0f void, %.0f tokens\n", ctl_number(episodes, "done"),
                 ctl_number(episodes, "open"), ctl_number(episodes, "void"), ctl_number(episodes, "tokens"));
    if (*ctl_text(job, "checkpoint")) (void)printf("  checkpoint: %s\n", ctl_text(job, "checkpoint"));
    json_array_foreach(json_object_get(job, "evaluations"), index, evaluation)
    {
        double done = ctl_number(evaluation, "done"), successes = ctl_number(evaluation, "successes");
        (void)printf("  version %5.0f solves %3.0f of %3.0f held-out tasks (%.1f %%)\n", ctl_number(evaluation, "version"),
                     successes, done, done > 0 ? 100 * successes / done : 0);
    }
}

int command_show(struct ctl *ctl)
{
    int64_t job = 0;
    char path[64];
    if (!ctl_id(ctl, &job)) return 2;
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld", (long long)job);
    return get_and_print(ctl, path, print_job);
}

/* ---- commands to a job ---- */

static int tell(struct ctl *ctl, const char *what, const char *done)
{
    int64_t job = 0;
    char path[64];
    json_t *root = NULL;
    if (!ctl_id(ctl, &job)) return 2;
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld/%s", (long long)job, what);
    err_t err = client_json(ctl, "POST", path, NULL, &root);
    if (err != ERR_ok) return ctl_fail(err);
    json_decref(root);
    if (!ctl->json) {
        (void)printf("job %lld %s\n", (long long)job, done);
        return 0;
    }
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld", (long long)job);
    return get_and_print(ctl, path, NULL);
}

int command_cancel(struct ctl *ctl)
{
    return tell(ctl, "cancel", "is cancelled");
}

int command_pause(struct ctl *ctl)
{
    return tell(ctl, "pause", "is paused");
}

int command_resume(struct ctl *ctl)
{
    return tell(ctl, "resume", "goes on");
}

/* ---- verify ---- */

static int verify_all(struct store *store, int64_t job, bool json)
{
    int64_t broken = 0;
    json_t *rows = json_array();
    for (size_t i = 0; i < store_verify_count(); i++) {
        const struct store_invariant *invariant = store_verify_at(i);
        struct store_verdict verdict = {0};
        err_t err = store_verify(store, i, job, &verdict);
        if (err != ERR_ok) {
            json_decref(rows);
            return ctl_fail(err);
        }
        broken += verdict.broken;
        (void)json_array_append_new(rows,
                                    json_pack("{s:s, s:s, s:I, s:I}", "name", invariant->name, "doc", invariant->doc,
                                              "checked", (json_int_t)verdict.checked, "broken", (json_int_t)verdict.broken));
        if (!json)
            (void)printf("%-6s %-36s %8lld checked, %lld broken: %s\n", verdict.broken ? "BROKEN" : "ok", invariant->name,
                         (long long)verdict.checked, (long long)verdict.broken, invariant->doc);
    }
    if (json) (void)print_json(rows);
    json_decref(rows);
    return broken ? 1 : 0;
}

err_t ctl_ledger(const struct ctl *ctl, struct store **ret)
{
    char run_dir[CTL_PATH_BYTES], conninfo[CTL_PATH_BYTES * 2];
    TRY(rundir_path(ctl->state_dir, run_dir, sizeof run_dir));
    TRY(store_conninfo(run_dir, "pal_reader", conninfo, sizeof conninfo));
    return store_open(ret, conninfo);
}

int command_verify(struct ctl *ctl)
{
    int64_t job = 0;
    struct store *store = NULL;
    if (!ctl_id(ctl, &job)) return 2;
    err_t err = ctl_ledger(ctl, &store);
    if (err != ERR_ok) return ctl_fail(err);
    AUTO(buf) spec = {0};
    err = store_read_spec(store, job, &spec);
    if (err == ERR_not_found) err = err_set(ERR_not_found, "there is no job %lld", (long long)job);
    int code = err == ERR_ok ? verify_all(store, job, ctl->json) : ctl_fail(err);
    store_close(&store);
    return code;
}
