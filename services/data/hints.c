/* What a task is by its initial state, what would help with it, and hints that come from a file (curation.guide). */
#include "curation/hint.h"
#include "env/env.h"
#include "services/common/run/log.h"
#include "services/common/store/store_task.h"
#include "services/data/data.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define OWN        "{environment}" /* a hint that each episode has for itself: rollout asks for it at the reset */
#define LINE_BYTES 65536

static err_t ask(const struct env_class *class, void *state, const char *body, struct digest *ret_hash, char *ret_hint)
{
    struct env_obs obs;
    char other[ENV_HINT_BYTES];
    TRY(class->reset(state, span_text(body), 1, &obs));
    class->hint(state, other);
    TRY(class->reset(state, span_text(body), 0, &obs));
    class->hint(state, ret_hint);
    if (strcmp(other, ret_hint) != 0) (void)snprintf(ret_hint, ENV_HINT_BYTES, OWN);
    return class->digest(state, ret_hash);
}

err_t hints_look(const struct job_environment *env, const char *body, struct digest *ret_hash, char *ret_hint)
{
    const struct env_class *class = env->provider == JOB_PROVIDER_BUILTIN ? env_find(env->name) : NULL;
    ret_hint[0] = 0;
    if (!class) return digest_bytes(span_text(body), ret_hash);
    void *state = aligned_alloc(64, (class->state_bytes + 63) / 64 * 64);
    if (!state) return err_set(ERR_memory, "an environment");
    memset(state, 0, class->state_bytes);
    err_t err = ask(class, state, body, ret_hash, ret_hint);
    free(state);
    return err;
}

/* ---- curation.guide.file ---- */

struct reader {
    struct plan *plan;
    struct store_task *tasks; /* in the order of their environments */
    struct store_task **sorted;
    size_t count, known;
};

static int by_hash(const void *a, const void *b)
{
    const struct store_task *x = *(struct store_task *const *)a, *y = *(struct store_task *const *)b;
    if (x->environment != y->environment) return x->environment < y->environment ? -1 : 1;
    return strcmp(x->hash, y->hash);
}

/* The task of a body, in the first environment that has it; NULL when none has. */
static struct store_task *find(const struct reader *r, const char *body)
{
    for (size_t e = 0; e < r->plan->spec.environment_count; e++) {
        struct digest hash;
        char own[ENV_HINT_BYTES];
        if (hints_look(&r->plan->spec.environments[e], body, &hash, own) != ERR_ok) continue; /* no task of this one */
        const struct store_task key = {.environment = (int64_t)e, .hash = hash.hex}, *wanted = &key;
        struct store_task **found = bsearch(&wanted, r->sorted, r->count, sizeof *r->sorted, by_hash);
        if (found) return *found;
    }
    return NULL;
}

static err_t read_line(struct reader *r, const char *line)
{
    json_error_t error;
    json_t *root = json_loads(line, JSON_REJECT_DUPLICATES, &error);
    const json_t *task = json_object_get(root, "task"), *hint = json_object_get(root, "hint");
    char *body = json_is_object(task) ? json_dumps(task, JSON_COMPACT) : NULL;
    err_t err = ERR_ok;
    if (!body || !json_is_string(hint) || json_object_size(root) != 2) {
        err = err_set(ERR_invalid, "{\"task\": {...}, \"hint\": \"...\"} is wanted");
    } else {
        struct store_task *found = find(r, body);
        if (found) found->hint = arena_text(&r->plan->arena, span_text(json_string_value(hint)));
        if (found && !found->hint) err = ERR_memory;
        r->known += found != NULL;
    }
    free(body);
    json_decref(root);
    return err;
}

static err_t read_all(struct reader *r, FILE *file, size_t *ret_lines)
{
    char *line = NULL;
    size_t room = 0, number = 0;
    err_t err = ERR_ok;
    for (ssize_t size = 0; err == ERR_ok && (size = getline(&line, &room, file)) > 0;) {
        number++;
        if (strspn(line, " \t\r\n") == (size_t)size) continue;
        err = size > LINE_BYTES ? err_set(ERR_invalid, "more than %d bytes", LINE_BYTES) : read_line(r, line);
        if (err != ERR_ok) err = err_prefix(err, "line %zu", number);
    }
    free(line);
    *ret_lines = number;
    return err;
}

/* Lines about tasks that this job does not have are passed over: a file may serve many jobs. */
static err_t read_file(struct reader *r, const char *path)
{
    size_t lines = 0;
    FILE *file = fopen(path, "re");
    if (!file) return err_set(ERR_invalid, "/curation/guide/file: %s cannot be opened", path);
    err_t err = read_all(r, file, &lines);
    (void)fclose(file);
    if (err == ERR_ok && r->known == 0) err = err_set(ERR_invalid, "no line is about a task of this job");
    if (err != ERR_ok) return err_prefix(err, "/curation/guide/file: %s", path);
    log_info("job %lld: %zu hints of %s are about its tasks (%zu lines)", (long long)r->plan->job, r->known, path, lines);
    return ERR_ok;
}

static err_t from_file(struct plan *plan, struct store_task *tasks, size_t count)
{
    struct reader r = {.plan = plan, .tasks = tasks, .count = count};
    r.sorted = calloc(count + 1, sizeof(struct store_task *));
    if (!r.sorted) return err_set(ERR_memory, "%zu tasks", count);
    for (size_t i = 0; i < count; i++) r.sorted[i] = &tasks[i];
    qsort(r.sorted, count, sizeof *r.sorted, by_hash);
    err_t err = read_file(&r, plan->spec.guide.file);
    free(r.sorted);
    return err;
}

err_t hints_settle(struct plan *plan, struct store_task *tasks, size_t count)
{
    const struct job_guide *guide = &plan->spec.guide;
    bool shown = plan->spec.warmstart.on && plan->spec.warmstart.hinted > 0;
    size_t some = 0;
    if (guide->on && guide->file[0]) TRY(from_file(plan, tasks, count));
    for (size_t i = 0; (guide->on || shown) && i < count; i++) {
        AUTO(buf) text = {0};
        if (!*tasks[i].hint) continue;
        some += !tasks[i].holdout;
        if (hint_render(span_text(guide->template), span_text(tasks[i].hint), &text) != ERR_ok)
            return err_set(ERR_invalid, "the hint of task %lld has more than %d bytes, its template included",
                           (long long)tasks[i].id, HINT_BYTES);
    }
    if (!guide->on || some) return ERR_ok;
    return err_set(ERR_invalid,
                   "/curation/guide: no training task has a hint: give tasks.file or guide.file with hints, or an"
                   " environment that has them");
}
