#include "services/common/store/store_record.h"

#include "services/common/store/store_internal.h"

enum { OUTCOMES, WINS, IMPORTS, DRAWN, ASSIGNED };

/* The newest rows of each training task: a walk down the index of its groups that ends at the limit. */
#define NEWEST(groups, episodes)                                                                                             \
    "SELECT t.id, x.id, x.reward, x.steps, x.update_for FROM task t CROSS JOIN LATERAL (SELECT e.id, e.reward, e.steps,"     \
    " coalesce(g.update_for, 0) AS update_for FROM episode_group g JOIN episode e ON e.job = g.job AND e.group_id = g.id"    \
    " WHERE g.job = t.job AND g.task = t.id AND g.state = 'closed' AND " groups " AND e.state = 'done' AND " episodes        \
    " ORDER BY g.id DESC, e.slot DESC LIMIT $2) x WHERE t.job = $1 AND t.split = 'train' ORDER BY t.id, x.id"
#define COLUMNS                                                                                                              \
    {                                                                                                                        \
        STORE_INT8, STORE_INT8, STORE_FLOAT8, STORE_INT4, STORE_INT8                                                         \
    }

static const struct store_statement statements[] = {
    [OUTCOMES] = {.name = "record_outcomes",
                  .doc = "newest plain episodes of each task",
                  .params = {STORE_INT8, STORE_INT8},
                  .columns = COLUMNS,
                  .text = NEWEST("g.source = 'fresh'", "NOT e.hinted")},
    [WINS] = {.name = "record_wins",
              .doc = "newest plain successes of each task",
              .params = {STORE_INT8, STORE_INT8},
              .columns = COLUMNS,
              .text = NEWEST("g.source = 'fresh'", "NOT e.hinted AND e.reward >= 0.5")},
    [IMPORTS] = {.name = "record_imports",
                 .doc = "newest imported successes of each task",
                 .params = {STORE_INT8, STORE_INT8},
                 .columns = COLUMNS,
                 .text = NEWEST("g.source = 'import'", "e.reward >= 0.5")},
    [DRAWN] = {.name = "record_drawn",
               .doc = "how often each episode came from the pool",
               .params = {STORE_INT8},
               .columns = {STORE_INT8, STORE_INT8, STORE_INT8},
               .text =
                   "SELECT task, pool, count(*) FROM episode_group WHERE job = $1 AND pool IS NOT NULL GROUP BY task, pool"},
    [ASSIGNED] = {.name = "record_assigned",
                  .doc = "the size of each task's newest fresh group",
                  .params = {STORE_INT8},
                  .columns = {STORE_INT8, STORE_INT4},
                  .text = "SELECT DISTINCT ON (task) task, size FROM episode_group WHERE job = $1 AND source = 'fresh'"
                          " ORDER BY task, id DESC"},
};

const struct store_table store_record_table = {"record", statements, sizeof statements / sizeof *statements};

err_t store_record_list(struct store *store, int64_t job, enum store_record_kind kind, int64_t most, struct arena *arena,
                        struct store_record **ret, size_t *ret_count)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[kind]);
    store_put_int(&args, job);
    store_put_int(&args, most);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    *ret_count = store_row_count(&rows);
    *ret = arena_array(arena, struct store_record, *ret_count + 1);
    if (!*ret) return ERR_memory;
    for (size_t i = 0; i < *ret_count; i++)
        (*ret)[i] =
            (struct store_record){store_get_int(&rows, i, 0), store_get_int(&rows, i, 1), store_get_float(&rows, i, 2),
                                  store_get_int(&rows, i, 3), store_get_int(&rows, i, 4)};
    return ERR_ok;
}

/* A statement about a whole job. */
static err_t run(struct store *store, int statement, int64_t job, struct store_rows *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[statement]);
    store_put_int(&args, job);
    return store_run(store, &args, ret);
}

err_t store_record_drawn(struct store *store, int64_t job, struct arena *arena, struct store_drawn **ret, size_t *ret_count)
{
    AUTO(store_rows) rows = {0};
    TRY(run(store, DRAWN, job, &rows));
    *ret_count = store_row_count(&rows);
    *ret = arena_array(arena, struct store_drawn, *ret_count + 1);
    if (!*ret) return ERR_memory;
    for (size_t i = 0; i < *ret_count; i++)
        (*ret)[i] = (struct store_drawn){store_get_int(&rows, i, 0), store_get_int(&rows, i, 1), store_get_int(&rows, i, 2)};
    return ERR_ok;
}

err_t store_record_assigned(struct store *store, int64_t job, struct arena *arena, struct store_assigned **ret,
                            size_t *ret_count)
{
    AUTO(store_rows) rows = {0};
    TRY(run(store, ASSIGNED, job, &rows));
    *ret_count = store_row_count(&rows);
    *ret = arena_array(arena, struct store_assigned, *ret_count + 1);
    if (!*ret) return ERR_memory;
    for (size_t i = 0; i < *ret_count; i++)
        (*ret)[i] = (struct store_assigned){store_get_int(&rows, i, 0), store_get_int(&rows, i, 1)};
    return ERR_ok;
}
