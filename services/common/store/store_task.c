#include "services/common/store/store_task.h"

#include "services/common/store/store_internal.h"

enum { INSERT, LIST, QUARANTINE };

static const struct store_statement statements[] = {
    [INSERT] = {.name = "task_insert",
                .doc = "the tasks of a job, one set",
                .params = {STORE_INT8, STORE_INT8_ARRAY, STORE_INT4_ARRAY, STORE_TEXT_ARRAY, STORE_INT4_ARRAY,
                           STORE_TEXT_ARRAY, STORE_TEXT_ARRAY, STORE_TEXT_ARRAY, STORE_TEXT_ARRAY},
                .text = "INSERT INTO task (job, id, environment, split, level, body, hash, hint, source)"
                        " SELECT $1, * FROM unnest($2, $3, $4, $5, $6, $7, $8, $9)"},
    [LIST] = {.name = "task_list",
              .doc = "all tasks of a job",
              .params = {STORE_INT8},
              .columns = {STORE_INT8, STORE_INT4, STORE_TEXT, STORE_INT4, STORE_TEXT, STORE_TEXT, STORE_TEXT},
              .text = "SELECT id, environment, split, level, body, hint, state FROM task WHERE job = $1 ORDER BY id"},
    [QUARANTINE] = {.name = "task_quarantine",
                    .doc = "a task that is not drawn again",
                    .params = {STORE_INT8, STORE_INT8},
                    .text = "UPDATE task SET state = 'quarantined' WHERE job = $1 AND id = $2"},
};

const struct store_table store_task_table = {"task", statements, sizeof statements / sizeof *statements};

/* columns of the set, as arrays */
struct columns {
    int64_t *ids, *environments, *levels;
    const char **splits, **bodies, **hashes, **hints, **sources;
};

err_t store_task_insert(struct store *store, int64_t job, const struct store_task *tasks, size_t count)
{
    AUTO(arena) arena = {0};
    struct columns c = {
        arena_array(&arena, int64_t, count),      arena_array(&arena, int64_t, count),
        arena_array(&arena, int64_t, count),      arena_array(&arena, const char *, count),
        arena_array(&arena, const char *, count), arena_array(&arena, const char *, count),
        arena_array(&arena, const char *, count), arena_array(&arena, const char *, count),
    };
    if (!c.ids || !c.environments || !c.levels || !c.splits || !c.bodies || !c.hashes || !c.hints || !c.sources)
        return ERR_memory;
    for (size_t i = 0; i < count; i++) {
        c.ids[i] = tasks[i].id;
        c.environments[i] = tasks[i].environment;
        c.levels[i] = tasks[i].level;
        c.splits[i] = tasks[i].holdout ? "holdout" : "train";
        c.bodies[i] = tasks[i].body;
        c.hashes[i] = tasks[i].hash;
        c.hints[i] = tasks[i].hint;
        c.sources[i] = tasks[i].source;
    }
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[INSERT]);
    store_put_int(&args, job);
    store_put_ints(&args, c.ids, NULL, count);
    store_put_ints(&args, c.environments, NULL, count);
    store_put_texts(&args, c.splits, count);
    store_put_ints(&args, c.levels, NULL, count);
    store_put_texts(&args, c.bodies, count);
    store_put_texts(&args, c.hashes, count);
    store_put_texts(&args, c.hints, count);
    store_put_texts(&args, c.sources, count);
    return store_run(store, &args, NULL);
}

err_t store_task_list(struct store *store, int64_t job, struct arena *arena, struct store_task **ret, size_t *ret_count)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[LIST]);
    store_put_int(&args, job);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    size_t count = store_row_count(&rows);
    struct store_task *tasks = arena_array(arena, struct store_task, count + 1);
    if (!tasks) return ERR_memory;
    for (size_t i = 0; i < count; i++) {
        tasks[i] = (struct store_task){
            .id = store_get_int(&rows, i, 0),
            .environment = store_get_int(&rows, i, 1),
            .holdout = strcmp(store_get_text(&rows, i, 2), "holdout") == 0,
            .level = store_get_int(&rows, i, 3),
            .body = arena_text(arena, store_get_span(&rows, i, 4)),
            .hint = arena_text(arena, store_get_span(&rows, i, 5)),
            .quarantined = strcmp(store_get_text(&rows, i, 6), "quarantined") == 0,
        };
        if (!tasks[i].body || !tasks[i].hint) return ERR_memory;
    }
    *ret = tasks;
    *ret_count = count;
    return ERR_ok;
}

err_t store_task_quarantine(struct store *store, int64_t job, int64_t task)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[QUARANTINE]);
    store_put_int(&args, job);
    store_put_int(&args, task);
    return store_run(store, &args, NULL);
}
