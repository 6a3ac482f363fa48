#include "services/common/store/store_phase.h"

#include "services/common/store/store_internal.h"

enum { FAILED, SUCCESSES, REPLAYS, VERIFIED, OUTCOMES };

static const struct store_statement statements[] = {
    [FAILED] = {.name = "phase_failed",
                .doc = "tasks that failed in a phase",
                .params = {STORE_INT8, STORE_INT8},
                .columns = {STORE_INT8},
                .text = "SELECT g.task FROM episode_group g JOIN episode e ON e.job = g.job AND e.group_id = g.id"
                        " AND e.state = 'done' AND NOT e.hinted WHERE g.job = $1 AND g.source = 'fresh' AND g.phase = $2"
                        " AND g.state = 'closed' GROUP BY g.task"
                        " HAVING count(*) FILTER (WHERE e.reward >= 0.5) * 2 < count(*) ORDER BY g.task"},
    [SUCCESSES] =
        {.name = "phase_successes",
         .doc = "the first plain success of each task before a phase, not measured for it yet",
         .params = {STORE_INT8, STORE_INT8, STORE_BOOL},
         .columns = {STORE_INT8, STORE_INT8},
         .text = "SELECT f.id, f.task FROM (SELECT DISTINCT ON (g.task) g.task, e.id FROM episode_group g"
                 "  JOIN episode e ON e.job = g.job AND e.group_id = g.id AND e.state = 'done' AND NOT e.hinted"
                 "   AND e.reward >= 0.5 WHERE g.job = $1 AND g.source = 'fresh' AND g.phase < $2"
                 "   AND g.verdict = 'signal' AND ($3 OR g.advantage[e.slot + 1] > 0) ORDER BY g.task, e.id) f"
                 /* what a fork broke off is asked for again, what could not be measured is not */
                 " WHERE NOT EXISTS (SELECT 1 FROM episode_group s JOIN episode m ON m.job = s.job AND m.group_id = s.id"
                 "  WHERE s.job = $1 AND s.of_episode = f.id AND s.phase = $2"
                 "  AND (s.state <> 'void' OR m.outcome <> 'cancelled')) ORDER BY f.task"},
    [REPLAYS] = {.name = "phase_replays",
                 .doc = "successes whose perplexity was measured for a phase",
                 .params = {STORE_INT8, STORE_INT8},
                 .columns = {STORE_INT8, STORE_INT8, STORE_FLOAT8, STORE_INT8, STORE_INT4, STORE_INT8, STORE_INT8,
                             STORE_FLOAT8, STORE_FLOAT8},
                 .text = "SELECT e.id, e.group_id, (m.scores ->> 'perplexity')::float8,"
                         " (SELECT count(DISTINCT u.update) FROM training_use u WHERE u.job = e.job AND u.episode = e.id"
                         "  AND u.source = 'replay'), e.action_tokens, coalesce(e.version_min, -1),"
                         " coalesce((SELECT count(*) FROM unnest(e.turn_tokens) AS t(n) WHERE t.n > 0), e.steps)::bigint,"
                         " e.reward, coalesce(g.advantage[e.slot + 1], 0) FROM episode_group s"
                         " JOIN episode m ON m.job = s.job AND m.group_id = s.id AND m.state = 'done'"
                         " JOIN episode e ON e.job = s.job AND e.id = s.of_episode"
                         " JOIN episode_group g ON g.job = e.job AND g.id = e.group_id"
                         " WHERE s.job = $1 AND s.source = 'score' AND s.state = 'closed' AND s.phase = $2 ORDER BY e.id"},
    [VERIFIED] = {.name = "phase_verified",
                  .doc = "the newest plain episodes with the environment's own reward",
                  .params = {STORE_INT8, STORE_INT8, STORE_INT8},
                  .columns = {STORE_INT8},
                  .text = "SELECT id FROM (SELECT e.id FROM episode e JOIN episode_group g ON g.job = e.job"
                          "  AND g.id = e.group_id WHERE e.job = $1 AND e.state = 'done' AND NOT e.hinted"
                          "  AND e.verified IS NULL AND g.source = 'fresh' AND g.state = 'closed' AND g.update_for <= $2"
                          "  ORDER BY e.id DESC LIMIT $3) n ORDER BY id"},
    [OUTCOMES] = {.name = "phase_outcomes",
                  .doc = "task and reward of episodes, in the order of the ids",
                  .params = {STORE_INT8, STORE_INT8_ARRAY},
                  .columns = {STORE_INT8, STORE_FLOAT8},
                  .text = "SELECT g.task, e.reward FROM unnest($2) WITH ORDINALITY AS u(id, n)"
                          " JOIN episode e ON e.job = $1 AND e.id = u.id"
                          " JOIN episode_group g ON g.job = e.job AND g.id = e.group_id ORDER BY u.n"},
};

const struct store_table store_phase_table = {"phase", statements, sizeof statements / sizeof *statements};

/* The first column of the rows. */
static err_t ids_of(const struct store_rows *rows, struct arena *arena, int64_t **ret, size_t *ret_count)
{
    *ret_count = store_row_count(rows);
    *ret = arena_array(arena, int64_t, *ret_count + 1);
    if (!*ret) return ERR_memory;
    for (size_t i = 0; i < *ret_count; i++) (*ret)[i] = store_get_int(rows, i, 0);
    return ERR_ok;
}

err_t store_phase_failed(struct store *store, int64_t job, int64_t phase, struct arena *arena, int64_t **ret,
                         size_t *ret_count)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[FAILED]);
    store_put_int(&args, job);
    store_put_int(&args, phase);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    return ids_of(&rows, arena, ret, ret_count);
}

err_t store_phase_successes(struct store *store, int64_t job, int64_t phase, bool by_value, struct arena *arena,
                            struct store_success **ret, size_t *ret_count)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[SUCCESSES]);
    store_put_int(&args, job);
    store_put_int(&args, phase);
    store_put_bool(&args, by_value);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    *ret_count = store_row_count(&rows);
    *ret = arena_array(arena, struct store_success, *ret_count + 1);
    if (!*ret) return ERR_memory;
    for (size_t i = 0; i < *ret_count; i++)
        (*ret)[i] = (struct store_success){store_get_int(&rows, i, 0), store_get_int(&rows, i, 1)};
    return ERR_ok;
}

err_t store_phase_replays(struct store *store, int64_t job, int64_t phase, struct arena *arena, struct store_replay **ret,
                          size_t *ret_count)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[REPLAYS]);
    store_put_int(&args, job);
    store_put_int(&args, phase);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    *ret_count = store_row_count(&rows);
    *ret = arena_array(arena, struct store_replay, *ret_count + 1);
    if (!*ret) return ERR_memory;
    for (size_t i = 0; i < *ret_count; i++)
        (*ret)[i] = (struct store_replay){
            .episode = store_get_int(&rows, i, 0),
            .group = store_get_int(&rows, i, 1),
            .perplexity = store_get_float(&rows, i, 2),
            .uses = store_get_int(&rows, i, 3),
            .action_tokens = store_get_int(&rows, i, 4),
            .version_min = store_get_int(&rows, i, 5),
            .turns = store_get_int(&rows, i, 6),
            .reward = store_get_float(&rows, i, 7),
            .advantage = store_get_float(&rows, i, 8),
        };
    return ERR_ok;
}

err_t store_phase_verified(struct store *store, int64_t job, int64_t update, int64_t most, struct arena *arena, int64_t **ret,
                           size_t *ret_count)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[VERIFIED]);
    store_put_int(&args, job);
    store_put_int(&args, update);
    store_put_int(&args, most);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    return ids_of(&rows, arena, ret, ret_count);
}

err_t store_phase_outcomes(struct store *store, int64_t job, const int64_t *episodes, size_t count, struct arena *arena,
                           struct store_outcome **ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[OUTCOMES]);
    store_put_int(&args, job);
    store_put_ints(&args, episodes, NULL, count);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    if (store_row_count(&rows) != count)
        return err_set(ERR_not_found, "%zu of %zu episodes are in the ledger", store_row_count(&rows), count);
    *ret = arena_array(arena, struct store_outcome, count + 1);
    if (!*ret) return ERR_memory;
    for (size_t i = 0; i < count; i++)
        (*ret)[i] = (struct store_outcome){store_get_int(&rows, i, 0), store_get_float(&rows, i, 1)};
    return ERR_ok;
}
