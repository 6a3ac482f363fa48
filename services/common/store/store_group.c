#include "services/common/store/store_group.h"

#include "services/common/store/store_internal.h"

#include <math.h>

enum { INSERT, CLOSE, SHARE, LIST, COUNTS, STREAKS, DRAWN, ABANDON_EPISODES, ABANDON_GROUPS, DROP_EPISODES, DROP_GROUP };

static const struct store_statement statements[] = {
    [INSERT] = {.name = "group_insert",
                .doc = "planned groups, one set",
                .params = {STORE_INT8, STORE_INT8_ARRAY, STORE_INT8_ARRAY, STORE_TEXT_ARRAY, STORE_INT4_ARRAY,
                           STORE_INT8_ARRAY, STORE_INT8_ARRAY, STORE_INT8_ARRAY, STORE_INT8_ARRAY, STORE_INT4_ARRAY,
                           STORE_INT8_ARRAY},
                .text =
                    "INSERT INTO episode_group (job, id, task, source, size, update_for, pin_version, min_version, replaces,"
                    " phase, of_episode) SELECT $1, * FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"},
    [CLOSE] = {.name = "group_close",
               .doc = "closed groups, one set; advantages of all groups in one array, cut by lo and hi",
               .params = {STORE_INT8, STORE_INT8_ARRAY, STORE_TEXT_ARRAY, STORE_TEXT_ARRAY, STORE_INT4_ARRAY,
                          STORE_FLOAT8_ARRAY, STORE_FLOAT8_ARRAY, STORE_INT4_ARRAY, STORE_INT4_ARRAY, STORE_INT8_ARRAY},
               .text = "UPDATE episode_group g SET state = u.state, verdict = u.verdict, done = u.done,"
                       " reward_sum = u.reward_sum, advantage = CASE WHEN u.hi >= u.lo THEN ($7)[u.lo:u.hi] END,"
                       " pool = u.pool, closed_at = now() FROM unnest($2, $3, $4, $5, $6, $8, $9, $10)"
                       " AS u(id, state, verdict, done, reward_sum, lo, hi, pool)"
                       " WHERE g.job = $1 AND g.id = u.id AND g.state = 'open'"},
    [SHARE] = {.name = "group_share",
               .doc = "advantages of a group whose episodes fill up the hinted group in its place",
               .params = {STORE_INT8, STORE_INT8, STORE_FLOAT8_ARRAY},
               .text = "UPDATE episode_group SET advantage = $3 WHERE job = $1 AND id = $2 AND verdict = 'hinted'"},
    [LIST] = {.name = "group_list",
              .doc = "groups that are not consumed yet",
              .params = {STORE_INT8, STORE_INT8},
              .columns = {STORE_INT8, STORE_INT8, STORE_TEXT, STORE_INT4, STORE_INT8, STORE_INT8, STORE_INT8, STORE_INT8,
                          STORE_TEXT, STORE_TEXT, STORE_FLOAT8_ARRAY, STORE_INT4, STORE_INT8, STORE_INT8, STORE_INT8},
              .text =
                  "SELECT id, task, source, size, coalesce(update_for, -1), coalesce(pin_version, -1), min_version,"
                  " coalesce(replaces, -1), state, coalesce(verdict, ''), advantage, phase, coalesce(pool, -1),"
                  " coalesce(of_episode, -1),"
                  " CASE WHEN replaces IS NULL THEN 0 ELSE (WITH RECURSIVE before AS"
                  "  (SELECT p.replaces, p.verdict FROM episode_group p WHERE p.job = $1 AND p.id = g.replaces UNION ALL"
                  "   SELECT p.replaces, p.verdict FROM before b JOIN episode_group p ON p.job = $1 AND p.id = b.replaces)"
                  "  SELECT count(*) FROM before WHERE verdict = 'refilled') END"
                  " FROM episode_group g WHERE job = $1 AND (state = 'open'"
                  "  OR (state = 'closed' AND verdict IN ('signal', 'no_signal', 'hinted') AND update_for > $2)"
                  "  OR (state = 'closed' AND source = 'demonstration' AND $2 < 0)) ORDER BY id"},
    [COUNTS] = {.name = "group_counts",
                .doc = "the counters that the mirror goes on from",
                .params = {STORE_INT8},
                .columns = {STORE_INT8, STORE_INT8, STORE_INT8, STORE_INT8, STORE_INT8, STORE_INT8, STORE_INT8},
                .text = "SELECT coalesce(max(id), -1) + 1,"
                        " (SELECT coalesce(max(id), -1) + 1 FROM episode WHERE job = $1),"
                        " (SELECT coalesce(max(token), 0) + 1 FROM episode WHERE job = $1),"
                        " count(*) FILTER (WHERE source = 'fresh'),"
                        " count(*) FILTER (WHERE source = 'fresh' AND replaces IS NOT NULL),"
                        " count(*) FILTER (WHERE source = 'demonstration'),"
                        " (SELECT coalesce(sum(e.prompt_tokens::bigint + e.action_tokens), 0)::bigint FROM episode e"
                        "  JOIN episode_group s ON s.job = e.job AND s.id = e.group_id"
                        "  WHERE e.job = $1 AND e.state = 'done' AND s.source <> 'evaluation')"
                        " FROM episode_group WHERE job = $1"},
    [STREAKS] = {.name = "group_void_streaks",
                 .doc = "void groups of tasks since their last closed one",
                 .params = {STORE_INT8},
                 .columns = {STORE_INT8, STORE_INT8},
                 .text = "WITH closed AS MATERIALIZED (SELECT task, max(closed_at) AS at FROM episode_group"
                         "  WHERE job = $1 AND state = 'closed' GROUP BY task)"
                         " SELECT v.task, count(*) FROM episode_group v LEFT JOIN closed c ON c.task = v.task"
                         " WHERE v.job = $1 AND v.verdict = 'void' AND v.source <> 'evaluation'"
                         " AND (c.at IS NULL OR v.closed_at > c.at) GROUP BY v.task"},
    [DRAWN] = {.name = "group_drawn",
               .doc = "fresh groups per environment",
               .params = {STORE_INT8},
               .columns = {STORE_INT4, STORE_INT8},
               .text = "SELECT t.environment, count(*) FROM episode_group g JOIN task t ON t.job = g.job AND t.id = g.task"
                       " WHERE g.job = $1 AND g.source = 'fresh' GROUP BY t.environment"},
    [ABANDON_EPISODES] = {.name = "group_abandon_episodes",
                          .doc = "voids the open slots of open groups",
                          .params = {STORE_INT8, STORE_INT8},
                          .text = "UPDATE episode e SET state = 'void', outcome = 'cancelled', ended_at = now()"
                                  " FROM episode_group g WHERE e.job = $1 AND g.job = e.job AND g.id = e.group_id"
                                  " AND g.state = 'open' AND ($2 < -1 OR g.pin_version > $2 OR g.source = 'score')"
                                  " AND e.state IN ('pending', 'leased')"},
    [ABANDON_GROUPS] = {.name = "group_abandon",
                        .doc = "voids open groups",
                        .params = {STORE_INT8, STORE_INT8},
                        .text = "UPDATE episode_group SET state = 'void', verdict = 'void', closed_at = now()"
                                " WHERE job = $1 AND state = 'open'"
                                " AND ($2 < -1 OR pin_version > $2 OR source = 'score')"},
    [DROP_EPISODES] = {.name = "group_drop_episodes",
                       .doc = "voids the open slots of a group",
                       .params = {STORE_INT8, STORE_INT8, STORE_TEXT},
                       .text = "UPDATE episode SET state = 'void', outcome = $3, ended_at = now()"
                               " WHERE job = $1 AND group_id = $2 AND state IN ('pending', 'leased')"},
    [DROP_GROUP] = {.name = "group_drop",
                    .doc = "voids a late group",
                    .params = {STORE_INT8, STORE_INT8},
                    .text = "UPDATE episode_group SET state = 'void', verdict = 'stale', closed_at = now()"
                            " WHERE job = $1 AND id = $2 AND state = 'open'"},
};

const struct store_table store_group_table = {"group", statements, sizeof statements / sizeof *statements};

err_t store_group_insert(struct store *store, int64_t job, const struct store_group *groups, size_t count)
{
    AUTO(arena) arena = {0};
    int64_t *ints = arena_array(&arena, int64_t, 9 * count);
    bool *nulls = arena_array(&arena, bool, 4 * count);
    const char **sources = arena_array(&arena, const char *, count);
    if (!ints || !nulls || !sources) return ERR_memory;
    int64_t *ids = ints, *tasks = ints + count, *sizes = ints + 2 * count, *updates = ints + 3 * count;
    int64_t *pins = ints + 4 * count, *mins = ints + 5 * count, *replaces = ints + 6 * count;
    int64_t *phases = ints + 7 * count, *episodes = ints + 8 * count;
    for (size_t i = 0; i < count; i++) {
        const struct store_group *g = &groups[i];
        ids[i] = g->id;
        tasks[i] = g->task;
        sources[i] = g->source;
        sizes[i] = g->size;
        updates[i] = g->update_for;
        pins[i] = g->pin_version;
        mins[i] = g->min_version;
        replaces[i] = g->replaces;
        phases[i] = g->phase;
        episodes[i] = g->of_episode;
        nulls[i] = g->update_for < 0;
        nulls[count + i] = g->pin_version < 0;
        nulls[2 * count + i] = g->replaces < 0;
        nulls[3 * count + i] = g->of_episode < 0;
    }
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[INSERT]);
    store_put_int(&args, job);
    store_put_ints(&args, ids, NULL, count);
    store_put_ints(&args, tasks, NULL, count);
    store_put_texts(&args, sources, count);
    store_put_ints(&args, sizes, NULL, count);
    store_put_ints(&args, updates, nulls, count);
    store_put_ints(&args, pins, nulls + count, count);
    store_put_ints(&args, mins, NULL, count);
    store_put_ints(&args, replaces, nulls + 2 * count, count);
    store_put_ints(&args, phases, NULL, count);
    store_put_ints(&args, episodes, nulls + 3 * count, count);
    return store_run(store, &args, NULL);
}

err_t store_group_close(struct store *store, int64_t job, const struct store_group_close *groups, size_t count)
{
    AUTO(arena) arena = {0};
    size_t all = 0;
    for (size_t i = 0; i < count; i++) all += groups[i].advantage ? groups[i].advantage_count : 0;
    int64_t *ints = arena_array(&arena, int64_t, 5 * count);
    double *sums = arena_array(&arena, double, count + all);
    bool *nulls = arena_array(&arena, bool, all + count);
    const char **texts = arena_array(&arena, const char *, 2 * count);
    if (!ints || !sums || !nulls || !texts) return ERR_memory;
    int64_t *ids = ints, *done = ints + count, *lo = ints + 2 * count, *hi = ints + 3 * count;
    int64_t *pool = ints + 4 * count;
    bool *no_pool = nulls + all;
    double *advantage = sums + count;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        const struct store_group_close *g = &groups[i];
        ids[i] = g->id;
        texts[i] = g->state;
        texts[count + i] = g->verdict;
        done[i] = g->done;
        sums[i] = g->reward_sum;
        lo[i] = (int64_t)at + 1;
        for (size_t k = 0; g->advantage && k < g->advantage_count; k++) {
            nulls[at] = isnan(g->advantage[k]);
            advantage[at++] = g->advantage[k];
        }
        hi[i] = (int64_t)at;
        pool[i] = g->pool;
        no_pool[i] = g->pool < 0;
    }
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[CLOSE]);
    store_put_int(&args, job);
    store_put_ints(&args, ids, NULL, count);
    store_put_texts(&args, texts, count);
    store_put_texts(&args, texts + count, count);
    store_put_ints(&args, done, NULL, count);
    store_put_floats(&args, sums, NULL, count);
    store_put_floats(&args, advantage, nulls, at);
    store_put_ints(&args, lo, NULL, count);
    store_put_ints(&args, hi, NULL, count);
    store_put_ints(&args, pool, no_pool, count);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    if (store_affected(&rows) == count) return ERR_ok;
    return err_set(ERR_conflict, "%zu of %zu groups were open", store_affected(&rows), count);
}

err_t store_group_share(struct store *store, int64_t job, int64_t group, const double *advantage, size_t count)
{
    AUTO(arena) arena = {0};
    bool *nulls = arena_array(&arena, bool, count + 1);
    if (!nulls) return ERR_memory;
    for (size_t i = 0; i < count; i++) nulls[i] = isnan(advantage[i]);
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[SHARE]);
    store_put_int(&args, job);
    store_put_int(&args, group);
    store_put_floats(&args, advantage, nulls, count);
    return store_run(store, &args, NULL);
}

err_t store_group_list(struct store *store, int64_t job, int64_t updates_done, struct arena *arena, struct store_group **ret,
                       size_t *ret_count)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[LIST]);
    store_put_int(&args, job);
    store_put_int(&args, updates_done);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    size_t count = store_row_count(&rows);
    struct store_group *groups = arena_array(arena, struct store_group, count + 1);
    if (!groups) return ERR_memory;
    for (size_t i = 0; i < count; i++) {
        double *advantage = NULL;
        groups[i] = (struct store_group){
            .id = store_get_int(&rows, i, 0),
            .task = store_get_int(&rows, i, 1),
            .source = arena_text(arena, store_get_span(&rows, i, 2)),
            .size = store_get_int(&rows, i, 3),
            .update_for = store_get_int(&rows, i, 4),
            .pin_version = store_get_int(&rows, i, 5),
            .min_version = store_get_int(&rows, i, 6),
            .replaces = store_get_int(&rows, i, 7),
            .state = arena_text(arena, store_get_span(&rows, i, 8)),
            .verdict = arena_text(arena, store_get_span(&rows, i, 9)),
            .phase = store_get_int(&rows, i, 11),
            .pool = store_get_int(&rows, i, 12),
            .of_episode = store_get_int(&rows, i, 13),
            .refills = store_get_int(&rows, i, 14),
        };
        if (!groups[i].source || !groups[i].state || !groups[i].verdict) return ERR_memory;
        TRY(store_get_floats(&rows, i, 10, arena, &advantage, NULL, &groups[i].advantage_count));
        groups[i].advantage = groups[i].advantage_count ? advantage : NULL;
    }
    *ret = groups;
    *ret_count = count;
    return ERR_ok;
}

err_t store_group_counts(struct store *store, int64_t job, struct store_group_counts *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[COUNTS]);
    store_put_int(&args, job);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, "counters"));
    *ret = (struct store_group_counts){store_get_int(&rows, 0, 0), store_get_int(&rows, 0, 1), store_get_int(&rows, 0, 2),
                                       store_get_int(&rows, 0, 3), store_get_int(&rows, 0, 4), store_get_int(&rows, 0, 5),
                                       store_get_int(&rows, 0, 6)};
    return ERR_ok;
}

err_t store_group_void_streaks(struct store *store, int64_t job, struct arena *arena, struct store_void_streak **ret,
                               size_t *ret_count)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[STREAKS]);
    store_put_int(&args, job);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    *ret_count = store_row_count(&rows);
    *ret = arena_array(arena, struct store_void_streak, *ret_count + 1);
    if (!*ret) return ERR_memory;
    for (size_t i = 0; i < *ret_count; i++)
        (*ret)[i] = (struct store_void_streak){store_get_int(&rows, i, 0), store_get_int(&rows, i, 1)};
    return ERR_ok;
}

err_t store_group_drawn(struct store *store, int64_t job, uint64_t *ret, size_t environments)
{
    memset(ret, 0, environments * sizeof *ret);
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[DRAWN]);
    store_put_int(&args, job);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    for (size_t i = 0; i < store_row_count(&rows); i++) {
        int64_t environment = store_get_int(&rows, i, 0);
        if (environment >= 0 && (size_t)environment < environments) ret[environment] = (uint64_t)store_get_int(&rows, i, 1);
    }
    return ERR_ok;
}

static err_t with_episodes(struct store *store, int episodes, int groups, int64_t job, int64_t key)
{
    const int both[] = {episodes, groups};
    for (size_t i = 0; i < 2; i++) {
        AUTO(store_args) args = {0};
        store_args_init(&args, &statements[both[i]]);
        store_put_int(&args, job);
        store_put_int(&args, key);
        TRY(store_run(store, &args, NULL));
    }
    return ERR_ok;
}

err_t store_group_abandon(struct store *store, int64_t job, int64_t pinned_past)
{
    return with_episodes(store, ABANDON_EPISODES, ABANDON_GROUPS, job, pinned_past);
}

err_t store_group_void_slots(struct store *store, int64_t job, int64_t group, const char *outcome)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[DROP_EPISODES]);
    store_put_int(&args, job);
    store_put_int(&args, group);
    store_put_text(&args, outcome);
    return store_run(store, &args, NULL);
}

err_t store_group_drop(struct store *store, int64_t job, int64_t group)
{
    TRY(store_group_void_slots(store, job, group, "stale"));
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[DROP_GROUP]);
    store_put_int(&args, job);
    store_put_int(&args, group);
    return store_run(store, &args, NULL);
}
