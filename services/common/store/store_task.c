#include "services/common/store/store_task.h"

#include "services/common/store/store_internal.h"

enum { INSERT, LIST, SET_STATE, KNOWN, FIND };

static const struct store_statement statements[] = {
    [INSERT] = {.name = "task_insert",
                .doc = "the tasks of a job, one set",
                .params = {STORE_INT8, STORE_INT8_ARRAY, STORE_INT4_ARRAY, STORE_TEXT_ARRAY, STORE_INT4_ARRAY,
                           STORE_TEXT_ARRAY, STORE_TEXT_ARRAY, STORE_TEXT_ARRAY, STORE_TEXT_ARRAY, STORE_INT8_ARRAY,
                           STORE_INT4_ARRAY, STORE_TEXT_ARRAY},
                .text =
                    "INSERT INTO task (job, id, environment, split, level, body, hash, hint, source, parent, phase, state)"
                    " SELECT $1, * FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"},
    [LIST] = {.name = "task_list",
              .doc = "all tasks of a job",
              .params = {STORE_INT8},
              .columns = {STORE_INT8, STORE_INT4, STORE_TEXT, STORE_INT4, STORE_TEXT, STORE_TEXT, STORE_TEXT, STORE_TEXT,
                          STORE_INT4},
              .text = "SELECT id, environment, split, level, body, hint, state, source, phase FROM task WHERE job = $1"
                      " ORDER BY id"},
    [SET_STATE] = {.name = "task_set_state",
                   .doc = "a task that is not drawn again, or a candidate with its verdict",
                   .params = {STORE_INT8, STORE_INT8, STORE_TEXT},
                   .text = "UPDATE task SET state = $3 WHERE job = $1 AND id = $2"},
    [KNOWN] = {.name = "task_known",
               .doc = "initial states that have a task",
               .params = {STORE_INT8, STORE_INT4_ARRAY, STORE_TEXT_ARRAY},
               .columns = {STORE_INT8},
               .text = "SELECT u.n FROM unnest($2, $3) WITH ORDINALITY AS u(environment, hash, n)"
                       " JOIN task t ON t.job = $1 AND t.environment = u.environment AND t.hash = u.hash"},
    [FIND] = {.name = "task_find",
              .doc = "tasks by their initial states",
              .params = {STORE_INT8, STORE_INT4_ARRAY, STORE_TEXT_ARRAY},
              .columns = {STORE_INT8},
              .text = "SELECT coalesce(t.id, -1) FROM unnest($2, $3) WITH ORDINALITY AS u(environment, hash, n)"
                      " LEFT JOIN task t ON t.job = $1 AND t.environment = u.environment AND t.hash = u.hash ORDER BY u.n"},
};

const struct store_table store_task_table = {"task", statements, sizeof statements / sizeof *statements};

/* columns of the set, as arrays */
struct columns {
    int64_t *ids, *environments, *levels, *parents, *phases;
    bool *no_parent;
    const char **splits, **bodies, **hashes, **hints, **sources, **states;
};

err_t store_task_insert(struct store *store, int64_t job, const struct store_task *tasks, size_t count)
{
    AUTO(arena) arena = {0};
    struct columns c = {
        .ids = arena_array(&arena, int64_t, 5 * count),
        .no_parent = arena_array(&arena, bool, count),
        .splits = arena_array(&arena, const char *, 6 * count),
    };
    if (!c.ids || !c.no_parent || !c.splits) return ERR_memory;
    c.environments = c.ids + count;
    c.levels = c.ids + 2 * count;
    c.parents = c.ids + 3 * count;
    c.phases = c.ids + 4 * count;
    c.bodies = c.splits + count;
    c.hashes = c.splits + 2 * count;
    c.hints = c.splits + 3 * count;
    c.sources = c.splits + 4 * count;
    c.states = c.splits + 5 * count;
    for (size_t i = 0; i < count; i++) {
        c.ids[i] = tasks[i].id;
        c.environments[i] = tasks[i].environment;
        c.levels[i] = tasks[i].level;
        c.splits[i] = tasks[i].holdout ? "holdout" : "train";
        c.bodies[i] = tasks[i].body;
        c.hashes[i] = tasks[i].hash;
        c.hints[i] = tasks[i].hint;
        c.sources[i] = tasks[i].source;
        c.parents[i] = tasks[i].parent;
        c.no_parent[i] = tasks[i].parent < 0;
        c.phases[i] = tasks[i].phase;
        c.states[i] = tasks[i].state;
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
    store_put_ints(&args, c.parents, c.no_parent, count);
    store_put_ints(&args, c.phases, NULL, count);
    store_put_texts(&args, c.states, count);
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
            .state = arena_text(arena, store_get_span(&rows, i, 6)),
            .source = arena_text(arena, store_get_span(&rows, i, 7)),
            .phase = store_get_int(&rows, i, 8),
        };
        if (!tasks[i].body || !tasks[i].hint || !tasks[i].state || !tasks[i].source) return ERR_memory;
    }
    *ret = tasks;
    *ret_count = count;
    return ERR_ok;
}

err_t store_task_set_state(struct store *store, int64_t job, int64_t task, const char *state)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[SET_STATE]);
    store_put_int(&args, job);
    store_put_int(&args, task);
    store_put_text(&args, state);
    return store_run(store, &args, NULL);
}

err_t store_task_known(struct store *store, int64_t job, const int64_t *environments, const char *const *hashes, size_t count,
                       bool *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[KNOWN]);
    store_put_int(&args, job);
    store_put_ints(&args, environments, NULL, count);
    store_put_texts(&args, hashes, count);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    memset(ret, 0, count * sizeof *ret);
    for (size_t i = 0; i < store_row_count(&rows); i++) {
        int64_t n = store_get_int(&rows, i, 0);
        if (n >= 1 && (size_t)n <= count) ret[n - 1] = true;
    }
    return ERR_ok;
}

err_t store_task_find(struct store *store, int64_t job, const int64_t *environments, const char *const *hashes, size_t count,
                      int64_t *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[FIND]);
    store_put_int(&args, job);
    store_put_ints(&args, environments, NULL, count);
    store_put_texts(&args, hashes, count);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    BUG_IF(store_row_count(&rows) != count);
    for (size_t i = 0; i < count; i++) ret[i] = store_get_int(&rows, i, 0);
    return ERR_ok;
}
