#include "services/common/store/store_score.h"

#include "services/common/store/store_internal.h"

#include <math.h>

enum { INSERT, LIST, PLAIN, SOLVED };

static const struct store_statement statements[] = {
    [INSERT] = {.name = "score_insert",
                .doc = "scores of tasks, one set",
                .params = {STORE_INT8, STORE_INT8, STORE_INT8_ARRAY, STORE_INT8_ARRAY, STORE_FLOAT8_ARRAY, STORE_FLOAT8_ARRAY,
                           STORE_INT4_ARRAY, STORE_FLOAT8_ARRAY},
                .text = "INSERT INTO task_score (job, lineage, task, version, c_intra, c_inter, tokens, value)"
                        " SELECT $1, $2::int, * FROM unnest($3, $4, $5, $6, $7, $8)"
                        " ON CONFLICT (job, task, lineage, version) DO UPDATE SET c_intra = excluded.c_intra,"
                        " c_inter = excluded.c_inter, tokens = excluded.tokens, value = excluded.value"},
    [LIST] = {.name = "score_list",
              .doc = "scores under a version",
              .params = {STORE_INT8, STORE_INT8, STORE_INT8},
              .columns = {STORE_INT8, STORE_FLOAT8, STORE_FLOAT8, STORE_INT4, STORE_FLOAT8},
              .text = "SELECT task, c_intra, c_inter, tokens, value FROM task_score"
                      " WHERE job = $1 AND lineage = $2 AND version = $3 ORDER BY task"},
    [PLAIN] = {.name = "score_plain",
               .doc = "mean reward of the plain episodes that an update consumed, and their tasks",
               .params = {STORE_INT8, STORE_INT8},
               .columns = {STORE_FLOAT8, STORE_INT8_ARRAY},
               .text = "SELECT avg(e.reward), array_agg(DISTINCT g.task) FROM episode_group g"
                       " JOIN episode e ON e.job = g.job AND e.group_id = g.id AND e.state = 'done' AND NOT e.hinted"
                       " WHERE g.job = $1 AND g.update_for = $2 AND g.source = 'fresh'"
                       " AND g.verdict IN ('signal', 'no_signal', 'hinted')"},
    [SOLVED] = {.name = "score_solved",
                .doc = "tasks whose newest plain episodes all won",
                .params = {STORE_INT8},
                .columns = {STORE_INT8},
                .text = "SELECT t.id FROM task t CROSS JOIN LATERAL (SELECT g.id FROM episode_group g WHERE g.job = t.job"
                        "  AND g.task = t.id AND g.source = 'fresh' AND g.state = 'closed' ORDER BY g.id DESC LIMIT 1) n"
                        " WHERE t.job = $1 AND (SELECT min(e.reward) FROM episode e WHERE e.job = t.job"
                        "  AND e.group_id = n.id AND e.state = 'done' AND NOT e.hinted) >= 0.5 ORDER BY t.id"},
};

const struct store_table store_score_table = {"score", statements, sizeof statements / sizeof *statements};

err_t store_score_insert(struct store *store, int64_t job, int64_t lineage, const struct store_score *scores, size_t count)
{
    AUTO(arena) arena = {0};
    int64_t *ints = arena_array(&arena, int64_t, 3 * count);
    double *values = arena_array(&arena, double, 3 * count);
    bool *nulls = arena_array(&arena, bool, 4 * count);
    if (!ints || !values || !nulls) return ERR_memory;
    int64_t *tasks = ints, *versions = ints + count, *tokens = ints + 2 * count;
    for (size_t i = 0; i < count; i++) {
        tasks[i] = scores[i].task;
        versions[i] = scores[i].version;
        values[i] = scores[i].c_intra;
        values[count + i] = scores[i].c_inter;
        values[2 * count + i] = scores[i].value;
        nulls[i] = !isfinite(scores[i].c_intra);
        nulls[count + i] = !isfinite(scores[i].c_inter);
        nulls[2 * count + i] = !isfinite(scores[i].value);
        nulls[3 * count + i] = !isfinite(scores[i].tokens);
        tokens[i] = nulls[3 * count + i] ? 0 : (int64_t)scores[i].tokens;
    }
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[INSERT]);
    store_put_int(&args, job);
    store_put_int(&args, lineage);
    store_put_ints(&args, tasks, NULL, count);
    store_put_ints(&args, versions, NULL, count);
    store_put_floats(&args, values, nulls, count);
    store_put_floats(&args, values + count, nulls + count, count);
    store_put_ints(&args, tokens, nulls + 3 * count, count);
    store_put_floats(&args, values + 2 * count, nulls + 2 * count, count);
    return store_run(store, &args, NULL);
}

static double number_at(const struct store_rows *rows, size_t row, size_t column)
{
    return store_is_null(rows, row, column) ? (double)NAN : store_get_float(rows, row, column);
}

err_t store_score_list(struct store *store, int64_t job, int64_t lineage, int64_t version, struct arena *arena,
                       struct store_score **ret, size_t *ret_count)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[LIST]);
    store_put_int(&args, job);
    store_put_int(&args, lineage);
    store_put_int(&args, version);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    *ret_count = store_row_count(&rows);
    *ret = arena_array(arena, struct store_score, *ret_count + 1);
    if (!*ret) return ERR_memory;
    for (size_t i = 0; i < *ret_count; i++)
        (*ret)[i] = (struct store_score){
            .task = store_get_int(&rows, i, 0),
            .version = version,
            .c_intra = number_at(&rows, i, 1),
            .c_inter = number_at(&rows, i, 2),
            .tokens = store_is_null(&rows, i, 3) ? (double)NAN : (double)store_get_int(&rows, i, 3),
            .value = number_at(&rows, i, 4),
        };
    return ERR_ok;
}

err_t store_score_plain(struct store *store, int64_t job, int64_t update, struct arena *arena, struct store_plain *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[PLAIN]);
    store_put_int(&args, job);
    store_put_int(&args, update);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, "plain episodes"));
    *ret = (struct store_plain){.reward = number_at(&rows, 0, 0)};
    return store_get_ints(&rows, 0, 1, arena, &ret->tasks, NULL, &ret->task_count);
}

err_t store_score_solved(struct store *store, int64_t job, struct arena *arena, int64_t **ret, size_t *ret_count)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[SOLVED]);
    store_put_int(&args, job);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    *ret_count = store_row_count(&rows);
    *ret = arena_array(arena, int64_t, *ret_count + 1);
    if (!*ret) return ERR_memory;
    for (size_t i = 0; i < *ret_count; i++) (*ret)[i] = store_get_int(&rows, i, 0);
    return ERR_ok;
}
