#include "services/common/store/store_batch.h"

#include "services/common/store/store_internal.h"

#include <jansson.h>
#include <stdio.h>

enum { INSERT, USE, READ, APPLY, COMMIT, MEMBERS, PASSES, SKIPS };

static const struct store_statement statements[] = {
    [INSERT] = {.name = "batch_insert",
                .doc = "a batch as handed out",
                .params = {STORE_INT8, STORE_INT8, STORE_INT8, STORE_TEXT, STORE_INT8_ARRAY, STORE_INT8_ARRAY,
                           STORE_INT2_ARRAY, STORE_FLOAT8_ARRAY, STORE_INT8, STORE_INT8, STORE_TEXT_ARRAY, STORE_INT8_ARRAY,
                           STORE_JSONB, STORE_INT8, STORE_BOOL, STORE_INT8, STORE_INT8_ARRAY},
                .text =
                    "INSERT INTO batch (job, lineage, update, kind, state, groups, episodes, pass, advantage, norm_tokens,"
                    " no_signal_groups, source, member_group, dropped, phase, phase_end, passes, judged)"
                    " VALUES ($1, $2::int, $3, $4, 'handed_out', $5, $6, $7, $8, $9, $10::int, $11, $12, $13, $14::int, $15,"
                    " $16::smallint, $17)"},
    [USE] = {.name = "batch_use",
             .doc = "one use per member and pass",
             .params = {STORE_INT8, STORE_INT8, STORE_INT8, STORE_TEXT_ARRAY, STORE_INT8_ARRAY, STORE_INT2_ARRAY, STORE_INT4},
             .text = "INSERT INTO training_use (job, lineage, update, source, episode, pass)"
                     " SELECT $1, $2::int, $3, u.source, u.episode, u.pass + p FROM unnest($4, $5, $6)"
                     " AS u(source, episode, pass), generate_series(0, $7 - 1) AS p"},
    [READ] = {.name = "batch_read",
              .doc = "the batch of an update in the newest lineage that has one",
              .params = {STORE_INT8, STORE_INT8},
              .columns = {STORE_INT4, STORE_TEXT, STORE_INT8_ARRAY, STORE_INT8_ARRAY, STORE_INT2_ARRAY, STORE_FLOAT8_ARRAY,
                          STORE_INT8, STORE_INT4, STORE_TEXT, STORE_TEXT, STORE_TEXT, STORE_TEXT_ARRAY, STORE_INT8_ARRAY,
                          STORE_JSONB, STORE_INT4, STORE_BOOL, STORE_INT2, STORE_INT8_ARRAY},
              .text = "SELECT lineage, kind, groups, episodes, pass, advantage, norm_tokens, no_signal_groups, state,"
                      " coalesce(outcome, ''), coalesce(digest, ''), source, member_group, dropped, phase, phase_end, passes,"
                      " judged FROM batch WHERE job = $1 AND update = $2 ORDER BY lineage DESC LIMIT 1"},
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
                 .params = {STORE_INT8, STORE_INT8_ARRAY, STORE_INT8_ARRAY},
                 .columns = {STORE_INT4, STORE_INT8, STORE_BOOL, STORE_FLOAT8, STORE_FLOAT4_ARRAY, STORE_INT4},
                 .text = "SELECT e.action_tokens, coalesce(e.version_min, -1), g.verdict IS DISTINCT FROM 'no_signal',"
                         " e.reward, e.turn_tokens, e.steps FROM unnest($2, $3) WITH ORDINALITY AS u(id, gid, n)"
                         " JOIN episode e ON e.job = $1 AND e.id = u.id"
                         " JOIN episode_group g ON g.job = e.job AND g.id = u.gid ORDER BY u.n"},
    [PASSES] = {.name = "batch_passes",
                .doc = "first unused pass of each episode, past those of every lineage",
                .params = {STORE_INT8, STORE_INT8_ARRAY},
                .columns = {STORE_INT8},
                .text = "SELECT coalesce((SELECT max(t.pass) FROM training_use t WHERE t.job = $1 AND t.episode = u.id), 0)"
                        " + 1::bigint FROM unnest($2) WITH ORDINALITY AS u(id, n) ORDER BY u.n"},
    [SKIPS] = {.name = "batch_skips",
               .doc = "how many of the newest updates that were not discarded were skipped in a row, up to a most",
               .params = {STORE_INT8, STORE_INT8, STORE_INT8},
               .columns = {STORE_INT8},
               .text = "WITH newest AS (SELECT DISTINCT ON (update) update, outcome, passes FROM batch"
                       "  WHERE job = $1 AND update <= $2 AND update > $2 - $3 ORDER BY update, lineage DESC)"
                       " SELECT count(*) FROM newest WHERE outcome = 'skipped' AND passes > 0 AND update > coalesce("
                       "(SELECT max(update) FROM newest WHERE outcome IS DISTINCT FROM 'skipped' AND passes > 0), -1)"},
};

const struct store_table store_batch_table = {"batch", statements, sizeof statements / sizeof *statements};

/* {"2": [0, 3], ...}: turns by the member's place; nothing where no turn is dropped. */
static err_t write_dropped(const struct store_batch *batch, struct buf *out)
{
    bool some = false;
    for (size_t i = 0; batch->dropped && i < batch->episode_count; i++) {
        const struct store_turns *turns = &batch->dropped[i];
        if (turns->n == 0) continue;
        TRY(buf_printf(out, "%s\"%zu\": [", some ? ", " : "{", i));
        some = true;
        for (size_t t = 0; t < turns->n; t++) TRY(buf_printf(out, "%s%llu", t ? ", " : "", (unsigned long long)turns->v[t]));
        TRY(buf_text(out, "]"));
    }
    return some ? buf_text(out, "}") : ERR_ok;
}

err_t store_batch_insert(struct store *store, int64_t job, const struct store_batch *batch)
{
    AUTO(buf) dropped = {0};
    TRY(write_dropped(batch, &dropped));
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
    store_put_texts(&args, batch->source, batch->episode_count);
    store_put_ints(&args, batch->member_group, NULL, batch->episode_count);
    store_put_text(&args, dropped.size ? buf_chars(&dropped) : NULL);
    store_put_int(&args, batch->phase);
    store_put_bool(&args, batch->phase_end);
    store_put_int(&args, batch->passes);
    store_put_ints(&args, batch->judged, NULL, batch->judged_count);
    TRY(store_run(store, &args, NULL));
    AUTO(store_args) uses = {0};
    store_args_init(&uses, &statements[USE]);
    store_put_int(&uses, job);
    store_put_int(&uses, batch->lineage);
    store_put_int(&uses, batch->update);
    store_put_texts(&uses, batch->source, batch->episode_count);
    store_put_ints(&uses, batch->episodes, NULL, batch->episode_count);
    store_put_ints(&uses, batch->pass, NULL, batch->episode_count);
    store_put_int(&uses, batch->passes);
    return store_run(store, &uses, NULL);
}

/* The source of each member: the texts of a set are followed by a zero byte. */
static err_t read_sources(const struct store_rows *rows, struct arena *arena, struct store_batch *ret)
{
    struct span *sources = NULL;
    size_t count = 0;
    TRY(store_get_spans(rows, 0, 11, arena, &sources, &count));
    if (count != ret->episode_count)
        return err_set(ERR_conflict, "a batch of %zu members has %zu sources", ret->episode_count, count);
    ret->source = arena_array(arena, const char *, count + 1);
    if (!ret->source) return ERR_memory;
    for (size_t i = 0; i < count; i++) ret->source[i] = (const char *)sources[i].data;
    return ERR_ok;
}

static err_t read_turns(const json_t *from, struct arena *arena, struct store_turns *ret)
{
    ret->n = json_array_size(from);
    ret->v = arena_array(arena, uint64_t, ret->n + 1);
    if (!ret->v) return ERR_memory;
    for (size_t i = 0; i < ret->n; i++) ret->v[i] = (uint64_t)json_integer_value(json_array_get(from, i));
    return ERR_ok;
}

static err_t read_dropped(const struct store_rows *rows, struct arena *arena, struct store_batch *ret)
{
    if (store_is_null(rows, 0, 13)) return ERR_ok;
    struct span text = store_get_span(rows, 0, 13);
    json_t *root = json_loadb((const char *)text.data, text.size, 0, NULL);
    if (!root) return err_set(ERR_database, "the dropped turns of a batch are not JSON");
    ret->dropped = arena_array(arena, struct store_turns, ret->episode_count + 1);
    err_t err = ret->dropped ? ERR_ok : ERR_memory;
    for (size_t i = 0; err == ERR_ok && i < ret->episode_count; i++) {
        char place[24];
        (void)snprintf(place, sizeof place, "%zu", i);
        err = read_turns(json_object_get(root, place), arena, &ret->dropped[i]);
    }
    json_decref(root);
    return err;
}

err_t store_batch_read(struct store *store, int64_t job, int64_t update, struct arena *arena, struct store_batch *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[READ]);
    store_put_int(&args, job);
    store_put_int(&args, update);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, "batch of this update"));
    size_t passes = 0, advantages = 0, groups = 0;
    *ret = (struct store_batch){
        .lineage = store_get_int(&rows, 0, 0),
        .update = update,
        .kind = arena_text(arena, store_get_span(&rows, 0, 1)),
        .norm_tokens = store_get_int(&rows, 0, 6),
        .no_signal_groups = store_get_int(&rows, 0, 7),
        .state = arena_text(arena, store_get_span(&rows, 0, 8)),
        .outcome = arena_text(arena, store_get_span(&rows, 0, 9)),
        .digest = arena_text(arena, store_get_span(&rows, 0, 10)),
        .phase = store_get_int(&rows, 0, 14),
        .phase_end = store_get_bool(&rows, 0, 15),
        .passes = store_get_int(&rows, 0, 16),
    };
    if (!ret->kind || !ret->state || !ret->outcome || !ret->digest) return ERR_memory;
    TRY(store_get_ints(&rows, 0, 2, arena, &ret->groups, NULL, &ret->group_count));
    TRY(store_get_ints(&rows, 0, 3, arena, &ret->episodes, NULL, &ret->episode_count));
    TRY(store_get_ints(&rows, 0, 4, arena, &ret->pass, NULL, &passes));
    TRY(store_get_floats(&rows, 0, 5, arena, &ret->advantage, NULL, &advantages));
    TRY(store_get_ints(&rows, 0, 12, arena, &ret->member_group, NULL, &groups));
    TRY(store_get_ints(&rows, 0, 17, arena, &ret->judged, NULL, &ret->judged_count));
    TRY(read_sources(&rows, arena, ret));
    TRY(read_dropped(&rows, arena, ret));
    if (passes == ret->episode_count && advantages == passes && groups == passes) return ERR_ok;
    return err_set(ERR_conflict, "the batch of update %lld has %zu members, %zu groups of them", (long long)update,
                   ret->episode_count, groups);
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

err_t store_batch_members(struct store *store, int64_t job, const struct store_batch *batch, struct arena *arena,
                          struct store_member **ret)
{
    size_t count = batch->episode_count;
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[MEMBERS]);
    store_put_int(&args, job);
    store_put_ints(&args, batch->episodes, NULL, count);
    store_put_ints(&args, batch->member_group, NULL, count);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    if (store_row_count(&rows) != count)
        return err_set(ERR_not_found, "%zu of %zu members are in the ledger", store_row_count(&rows), count);
    struct store_member *members = arena_array(arena, struct store_member, count + 1);
    if (!members) return ERR_memory;
    for (size_t i = 0; i < count; i++) {
        members[i] = (struct store_member){.action_tokens = store_get_int(&rows, i, 0),
                                           .version_min = store_get_int(&rows, i, 1),
                                           .signal = store_get_bool(&rows, i, 2),
                                           .reward = store_get_float(&rows, i, 3),
                                           .steps = store_get_int(&rows, i, 5)};
        TRY(store_get_floats(&rows, i, 4, arena, &members[i].turn_tokens, NULL, &members[i].turns));
    }
    *ret = members;
    return ERR_ok;
}

err_t store_batch_passes(struct store *store, int64_t job, const int64_t *episodes, size_t count, int64_t *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[PASSES]);
    store_put_int(&args, job);
    store_put_ints(&args, episodes, NULL, count);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    BUG_IF(store_row_count(&rows) != count);
    for (size_t i = 0; i < count; i++) ret[i] = store_get_int(&rows, i, 0);
    return ERR_ok;
}

err_t store_batch_skips(struct store *store, int64_t job, int64_t update, int64_t most, int64_t *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[SKIPS]);
    store_put_int(&args, job);
    store_put_int(&args, update);
    store_put_int(&args, most);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, "a count"));
    *ret = store_get_int(&rows, 0, 0);
    return ERR_ok;
}
