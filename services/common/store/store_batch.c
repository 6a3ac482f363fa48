#include "services/common/store/store_batch.h"

#include "services/common/store/store_internal.h"

enum { INSERT, USE, READ, APPLY, COMMIT, MEMBERS };

static const struct store_statement statements[] = {
    [INSERT] = {.name = "batch_insert",
                .doc = "a batch as handed out",
                .params = {STORE_INT8, STORE_INT8, STORE_INT8, STORE_TEXT, STORE_INT8_ARRAY, STORE_INT8_ARRAY,
                           STORE_INT2_ARRAY, STORE_FLOAT8_ARRAY, STORE_INT8, STORE_INT8, STORE_INT2},
                .text =
                    "INSERT INTO batch (job, lineage, update, kind, state, groups, episodes, pass, advantage, norm_tokens,"
                    " no_signal_groups, passes)"
                    " VALUES ($1, $2::int, $3, $4, 'handed_out', $5, $6, $7, $8, $9, $10::int, $11)"},
    [USE] = {.name = "batch_use",
             .doc = "one use per member and pass",
             .params = {STORE_INT8, STORE_INT8, STORE_INT8, STORE_TEXT, STORE_INT8_ARRAY, STORE_INT2_ARRAY, STORE_INT4},
             .text = "INSERT INTO training_use (job, lineage, update, source, episode, pass)"
                     " SELECT $1, $2::int, $3, $4, u.episode, u.pass + p FROM unnest($5, $6) AS u(episode, pass),"
                     " generate_series(0, $7 - 1) AS p"},
    [READ] = {.name = "batch_read",
              .doc = "the batch of an update in the newest lineage that has one",
              .params = {STORE_INT8, STORE_INT8},
              .columns = {STORE_INT4, STORE_TEXT, STORE_INT8_ARRAY, STORE_INT8_ARRAY, STORE_INT2_ARRAY, STORE_FLOAT8_ARRAY,
                          STORE_INT8, STORE_INT4, STORE_TEXT, STORE_TEXT, STORE_TEXT, STORE_INT2},
              .text = "SELECT lineage, kind, groups, episodes, pass, advantage, norm_tokens, no_signal_groups, state,"
                      " coalesce(outcome, ''), coalesce(digest, ''), passes FROM batch WHERE job = $1 AND update = $2"
                      " ORDER BY lineage DESC LIMIT 1"},
    [APPLY] = {.name = "batch_apply",
               .doc = "an update that was made or skipped",
               .params = {STORE_INT8, STORE_INT8, STORE_INT8, STORE_TEXT, STORE_INT8, STORE_TEXT},
               .columns = {STORE_INT2},
               .text = "UPDATE batch SET state = 'applied', outcome = $4, version = $5, digest = $6, applied_at = now()"
                       " WHERE job = $1 AND lineage = $2 AND update = $3 AND state = 'handed_out' RETURNING passes"},
    [COMMIT] = {.name = "batch_commit",
                .doc = "updates that a checkpoint holds",
                .params = {STORE_INT8, STORE_INT8, STORE_INT8},
                .text = "UPDATE batch SET state = 'committed'"
                        " WHERE job = $1 AND lineage = $2 AND update <= $3 AND state = 'applied'"},
    [MEMBERS] = {.name = "batch_members",
                 .doc = "what the members of a batch are",
                 .params = {STORE_INT8, STORE_INT8_ARRAY},
                 .columns = {STORE_INT8, STORE_INT4, STORE_INT8, STORE_BOOL, STORE_FLOAT8},
                 .text = "SELECT e.group_id, e.action_tokens, coalesce(e.version_min, -1), g.verdict IS DISTINCT FROM"
                         " 'no_signal', e.reward FROM unnest($2) WITH ORDINALITY AS u(id, n)"
                         " JOIN episode e ON e.job = $1 AND e.id = u.id"
                         " JOIN episode_group g ON g.job = e.job AND g.id = e.group_id ORDER BY u.n"},
};

const struct store_table store_batch_table = {"batch", statements, sizeof statements / sizeof *statements};

err_t store_batch_insert(struct store *store, int64_t job, const struct store_batch *batch)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[INSERT]);
    store_put_int(&args, job);
    store_put_int(&args, batch->lineage);
    store_put_int(&args, batch->update);
    store_put_text(&args, batch->kind);
    store_put_ints(&args, batch->groups, NULL, batch->group_count);
    store_put_ints(&args, batch->episodes, NULL, batch->episode_count);
    store_put_ints(&args, batch->pass, NULL, batch->episode_count);
    store_put_floats(&args, batch->advantage, NULL, batch->episode_count);
    store_put_int(&args, batch->norm_tokens);
    store_put_int(&args, batch->no_signal_groups);
    store_put_int(&args, batch->passes);
    TRY(store_run(store, &args, NULL));
    AUTO(store_args) uses = {0};
    store_args_init(&uses, &statements[USE]);
    store_put_int(&uses, job);
    store_put_int(&uses, batch->lineage);
    store_put_int(&uses, batch->update);
    store_put_text(&uses, strcmp(batch->kind, "warmstart") == 0 ? "demonstration" : "fresh");
    store_put_ints(&uses, batch->episodes, NULL, batch->episode_count);
    store_put_ints(&uses, batch->pass, NULL, batch->episode_count);
    store_put_int(&uses, batch->passes);
    return store_run(store, &uses, NULL);
}

err_t store_batch_read(struct store *store, int64_t job, int64_t update, struct arena *arena, struct store_batch *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[READ]);
    store_put_int(&args, job);
    store_put_int(&args, update);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, "batch of this update"));
    size_t passes = 0, advantages = 0;
    *ret = (struct store_batch){
        .lineage = store_get_int(&rows, 0, 0),
        .update = update,
        .kind = arena_text(arena, store_get_span(&rows, 0, 1)),
        .norm_tokens = store_get_int(&rows, 0, 6),
        .no_signal_groups = store_get_int(&rows, 0, 7),
        .state = arena_text(arena, store_get_span(&rows, 0, 8)),
        .outcome = arena_text(arena, store_get_span(&rows, 0, 9)),
        .digest = arena_text(arena, store_get_span(&rows, 0, 10)),
        .passes = store_get_int(&rows, 0, 11),
    };
    if (!ret->kind || !ret->state || !ret->outcome || !ret->digest) return ERR_memory;
    TRY(store_get_ints(&rows, 0, 2, arena, &ret->groups, NULL, &ret->group_count));
    TRY(store_get_ints(&rows, 0, 3, arena, &ret->episodes, NULL, &ret->episode_count));
    TRY(store_get_ints(&rows, 0, 4, arena, &ret->pass, NULL, &passes));
    return store_get_floats(&rows, 0, 5, arena, &ret->advantage, NULL, &advantages);
}

err_t store_batch_apply(struct store *store, int64_t job, int64_t lineage, int64_t update, const char *outcome,
                        int64_t version, const char *digest, int64_t *ret_passes)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[APPLY]);
    store_put_int(&args, job);
    store_put_int(&args, lineage);
    store_put_int(&args, update);
    store_put_text(&args, outcome);
    store_put_int(&args, version);
    store_put_text(&args, digest);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    *ret_passes = store_row_count(&rows) == 1 ? store_get_int(&rows, 0, 0) : -1;
    return ERR_ok;
}

err_t store_batch_commit(struct store *store, int64_t job, int64_t lineage, int64_t update)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[COMMIT]);
    store_put_int(&args, job);
    store_put_int(&args, lineage);
    store_put_int(&args, update);
    return store_run(store, &args, NULL);
}

err_t store_batch_members(struct store *store, int64_t job, const int64_t *episodes, size_t count, struct arena *arena,
                          struct store_member **ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[MEMBERS]);
    store_put_int(&args, job);
    store_put_ints(&args, episodes, NULL, count);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    if (store_row_count(&rows) != count)
        return err_set(ERR_not_found, "%zu of %zu members are in the ledger", store_row_count(&rows), count);
    struct store_member *members = arena_array(arena, struct store_member, count + 1);
    if (!members) return ERR_memory;
    for (size_t i = 0; i < count; i++)
        members[i] = (struct store_member){store_get_int(&rows, i, 0), store_get_int(&rows, i, 1), store_get_int(&rows, i, 2),
                                           store_get_bool(&rows, i, 3), store_get_float(&rows, i, 4)};
    *ret = members;
    return ERR_ok;
}
