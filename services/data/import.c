/* Demonstrations for the experience pool: given actions are played in the real environment, and what succeeds enters the pool
 * (docs/methods.md). */
#include "services/common/job/import.h"

#include "env/env.h"
#include "services/common/run/log.h"
#include "services/common/store/store_episode.h"
#include "services/common/store/store_job.h"
#include "services/common/store/store_task.h"
#include "services/data/data.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define PROBLEMS   64
#define LINE_BYTES (IMPORT_SCRIPT_BYTES + 2 * IMPORT_TASK_BYTES)

/* An import under way: of each item its task, or why it is refused. */
struct import {
    struct data *data;
    const struct import_item *items;
    size_t count;
    int64_t *task;
    struct wire_import_problem problems[PROBLEMS];
    size_t problem_count, planned, known;
};

static void refuse(struct import *import, size_t item, const char *fmt, ...) PRINTF(3, 4);
static void refuse(struct import *import, size_t item, const char *fmt, ...)
{
    char detail[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(detail, sizeof detail, fmt, args);
    va_end(args);
    if (import->problem_count == PROBLEMS) return;
    const char *kept = arena_text(&import->data->arena, span_text(detail));
    import->problems[import->problem_count++] = (struct wire_import_problem){item, span_text(kept ? kept : "refused")};
}

/* ---- which task ---- */

/* The environments and hashes that an item's body may be found under. */
static size_t candidates(const struct import *import, size_t i, int64_t *environments, const char **hashes)
{
    const struct job_spec *spec = &import->data->plan->spec;
    const struct import_item *item = &import->items[i];
    size_t n = 0;
    for (size_t e = 0; e < spec->environment_count; e++) {
        struct digest hash;
        char hint[ENV_HINT_BYTES];
        if (item->environment >= 0 && (size_t)item->environment != e) continue;
        if (hints_look(&spec->environments[e], item->body, &hash, hint) != ERR_ok) continue; /* no task of this one */
        environments[n] = (int64_t)e;
        hashes[n] = arena_text(&import->data->arena, span_text(hash.hex));
        if (hashes[n]) n++;
    }
    return n;
}

/* All that are given by body, in one look at the ledger. */
static err_t find_bodies(struct import *import)
{
    struct data *data = import->data;
    size_t most = import->count * data->plan->spec.environment_count + 1, n = 0;
    int64_t *environments = arena_array(&data->arena, int64_t, most), *found = arena_array(&data->arena, int64_t, most);
    const char **hashes = arena_array(&data->arena, const char *, most);
    size_t *of = arena_array(&data->arena, size_t, most);
    if (!environments || !found || !hashes || !of) return ERR_memory;
    for (size_t i = 0; i < import->count; i++) {
        if (!*import->items[i].body) continue;
        size_t more = candidates(import, i, environments + n, hashes + n);
        for (size_t k = 0; k < more; k++) of[n++] = i;
    }
    if (n == 0) return ERR_ok;
    TRY(store_task_find(data->store, data->plan->job, environments, hashes, n, found));
    for (size_t k = 0; k < n; k++) {
        if (import->task[of[k]] < 0) import->task[of[k]] = found[k];
    }
    return ERR_ok;
}

static void check_task(struct import *import, size_t i)
{
    const struct plan *plan = import->data->plan;
    const struct import_item *item = &import->items[i];
    int64_t id = import->task[i];
    if (id < 0 || (size_t)id >= plan->task_count) {
        if (*item->body)
            refuse(import, i, "job %lld has no such task", (long long)plan->job);
        else
            refuse(import, i, "job %lld has no task %lld: they are 0 to %zu", (long long)plan->job, (long long)item->task,
                   plan->task_count - 1);
        return;
    }
    const struct plan_task *task = &plan->tasks[id];
    if (task->holdout)
        refuse(import, i, "task %lld is held out: it is never trained on", (long long)id);
    else if (task->quarantined || task->candidate || task->refused)
        refuse(import, i, "task %lld is not drawn (quarantined, or a candidate)", (long long)id);
    else if (item->environment >= 0 && item->environment != task->environment)
        refuse(import, i, "task %lld is of environment %lld", (long long)id, (long long)task->environment);
}

/* ---- planning ---- */

static err_t plan_one(struct import *import, size_t i)
{
    struct data *data = import->data;
    struct group *group = NULL;
    TRY(plan_add_group(data->plan, &group, GROUP_IMPORT, (size_t)import->task[i], 1));
    group->script = strdup(import->items[i].script);
    if (!group->script) return err_set(ERR_memory, "a script");
    import->planned++;
    return grant_note(data, group);
}

/* Plans all, or none when one is refused; what was imported before is passed over. */
static err_t plan_all(struct import *import)
{
    struct data *data = import->data;
    bool *known = arena_array(&data->arena, bool, import->count);
    const char **scripts = arena_array(&data->arena, const char *, import->count);
    import->task = arena_array(&data->arena, int64_t, import->count);
    if (!known || !scripts || !import->task) return ERR_memory;
    TRY(data_begin(data));
    for (size_t i = 0; i < import->count; i++) {
        import->task[i] = import->items[i].task;
        scripts[i] = import->items[i].script;
    }
    TRY(find_bodies(import));
    for (size_t i = 0; i < import->count; i++) check_task(import, i);
    if (import->problem_count) return ERR_ok;
    TRY(store_episode_imported(data->store, data->plan->job, import->task, scripts, import->count, known));
    for (size_t i = 0; i < import->count; i++) {
        for (size_t k = 0; k < i && !known[i]; k++)
            known[i] = import->task[k] == import->task[i] && strcmp(scripts[k], scripts[i]) == 0;
        import->known += known[i];
        if (!known[i]) TRY(plan_one(import, i));
    }
    log_info("job %lld: %zu demonstrations are played for the pool, %zu are in it already", (long long)data->plan->job,
             import->planned, import->known);
    return ERR_ok;
}

/* ---- by request ---- */

static err_t take(struct import *import, const struct wire_pool_import *message)
{
    struct data *data = import->data;
    const struct plan *plan = data->plan;
    if (!plan || (uint64_t)plan->job != message->job || !plan->running)
        return err_set(ERR_conflict, "job %llu does not run: demonstrations are played while it does",
                       (unsigned long long)message->job);
    if (!plan->spec.dart.on || plan->spec.dart.pool == JOB_POOL_OFF)
        return err_set(ERR_conflict, "job %lld has no pool (curation.dart.pool)", (long long)plan->job);
    struct import_item *items = arena_array(&data->arena, struct import_item, message->items_count + 1);
    if (!items) return ERR_memory;
    for (size_t i = 0; i < message->items_count; i++) {
        const struct wire_import_item *from = &message->items[i];
        items[i] = (struct import_item){from->task, from->environment, arena_text(&data->arena, from->body),
                                        arena_text(&data->arena, from->script)};
        if (!items[i].body || !items[i].script) return ERR_memory;
    }
    import->items = items;
    import->count = message->items_count;
    TRY(plan_all(import));
    if (import->problem_count)
        return err_set(ERR_invalid, "%zu of %zu demonstrations cannot be played: none is", import->problem_count,
                       import->count);
    return store_audit(data->store, "gateway", "import", plan->job, "{}");
}

void import_request(struct data *data, const char *peer, const struct wire_pool_import *message)
{
    struct import *import = arena_array(&data->arena, struct import, 1);
    struct wire_pool_answer *answer = arena_array(&data->arena, struct wire_pool_answer, 1);
    if (!import || !answer) {
        data_fail(data, ERR_memory);
        return;
    }
    import->data = data;
    err_t err = take(import, message);
    if (err != ERR_ok && err != ERR_conflict && err != ERR_invalid) {
        data_fail(data, err);
        return;
    }
    *answer = (struct wire_pool_answer){.request = message->request,
                                        .job = message->job,
                                        .planned = import->planned,
                                        .known = import->known,
                                        .error = span_text(err == ERR_ok ? "" : err_name(err)),
                                        .problems = import->problems,
                                        .problems_count = import->problem_count};
    const char *detail = arena_text(&data->arena, span_text(err == ERR_ok ? "" : err_text()));
    if (detail) answer->detail = span_text(detail);
    data_say(data, peer, NULL, WIRE_pool_answer, detail ? answer : NULL);
}

/* ---- curation.dart.pool_file ---- */

static err_t grow(struct arena *arena, struct import_item **items, size_t count, size_t *room)
{
    if (count < *room) return ERR_ok;
    struct import_item *more = arena_array(arena, struct import_item, *room ? 2 * *room : 64);
    if (!more) return ERR_memory;
    if (count) memcpy(more, *items, count * sizeof *more);
    *items = more;
    *room = *room ? 2 * *room : 64;
    return ERR_ok;
}

static err_t read_lines(struct data *data, FILE *file, struct import_item **ret, size_t **ret_line, size_t *ret_count)
{
    char *line = NULL;
    size_t bytes = 0, room = 0, number = 0, *lines = NULL;
    err_t err = ERR_ok;
    *ret_count = 0;
    for (ssize_t size = 0; err == ERR_ok && (size = getline(&line, &bytes, file)) > 0;) {
        struct job_problems problems;
        number++;
        if (strspn(line, " \t\r\n") == (size_t)size) continue;
        size_t before = room;
        err = size > LINE_BYTES ? err_set(ERR_invalid, "more than %d bytes", LINE_BYTES)
                                : grow(&data->arena, ret, *ret_count, &room);
        if (err == ERR_ok && room != before) {
            size_t *more = arena_array(&data->arena, size_t, room);
            if (more && before) memcpy(more, lines, before * sizeof *more);
            lines = more;
            err = more ? ERR_ok : ERR_memory;
        }
        if (err == ERR_ok) err = import_line(span_of(line, (size_t)size), &data->arena, &(*ret)[*ret_count], &problems);
        if (err == ERR_ok) lines[(*ret_count)++] = number;
        if (err != ERR_ok) err = err_prefix(err, "line %zu", number);
    }
    free(line);
    *ret_line = lines;
    return err;
}

static err_t from_file(struct data *data, const char *path)
{
    struct import_item *items = NULL;
    size_t *lines = NULL, count = 0;
    FILE *file = fopen(path, "re");
    if (!file) return err_set(ERR_invalid, "cannot be opened");
    err_t err = read_lines(data, file, &items, &lines, &count);
    (void)fclose(file);
    TRY(err);
    struct import *import = arena_array(&data->arena, struct import, 1);
    if (!import) return ERR_memory;
    import->data = data;
    import->items = items;
    import->count = count;
    if (count) TRY(plan_all(import));
    if (import->problem_count == 0) return ERR_ok;
    const struct wire_import_problem *first = &import->problems[0];
    return err_set(ERR_invalid, "line %zu: %.*s", lines[first->item], SPAN_ARG(first->detail));
}

err_t import_file(struct data *data)
{
    const struct job_dart *dart = &data->plan->spec.dart;
    if (!dart->on || !dart->pool_file[0]) return ERR_ok;
    err_t err = from_file(data, dart->pool_file);
    return err == ERR_ok ? ERR_ok : err_prefix(err, "/curation/dart/pool_file: %s", dart->pool_file);
}

/* ---- its end ---- */

static err_t tell(struct data *data, const struct group *group, const char *verdict)
{
    const struct slot *slot = &group->slots[0];
    const struct plan_task *task = &data->plan->tasks[group->task];
    const char *inputs = arena_printf(
        &data->arena, "{\"task\": %lld, \"episode\": %lld, \"outcome\": \"%s\", \"reward\": %.9g, \"steps\": %lld}",
        (long long)task->id, (long long)slot->episode, outcome_name(slot->outcome), slot->reward, (long long)slot->steps);
    TRY(finish_decide(data, "group", group->id, "import", verdict, inputs));
    if (strcmp(verdict, "pooled") == 0) return ERR_ok;
    const char *message = arena_printf(
        &data->arena, "the actions imported for task %lld do not solve it: %s, reward %g after %lld steps (episode %lld)",
        (long long)task->id, outcome_name(slot->outcome), slot->reward, (long long)slot->steps, (long long)slot->episode);
    TRY(data_begin(data));
    return message ? store_job_event(data->store, data->plan->job, "import", message, inputs) : ERR_memory;
}

err_t import_close(struct data *data, struct group *group, bool voided)
{
    struct plan *plan = data->plan;
    bool solved = !voided && group->slots[0].reward >= 0.5;
    if (!voided) TRY(judge_close(data, group, "closed", "measured"));
    if (solved) TRY(record_import(plan, group));
    TRY(tell(data, group, solved ? "pooled" : "failed"));
    plan_remove_group(plan, group);
    return ERR_ok;
}
