#include "services/common/store/store_policy.h"

#include "services/common/store/store_internal.h"

enum { PUBLISH, COMMIT, CHECKPOINT, NEWEST, OF_VERSION, START, END, ABANDON, GIVE_UP, OPEN, NEWEST_RESULT, REACHED, LEVELS };

static const struct store_statement statements[] = {
    [PUBLISH] = {.name = "policy_publish",
                 .doc = "a version that can be pulled",
                 .params = {STORE_INT8, STORE_INT8, STORE_INT8, STORE_TEXT, STORE_TEXT, STORE_TEXT},
                 .text = "INSERT INTO policy (job, lineage, version, digest, where_now, role)"
                         " VALUES ($1, $2::int, $3, $4, $5, $6)"
                         " ON CONFLICT (job, lineage, version, role) DO UPDATE SET where_now = excluded.where_now,"
                         " digest = excluded.digest"},
    [COMMIT] = {.name = "policy_commit",
                .doc = "a version with a durable checkpoint",
                .params = {STORE_INT8, STORE_INT8, STORE_INT8, STORE_TEXT, STORE_TEXT, STORE_TEXT, STORE_INT8, STORE_INT8},
                .text = "INSERT INTO policy (job, lineage, version, digest, checkpoint, sha256, size, update, committed_at)"
                        " VALUES ($1, $2::int, $3, $4, $5, $6, $7, $8, now())"
                        " ON CONFLICT (job, lineage, version, role) DO UPDATE SET checkpoint = excluded.checkpoint,"
                        " sha256 = excluded.sha256, size = excluded.size, update = excluded.update,"
                        " committed_at = coalesce(policy.committed_at, excluded.committed_at)"},
    [CHECKPOINT] = {.name = "policy_checkpoint",
                    .doc = "the newest committed checkpoint, later lineages first",
                    .params = {STORE_INT8, STORE_INT8},
                    .columns = {STORE_INT4, STORE_INT8, STORE_INT8, STORE_TEXT, STORE_TEXT, STORE_INT8, STORE_TEXT},
                    .text = "SELECT lineage, version, update, checkpoint, sha256, size, digest FROM policy WHERE job = $1"
                            " AND role = 'policy' AND lineage <= $2 AND committed_at IS NOT NULL"
                            " ORDER BY lineage DESC, update DESC LIMIT 1"},
    [NEWEST] = {.name = "policy_newest",
                .doc = "the newest published version of a lineage",
                .params = {STORE_INT8, STORE_INT8, STORE_TEXT},
                .columns = {STORE_INT4, STORE_INT8, STORE_TEXT, STORE_TEXT},
                .text = "SELECT lineage, version, digest, where_now FROM policy WHERE job = $1 AND lineage = $2 AND role = $3"
                        " AND where_now IS NOT NULL ORDER BY version DESC LIMIT 1"},
    [OF_VERSION] = {.name = "policy_of_version",
                    .doc = "the newest lineage's weights of a version",
                    .params = {STORE_INT8, STORE_INT8},
                    .columns = {STORE_INT4, STORE_INT8, STORE_TEXT, STORE_TEXT},
                    .text = "SELECT lineage, version, digest, where_now FROM policy WHERE job = $1 AND version = $2"
                            " AND role = 'policy' AND where_now IS NOT NULL ORDER BY lineage DESC LIMIT 1"},
    [START] = {.name = "evaluation_start",
               .doc = "an evaluation that begins",
               .params = {STORE_INT8, STORE_INT8, STORE_INT8, STORE_INT8},
               .text = "INSERT INTO evaluation (job, lineage, version, episodes) VALUES ($1, $2::int, $3, $4::int)"
                       " ON CONFLICT DO NOTHING"},
    [END] = {.name = "evaluation_end",
             .doc = "its result",
             .params = {STORE_INT8, STORE_INT8, STORE_INT8, STORE_INT8, STORE_INT8, STORE_JSONB},
             .text = "UPDATE evaluation SET done = $4::int, successes = $5::int, by_level = $6, ended_at = now()"
                     " WHERE job = $1 AND lineage = $2 AND version = $3"},
    [ABANDON] = {.name = "evaluation_abandon",
                 .doc = "evaluations that end without a result",
                 .params = {STORE_INT8, STORE_INT8},
                 .text = "UPDATE evaluation SET ended_at = now() WHERE job = $1 AND version > $2 AND ended_at IS NULL"},
    [GIVE_UP] = {.name = "evaluation_give_up",
                 .doc = "one that ends without a result",
                 .params = {STORE_INT8, STORE_INT8},
                 .text = "UPDATE evaluation SET ended_at = now() WHERE job = $1 AND version = $2 AND ended_at IS NULL"},
    [OPEN] = {.name = "evaluation_open",
              .doc = "evaluations under way",
              .params = {STORE_INT8},
              .columns = {STORE_INT4, STORE_INT8, STORE_INT4},
              .text =
                  "SELECT lineage, version, episodes FROM evaluation WHERE job = $1 AND ended_at IS NULL ORDER BY version"},
    [NEWEST_RESULT] = {.name = "evaluation_newest",
                       .doc = "the result of the newest version that has one",
                       .params = {STORE_INT8, STORE_INT8},
                       .columns = {STORE_INT8, STORE_INT4, STORE_INT4},
                       .text = "SELECT version, done, successes FROM evaluation WHERE job = $1 AND version <= $2"
                               " AND done IS NOT NULL ORDER BY version DESC, lineage DESC LIMIT 1"},
    [REACHED] = {.name = "evaluation_reached",
                 .doc = "results of versions up to one whose success is at least a share",
                 .params = {STORE_INT8, STORE_INT8, STORE_FLOAT8},
                 .columns = {STORE_INT8},
                 .text = "SELECT count(*) FROM evaluation WHERE job = $1 AND version <= $2 AND done > 0"
                         " AND successes / done::float8 >= $3"},
    [LEVELS] = {.name = "evaluation_levels",
                .doc = "results of a version by the tasks' level",
                .params = {STORE_INT8, STORE_INT8, STORE_INT8},
                .columns = {STORE_INT4, STORE_INT8, STORE_INT8},
                /* a version number comes again after a fork: only groups planned since this evaluation began are its own */
                .text =
                    "SELECT t.level, count(*), count(*) FILTER (WHERE e.reward >= 0.5) FROM evaluation v"
                    " JOIN episode_group g ON g.job = v.job AND g.pin_version = v.version AND g.planned_at >= v.started_at"
                    " JOIN task t ON t.job = g.job AND t.id = g.task"
                    " JOIN episode e ON e.job = g.job AND e.group_id = g.id AND e.state = 'done'"
                    " WHERE v.job = $1 AND v.lineage = $2 AND v.version = $3 AND g.state = 'closed'"
                    " GROUP BY t.level ORDER BY t.level"},
};

const struct store_table store_policy_table = {"policy", statements, sizeof statements / sizeof *statements};

err_t store_policy_publish(struct store *store, int64_t job, const struct store_policy *policy)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[PUBLISH]);
    store_put_int(&args, job);
    store_put_int(&args, policy->lineage);
    store_put_int(&args, policy->version);
    store_put_text(&args, policy->digest);
    store_put_text(&args, policy->where);
    store_put_text(&args, policy->role);
    return store_run(store, &args, NULL);
}

err_t store_policy_commit(struct store *store, int64_t job, const struct store_checkpoint *checkpoint)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[COMMIT]);
    store_put_int(&args, job);
    store_put_int(&args, checkpoint->lineage);
    store_put_int(&args, checkpoint->version);
    store_put_text(&args, checkpoint->digest);
    store_put_text(&args, checkpoint->path);
    store_put_text(&args, checkpoint->sha256);
    store_put_int(&args, checkpoint->size);
    store_put_int(&args, checkpoint->update);
    return store_run(store, &args, NULL);
}

err_t store_policy_checkpoint(struct store *store, int64_t job, int64_t lineage, struct arena *arena,
                              struct store_checkpoint *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[CHECKPOINT]);
    store_put_int(&args, job);
    store_put_int(&args, lineage);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, "committed checkpoint"));
    *ret = (struct store_checkpoint){
        .lineage = store_get_int(&rows, 0, 0),
        .version = store_get_int(&rows, 0, 1),
        .update = store_get_int(&rows, 0, 2),
        .path = arena_text(arena, store_get_span(&rows, 0, 3)),
        .sha256 = arena_text(arena, store_get_span(&rows, 0, 4)),
        .size = store_get_int(&rows, 0, 5),
        .digest = arena_text(arena, store_get_span(&rows, 0, 6)),
    };
    return ret->path && ret->sha256 && ret->digest ? ERR_ok : ERR_memory;
}

/* role NULL: the statement has it */
static err_t read_policy(struct store *store, int statement, int64_t job, int64_t key, const char *role, struct arena *arena,
                         struct store_policy *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[statement]);
    store_put_int(&args, job);
    store_put_int(&args, key);
    if (role) store_put_text(&args, role);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, "published policy"));
    *ret = (struct store_policy){.lineage = store_get_int(&rows, 0, 0),
                                 .version = store_get_int(&rows, 0, 1),
                                 .digest = arena_text(arena, store_get_span(&rows, 0, 2)),
                                 .where = arena_text(arena, store_get_span(&rows, 0, 3)),
                                 .role = role ? role : "policy"};
    return ret->digest && ret->where ? ERR_ok : ERR_memory;
}

err_t store_policy_newest(struct store *store, int64_t job, int64_t lineage, const char *role, struct arena *arena,
                          struct store_policy *ret)
{
    return read_policy(store, NEWEST, job, lineage, role, arena, ret);
}

err_t store_policy_of_version(struct store *store, int64_t job, int64_t version, struct arena *arena,
                              struct store_policy *ret)
{
    return read_policy(store, OF_VERSION, job, version, NULL, arena, ret);
}

err_t store_evaluation_start(struct store *store, int64_t job, const struct store_evaluation *evaluation, bool *ret_new)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[START]);
    store_put_int(&args, job);
    store_put_int(&args, evaluation->lineage);
    store_put_int(&args, evaluation->version);
    store_put_int(&args, evaluation->episodes);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    *ret_new = store_affected(&rows) == 1;
    return ERR_ok;
}

err_t store_evaluation_end(struct store *store, int64_t job, const struct store_evaluation *evaluation)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[END]);
    store_put_int(&args, job);
    store_put_int(&args, evaluation->lineage);
    store_put_int(&args, evaluation->version);
    store_put_int(&args, evaluation->done);
    store_put_int(&args, evaluation->successes);
    store_put_text(&args, evaluation->by_level);
    return store_run(store, &args, NULL);
}

static err_t end_without_result(struct store *store, int statement, int64_t job, int64_t version)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[statement]);
    store_put_int(&args, job);
    store_put_int(&args, version);
    return store_run(store, &args, NULL);
}

err_t store_evaluation_abandon(struct store *store, int64_t job, int64_t version)
{
    return end_without_result(store, ABANDON, job, version);
}

err_t store_evaluation_give_up(struct store *store, int64_t job, int64_t version)
{
    return end_without_result(store, GIVE_UP, job, version);
}

err_t store_evaluation_open(struct store *store, int64_t job, struct arena *arena, struct store_open_evaluation **ret,
                            size_t *ret_count)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[OPEN]);
    store_put_int(&args, job);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    *ret_count = store_row_count(&rows);
    *ret = arena_array(arena, struct store_open_evaluation, *ret_count + 1);
    if (!*ret) return ERR_memory;
    for (size_t i = 0; i < *ret_count; i++)
        (*ret)[i] = (struct store_open_evaluation){store_get_int(&rows, i, 0), store_get_int(&rows, i, 1),
                                                   store_get_int(&rows, i, 2)};
    return ERR_ok;
}

err_t store_evaluation_newest(struct store *store, int64_t job, int64_t version, struct store_evaluation *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[NEWEST_RESULT]);
    store_put_int(&args, job);
    store_put_int(&args, version);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, "evaluation with a result"));
    *ret = (struct store_evaluation){
        .version = store_get_int(&rows, 0, 0), .done = store_get_int(&rows, 0, 1), .successes = store_get_int(&rows, 0, 2)};
    return ERR_ok;
}

err_t store_evaluation_reached(struct store *store, int64_t job, int64_t version, double success, bool *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[REACHED]);
    store_put_int(&args, job);
    store_put_int(&args, version);
    store_put_float(&args, success);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, "a count"));
    *ret = store_get_int(&rows, 0, 0) > 0;
    return ERR_ok;
}

err_t store_evaluation_levels(struct store *store, int64_t job, int64_t lineage, int64_t version, struct arena *arena,
                              struct store_level **ret, size_t *ret_count)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[LEVELS]);
    store_put_int(&args, job);
    store_put_int(&args, lineage);
    store_put_int(&args, version);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    *ret_count = store_row_count(&rows);
    *ret = arena_array(arena, struct store_level, *ret_count + 1);
    if (!*ret) return ERR_memory;
    for (size_t i = 0; i < *ret_count; i++)
        (*ret)[i] = (struct store_level){store_get_int(&rows, i, 0), store_get_int(&rows, i, 1), store_get_int(&rows, i, 2)};
    return ERR_ok;
}
