/* Tasks become rows: generated from (level, seed), or read from a JSONL file; train and held-out are disjoint by the content
 * hash of the initial state (where the environment can be asked for it here: the built-in ones), else by the task's text. */
#include "env/env.h"
#include "services/common/run/log.h"
#include "services/common/store/store_task.h"
#include "services/data/data.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define HOLDOUT_SEED   0x686f6c64u /* held-out seeds come from elsewhere than the training seeds */
#define TRIES_PER_TASK 50          /* draws without a new task before the environment counts as exhausted */
#define FILE_TASKS     1000000
#define SEED_MASK      ((UINT64_C(1) << 53) - 1)

struct maker {
    struct data *data;
    struct plan *plan;
    const struct job_environment *env;
    int64_t environment;
    const struct env_class *class; /* NULL for other providers */
    struct store_task *tasks;
    size_t count, room;
    char **seen; /* hashes by open addressing, [seen_room] */
    size_t seen_room;
};

static bool is_new(struct maker *m, const char *hash)
{
    size_t at = (size_t)strtoull((char[17]){hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7], hash[8],
                                            hash[9], hash[10], hash[11], hash[12], hash[13], hash[14], hash[15], 0},
                                 NULL, 16) %
                m->seen_room;
    while (m->seen[at]) {
        if (strcmp(m->seen[at], hash) == 0) return false;
        at = (at + 1) % m->seen_room;
    }
    m->seen[at] = arena_text(&m->plan->arena, span_text(hash));
    return m->seen[at] != NULL;
}

/* Adds a task unless its initial state is there already; *ret_added says which. */
static err_t add(struct maker *m, const char *body, int64_t level, const char *hint, bool holdout, const char *source,
                 bool *ret_added)
{
    struct digest hash;
    char own_hint[ENV_HINT_BYTES];
    TRY(hints_look(m->env, body, &hash, own_hint));
    *ret_added = is_new(m, hash.hex);
    if (!*ret_added) return ERR_ok;
    BUG_IF(m->count == m->room);
    struct arena *arena = &m->plan->arena;
    m->tasks[m->count] = (struct store_task){
        .id = (int64_t)m->count,
        .environment = m->environment,
        .holdout = holdout,
        .level = level,
        .body = arena_text(arena, span_text(body)),
        .hash = arena_text(arena, span_text(hash.hex)),
        .hint = arena_text(arena, span_text(hint ? hint : own_hint)),
        .source = source,
        .parent = -1,
        .state = "active",
    };
    const struct store_task *t = &m->tasks[m->count++];
    return t->body && t->hash && t->hint ? ERR_ok : ERR_memory;
}

static err_t draw(struct maker *m, int64_t level, uint64_t seed, struct env_task *ret)
{
    seed &= SEED_MASK;
    if (m->class) return m->class->generate((int32_t)level, seed, m->env->variant[0] ? m->env->variant : NULL, ret);
    *ret = (struct env_task){.level = (int32_t)level, .seed = seed};
    (void)snprintf(ret->text, sizeof ret->text, "{\"level\": %lld, \"seed\": %llu}", (long long)level,
                   (unsigned long long)seed);
    return ERR_ok;
}

static err_t generate(struct maker *m, size_t wanted, uint64_t seed, bool holdout)
{
    const struct job_generate *g = &m->env->tasks.generate;
    size_t made = 0, useless = 0;
    for (uint64_t k = 0; made < wanted; k++) {
        int64_t level = g->levels[made % g->level_count];
        struct env_task task;
        bool added = false;
        TRY(draw(m, level, seed + k, &task));
        TRY(add(m, task.text, level, NULL, holdout, "generate", &added));
        made += added;
        useless = added ? 0 : useless + 1;
        if (useless == TRIES_PER_TASK * 20)
            return err_set(ERR_invalid, "%s has only %zu different tasks of level %lld; ask for fewer (count, holdout)",
                           m->env->name, made, (long long)level);
    }
    return ERR_ok;
}

static err_t add_line(struct maker *m, const char *line, size_t number, bool holdout)
{
    json_error_t error;
    json_t *root = json_loads(line, JSON_REJECT_DUPLICATES, &error);
    json_t *task = json_object_get(root, "task"), *hint = json_object_get(root, "hint"),
           *level = json_object_get(root, "level");
    char *body = json_is_object(task) ? json_dumps(task, JSON_COMPACT) : NULL;
    err_t err = ERR_ok;
    bool added = false;
    if (!body || (hint && !json_is_string(hint)) || (level && !json_is_integer(level)) || strlen(body) >= 4096)
        err = err_set(ERR_invalid, "%s, line %zu: {\"task\": {...}, \"hint\": \"...\", \"level\": n} is wanted",
                      m->env->tasks.file, number);
    else
        err = add(m, body, level ? json_integer_value(level) : 0, hint ? json_string_value(hint) : NULL, holdout, "file",
                  &added);
    if (err != ERR_ok) err = err_prefix(err, "%s, line %zu", m->env->tasks.file, number);
    free(body);
    json_decref(root);
    return err;
}

/* The last `holdout` lines of a file are held out. */
static err_t read_lines(struct maker *m, FILE *file)
{
    char *line = NULL;
    size_t room = 0, count = 0, number = 0;
    while (getline(&line, &room, file) > 0) count++;
    rewind(file);
    size_t holdout = (size_t)m->env->tasks.holdout;
    err_t err = count > holdout && count <= FILE_TASKS
                    ? ERR_ok
                    : err_set(ERR_invalid, "%s has %zu tasks; more than the %zu held-out ones are needed, at most %d",
                              m->env->tasks.file, count, holdout, FILE_TASKS);
    while (err == ERR_ok && getline(&line, &room, file) > 0) {
        number++;
        err = add_line(m, line, number, number > count - holdout);
    }
    free(line);
    return err;
}

static err_t from_file(struct maker *m)
{
    FILE *file = fopen(m->env->tasks.file, "re");
    if (!file) return err_set(ERR_invalid, "tasks file %s cannot be opened", m->env->tasks.file);
    err_t err = read_lines(m, file);
    (void)fclose(file);
    return err;
}

static err_t make(struct maker *m)
{
    const struct job_tasks *tasks = &m->env->tasks;
    if (!tasks->generates) return from_file(m);
    TRY(generate(m, (size_t)tasks->generate.count, (uint64_t)tasks->generate.seed, false));
    return generate(m, (size_t)tasks->holdout, rng_mix((uint64_t)tasks->generate.seed, HOLDOUT_SEED), true);
}

static size_t most_tasks(const struct plan *plan)
{
    size_t most = 0;
    for (size_t i = 0; i < plan->spec.environment_count; i++) {
        const struct job_tasks *t = &plan->spec.environments[i].tasks;
        most += t->generates ? (size_t)(t->generate.count + t->holdout) : FILE_TASKS;
    }
    return most;
}

static err_t make_all(struct maker *m)
{
    for (size_t i = 0; i < m->plan->spec.environment_count; i++) {
        m->env = &m->plan->spec.environments[i];
        m->environment = (int64_t)i;
        m->class = m->env->provider == JOB_PROVIDER_BUILTIN ? env_find(m->env->name) : NULL;
        memset(m->seen, 0, m->seen_room * sizeof *m->seen);
        err_t err = make(m);
        if (err != ERR_ok) return err_prefix(err, "/environments/%zu", i);
    }
    return ERR_ok;
}

err_t tasks_materialise(struct data *data, struct plan *plan)
{
    size_t most = most_tasks(plan);
    struct maker m = {.data = data, .plan = plan, .room = most, .seen_room = 2 * most + 1};
    m.tasks = calloc(most, sizeof *m.tasks);
    m.seen = calloc(m.seen_room, sizeof *m.seen);
    err_t err = m.tasks && m.seen ? make_all(&m) : err_set(ERR_memory, "%zu tasks", most);
    if (err == ERR_ok) err = hints_settle(plan, m.tasks, m.count);
    if (err == ERR_ok) err = data_begin(data);
    if (err == ERR_ok) err = store_task_insert(data->store, plan->job, m.tasks, m.count);
    if (err == ERR_ok) log_info("job %lld: %zu tasks", (long long)plan->job, m.count);
    free(m.tasks);
    free(m.seen);
    return err;
}
