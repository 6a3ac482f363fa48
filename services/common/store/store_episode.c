#include "services/common/store/store_episode.h"

#include "services/common/store/store_internal.h"

enum { ROWS, INSERT, LEASE, END, PAYLOAD, LIST, READ, IMPORTED };

static const struct store_statement statements[] = {
    [ROWS] = {.name = "episode_rows",
              .doc = "episodes of all jobs, as of the last statistics",
              .columns = {STORE_INT8},
              .text = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'episode'::regclass"},
    [INSERT] = {.name = "episode_insert",
                .doc = "planned slots, one set",
                .params = {STORE_INT8, STORE_INT8_ARRAY, STORE_INT8_ARRAY, STORE_INT4_ARRAY, STORE_TEXT_ARRAY,
                           STORE_INT8_ARRAY, STORE_TEXT_ARRAY, STORE_INT8_ARRAY, STORE_INT4_ARRAY, STORE_INT4_ARRAY,
                           STORE_TEXT_ARRAY},
                .text = "INSERT INTO episode (job, id, group_id, slot, state, token, worker, seed, max_steps, hinted, script,"
                        " leased_at) SELECT $1, u.id, u.group_id, u.slot, u.state, u.token, u.worker, u.seed, u.max_steps,"
                        " u.hinted = 1, u.script, CASE WHEN u.state = 'leased' THEN now() END"
                        " FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
                        " AS u(id, group_id, slot, state, token, worker, seed, max_steps, hinted, script)"},
    [LEASE] = {.name = "episode_lease",
               .doc = "pending slots that are leased, one set",
               .params = {STORE_INT8, STORE_INT8_ARRAY, STORE_INT4_ARRAY, STORE_INT8_ARRAY, STORE_TEXT_ARRAY,
                          STORE_INT8_ARRAY},
               .text = "UPDATE episode e SET state = 'leased', attempt = u.attempt, token = u.token, worker = u.worker,"
                       " seed = u.seed, leased_at = now() FROM unnest($2, $3, $4, $5, $6)"
                       " AS u(id, attempt, token, worker, seed)"
                       " WHERE e.job = $1 AND e.id = u.id AND e.state = 'pending'"},
    [END] =
        {.name = "episode_end",
         .doc = "ends of attempts, one set; entropies and tokens of all turns in an array each, cut by lo and hi",
         .params = {STORE_INT8,         STORE_INT8_ARRAY,   STORE_INT8_ARRAY,   STORE_TEXT_ARRAY,   STORE_TEXT_ARRAY,
                    STORE_INT4_ARRAY,   STORE_FLOAT8_ARRAY, STORE_INT4_ARRAY,   STORE_INT4_ARRAY,   STORE_INT4_ARRAY,
                    STORE_INT8_ARRAY,   STORE_INT8_ARRAY,   STORE_FLOAT4_ARRAY, STORE_INT4_ARRAY,   STORE_INT4_ARRAY,
                    STORE_FLOAT4_ARRAY, STORE_FLOAT4_ARRAY, STORE_TEXT_ARRAY,   STORE_FLOAT4_ARRAY, STORE_INT4_ARRAY,
                    STORE_FLOAT8_ARRAY, STORE_TEXT_ARRAY},
         .text =
             "UPDATE episode e SET state = u.state, outcome = u.outcome, ended_at = now(),"
             " failures = CASE WHEN u.failed = 1 THEN e.failures || u.outcome ELSE e.failures END,"
             " attempt = e.attempt + CASE WHEN u.state = 'pending' THEN 1 ELSE 0 END,"
             " reward = u.reward, steps = u.steps, prompt_tokens = u.prompt, action_tokens = u.action,"
             " version_min = u.vmin, version_max = u.vmax, turn_entropy = CASE WHEN u.hi >= u.lo THEN ($13)[u.lo:u.hi] END,"
             " turn_tokens = CASE WHEN u.hi >= u.lo AND u.told = 1 THEN ($19)[u.lo:u.hi] END,"
             " engine_ms = u.engine_ms, env_ms = u.env_ms, error = u.error, verified = u.verified, scores = u.scores::jsonb"
             " FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $14, $15, $16, $17, $18, $20, $21, $22)"
             " AS u(id, token, state, outcome, failed, reward, steps, prompt, action, vmin, vmax, lo, hi, engine_ms,"
             " env_ms, error, told, verified, scores)"
             " WHERE e.job = $1 AND e.id = u.id AND e.token = u.token AND e.state = 'leased'"},
    [PAYLOAD] = {.name = "episode_payload",
                 .doc = "payloads of done episodes, one set",
                 .params = {STORE_INT8, STORE_INT8_ARRAY, STORE_INT4_ARRAY, STORE_BYTEA_ARRAY},
                 .text = "INSERT INTO episode_payload (job, episode, raw_size, bytes) SELECT $1, * FROM unnest($2, $3, $4)"},
    [LIST] = {.name = "episode_list",
              .doc = "slots of groups",
              .params = {STORE_INT8, STORE_INT8_ARRAY},
              .columns = {STORE_INT8,       STORE_INT8,   STORE_INT4, STORE_TEXT,         STORE_INT4,
                          STORE_INT8,       STORE_TEXT,   STORE_INT8, STORE_INT4,         STORE_TEXT,
                          STORE_TEXT_ARRAY, STORE_FLOAT8, STORE_INT4, STORE_INT4,         STORE_INT4,
                          STORE_INT8,       STORE_BOOL,   STORE_TEXT, STORE_FLOAT4_ARRAY, STORE_FLOAT4_ARRAY},
              .text =
                  "SELECT id, group_id, slot, state, attempt, token, coalesce(worker, ''), seed, max_steps,"
                  " coalesce(outcome, ''), failures, reward, steps, prompt_tokens, action_tokens, coalesce(version_min, -1),"
                  " hinted, coalesce(script, ''), turn_entropy, turn_tokens FROM episode WHERE job = $1 AND group_id = ANY "
                  "($2) ORDER BY group_id, slot"},
    [READ] = {.name = "payload_read",
              .doc = "payloads in the order of the ids",
              .params = {STORE_INT8, STORE_INT8_ARRAY},
              .columns = {STORE_INT8, STORE_INT4, STORE_BYTEA},
              .text = "SELECT p.episode, p.raw_size, p.bytes FROM unnest($2) WITH ORDINALITY AS u(id, n)"
                      " JOIN episode_payload p ON p.job = $1 AND p.episode = u.id ORDER BY u.n"},
    [IMPORTED] = {.name = "episode_imported",
                  .doc = "which scripts were imported for their tasks before",
                  .params = {STORE_INT8, STORE_INT8_ARRAY, STORE_TEXT_ARRAY},
                  .columns = {STORE_BOOL},
                  .text = "SELECT EXISTS (SELECT 1 FROM episode_group g JOIN episode e ON e.job = g.job AND e.group_id = g.id"
                          " WHERE g.job = $1 AND g.task = u.task AND g.source = 'import' AND e.state <> 'void'"
                          " AND e.script = u.script) FROM unnest($2, $3) WITH ORDINALITY AS u(task, script, n) ORDER BY u.n"},
};

const struct store_table store_episode_table = {"episode", statements, sizeof statements / sizeof *statements};

err_t store_episode_rows(struct store *store, uint64_t *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[ROWS]);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, "the table of episodes"));
    *ret = (uint64_t)store_get_int(&rows, 0, 0);
    return ERR_ok;
}

err_t store_episode_insert(struct store *store, int64_t job, const struct store_episode *episodes, size_t count)
{
    AUTO(arena) arena = {0};
    int64_t *ints = arena_array(&arena, int64_t, 7 * count);
    const char **texts = arena_array(&arena, const char *, 3 * count);
    if (!ints || !texts) return ERR_memory;
    int64_t *ids = ints, *groups = ints + count, *slots = ints + 2 * count, *tokens = ints + 3 * count;
    int64_t *seeds = ints + 4 * count, *steps = ints + 5 * count, *hinted = ints + 6 * count;
    for (size_t i = 0; i < count; i++) {
        const struct store_episode *e = &episodes[i];
        ids[i] = e->id;
        groups[i] = e->group;
        slots[i] = e->slot;
        texts[i] = e->leased ? "leased" : "pending";
        tokens[i] = e->token;
        texts[count + i] = e->leased ? e->worker : NULL;
        seeds[i] = e->seed;
        steps[i] = e->max_steps;
        hinted[i] = e->hinted;
        texts[2 * count + i] = e->script && *e->script ? e->script : NULL;
    }
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[INSERT]);
    store_put_int(&args, job);
    store_put_ints(&args, ids, NULL, count);
    store_put_ints(&args, groups, NULL, count);
    store_put_ints(&args, slots, NULL, count);
    store_put_texts(&args, texts, count);
    store_put_ints(&args, tokens, NULL, count);
    store_put_texts(&args, texts + count, count);
    store_put_ints(&args, seeds, NULL, count);
    store_put_ints(&args, steps, NULL, count);
    store_put_ints(&args, hinted, NULL, count);
    store_put_texts(&args, texts + 2 * count, count);
    return store_run(store, &args, NULL);
}

static err_t all_changed(const struct store_rows *rows, size_t count, const char *what)
{
    if (store_affected(rows) == count) return ERR_ok;
    return err_set(ERR_conflict, "%zu of %zu episodes were %s", store_affected(rows), count, what);
}

err_t store_episode_lease(struct store *store, int64_t job, const struct store_episode *episodes, size_t count)
{
    AUTO(arena) arena = {0};
    int64_t *ints = arena_array(&arena, int64_t, 4 * count);
    const char **workers = arena_array(&arena, const char *, count);
    if (!ints || !workers) return ERR_memory;
    for (size_t i = 0; i < count; i++) {
        ints[i] = episodes[i].id;
        ints[count + i] = episodes[i].attempt;
        ints[2 * count + i] = episodes[i].token;
        ints[3 * count + i] = episodes[i].seed;
        workers[i] = episodes[i].worker;
    }
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[LEASE]);
    store_put_int(&args, job);
    store_put_ints(&args, ints, NULL, count);
    store_put_ints(&args, ints + count, NULL, count);
    store_put_ints(&args, ints + 2 * count, NULL, count);
    store_put_texts(&args, workers, count);
    store_put_ints(&args, ints + 3 * count, NULL, count);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    return all_changed(&rows, count, "pending");
}

/* the end's columns as arrays */
struct end_columns {
    int64_t *ids, *tokens, *failed, *steps, *prompt, *action, *vmin, *vmax, *lo, *hi, *told;
    double *reward, *engine_ms, *env_ms, *verified, *entropy, *turn_tokens;
    bool *no_reward, *no_vmin, *no_vmax, *no_verified;
    const char **state, **outcome, **error, **scores;
};

static bool end_columns_take(struct end_columns *c, struct arena *arena, size_t n, size_t turns)
{
    int64_t **const ints[] = {&c->ids,  &c->tokens, &c->failed, &c->steps, &c->prompt, &c->action,
                              &c->vmin, &c->vmax,   &c->lo,     &c->hi,    &c->told};
    double **const reals[] = {&c->reward, &c->engine_ms, &c->env_ms, &c->verified};
    bool **const flags[] = {&c->no_reward, &c->no_vmin, &c->no_vmax, &c->no_verified};
    const char ***const texts[] = {&c->state, &c->outcome, &c->error, &c->scores};
    bool good = true;
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) good &= (*ints[i] = arena_array(arena, int64_t, n)) != NULL;
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) good &= (*reals[i] = arena_array(arena, double, n)) != NULL;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) good &= (*flags[i] = arena_array(arena, bool, n)) != NULL;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        good &= (*texts[i] = arena_array(arena, const char *, n)) != NULL;
    c->entropy = arena_array(arena, double, turns + 1);
    c->turn_tokens = arena_array(arena, double, turns + 1);
    return good && c->entropy && c->turn_tokens;
}

static void end_columns_set(struct end_columns *c, size_t i, const struct store_episode_end *end, size_t *turn)
{
    c->ids[i] = end->id;
    c->tokens[i] = end->token;
    c->failed[i] = end->failed;
    c->steps[i] = end->steps;
    c->prompt[i] = end->prompt_tokens;
    c->action[i] = end->action_tokens;
    c->vmin[i] = end->version_min;
    c->vmax[i] = end->version_max;
    c->no_vmin[i] = end->version_min < 0;
    c->no_vmax[i] = end->version_max < 0;
    c->reward[i] = end->reward;
    c->no_reward[i] = strcmp(end->state, "done") != 0;
    c->engine_ms[i] = end->engine_ms;
    c->env_ms[i] = end->env_ms;
    c->state[i] = end->state;
    c->outcome[i] = end->outcome;
    c->error[i] = end->error[0] ? end->error : NULL;
    c->verified[i] = end->verified;
    c->no_verified[i] = !end->judged;
    c->scores[i] = end->scores;
    c->told[i] = end->turn_tokens != NULL;
    c->lo[i] = (int64_t)*turn + 1;
    for (size_t t = 0; t < end->turns; t++) {
        c->turn_tokens[*turn] = end->turn_tokens ? (double)end->turn_tokens[t] : 0;
        c->entropy[(*turn)++] = (double)end->turn_entropy[t];
    }
    c->hi[i] = (int64_t)*turn;
}

/* At most so many bytes of payloads in one statement (one payload may be more): libpq moves what a socket did not take to the
 * front of its buffer each time, which is quadratic in the size of a message. */
#define PAYLOAD_SET_BYTES ((size_t)1 << 20)

static err_t write_payload_set(struct store *store, int64_t job, const int64_t *ids, const int64_t *raw,
                               const struct span *bytes, size_t count)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[PAYLOAD]);
    store_put_int(&args, job);
    store_put_ints(&args, ids, NULL, count);
    store_put_ints(&args, raw, NULL, count);
    store_put_spans(&args, bytes, NULL, count);
    return store_run(store, &args, NULL);
}

static err_t write_payloads(struct store *store, int64_t job, const struct store_episode_end *ends, size_t count)
{
    AUTO(arena) arena = {0};
    int64_t *ids = arena_array(&arena, int64_t, 2 * count), *raw = ids + count;
    struct span *bytes = arena_array(&arena, struct span, count);
    size_t n = 0, size = 0;
    if (!ids || !bytes) return ERR_memory;
    for (size_t i = 0; i < count; i++) {
        if (ends[i].payload.size == 0) continue;
        if (n && size + ends[i].payload.size > PAYLOAD_SET_BYTES) {
            TRY(write_payload_set(store, job, ids, raw, bytes, n));
            n = size = 0;
        }
        ids[n] = ends[i].id;
        raw[n] = ends[i].payload_raw;
        bytes[n++] = ends[i].payload;
        size += ends[i].payload.size;
    }
    return n ? write_payload_set(store, job, ids, raw, bytes, n) : ERR_ok;
}

err_t store_episode_end(struct store *store, int64_t job, const struct store_episode_end *ends, size_t count)
{
    AUTO(arena) arena = {0};
    size_t turns = 0, turn = 0;
    for (size_t i = 0; i < count; i++) turns += ends[i].turns;
    struct end_columns c = {0};
    if (!end_columns_take(&c, &arena, count, turns)) return ERR_memory;
    for (size_t i = 0; i < count; i++) end_columns_set(&c, i, &ends[i], &turn);
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[END]);
    store_put_int(&args, job);
    store_put_ints(&args, c.ids, NULL, count);
    store_put_ints(&args, c.tokens, NULL, count);
    store_put_texts(&args, c.state, count);
    store_put_texts(&args, c.outcome, count);
    store_put_ints(&args, c.failed, NULL, count);
    store_put_floats(&args, c.reward, c.no_reward, count);
    store_put_ints(&args, c.steps, NULL, count);
    store_put_ints(&args, c.prompt, NULL, count);
    store_put_ints(&args, c.action, NULL, count);
    store_put_ints(&args, c.vmin, c.no_vmin, count);
    store_put_ints(&args, c.vmax, c.no_vmax, count);
    store_put_floats(&args, c.entropy, NULL, turn);
    store_put_ints(&args, c.lo, NULL, count);
    store_put_ints(&args, c.hi, NULL, count);
    store_put_floats(&args, c.engine_ms, NULL, count);
    store_put_floats(&args, c.env_ms, NULL, count);
    store_put_texts(&args, c.error, count);
    store_put_floats(&args, c.turn_tokens, NULL, turn);
    store_put_ints(&args, c.told, NULL, count);
    store_put_floats(&args, c.verified, c.no_verified, count);
    store_put_texts(&args, c.scores, count);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    TRY(all_changed(&rows, count, "leased under their token"));
    return write_payloads(store, job, ends, count);
}

err_t store_episode_list(struct store *store, int64_t job, const int64_t *groups, size_t count, struct arena *arena,
                         struct store_episode **ret, size_t *ret_count)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[LIST]);
    store_put_int(&args, job);
    store_put_ints(&args, groups, NULL, count);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    size_t n = store_row_count(&rows);
    struct store_episode *episodes = arena_array(arena, struct store_episode, n + 1);
    if (!episodes) return ERR_memory;
    for (size_t i = 0; i < n; i++) {
        struct store_episode *e = &episodes[i];
        *e = (struct store_episode){
            .id = store_get_int(&rows, i, 0),
            .group = store_get_int(&rows, i, 1),
            .slot = store_get_int(&rows, i, 2),
            .state = arena_text(arena, store_get_span(&rows, i, 3)),
            .attempt = store_get_int(&rows, i, 4),
            .token = store_get_int(&rows, i, 5),
            .worker = arena_text(arena, store_get_span(&rows, i, 6)),
            .seed = store_get_int(&rows, i, 7),
            .max_steps = store_get_int(&rows, i, 8),
            .outcome = arena_text(arena, store_get_span(&rows, i, 9)),
            .reward = store_is_null(&rows, i, 11) ? 0 : store_get_float(&rows, i, 11),
            .steps = store_get_int(&rows, i, 12),
            .prompt_tokens = store_get_int(&rows, i, 13),
            .action_tokens = store_get_int(&rows, i, 14),
            .version_min = store_get_int(&rows, i, 15),
            .hinted = store_get_bool(&rows, i, 16),
            .script = arena_text(arena, store_get_span(&rows, i, 17)),
        };
        if (!e->state || !e->worker || !e->outcome || !e->script) return ERR_memory;
        TRY(store_get_spans(&rows, i, 10, arena, &e->failures, &e->failure_count));
        TRY(store_get_floats(&rows, i, 18, arena, &e->turn_entropy, NULL, &e->turns));
        TRY(store_get_floats(&rows, i, 19, arena, &e->turn_tokens, NULL, &e->turns_told));
    }
    *ret = episodes;
    *ret_count = n;
    return ERR_ok;
}

err_t store_payload_read(struct store *store, int64_t job, const int64_t *episodes, size_t count, struct arena *arena,
                         struct store_payload *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[READ]);
    store_put_int(&args, job);
    store_put_ints(&args, episodes, NULL, count);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    if (store_row_count(&rows) != count)
        return err_set(ERR_not_found, "%zu of %zu payloads are in the ledger", store_row_count(&rows), count);
    for (size_t i = 0; i < count; i++) {
        struct span bytes = store_get_span(&rows, i, 2);
        uint8_t *copy = arena_take(arena, bytes.size + 1, 1);
        if (!copy) return ERR_memory;
        if (bytes.size) memcpy(copy, bytes.data, bytes.size);
        ret[i] = (struct store_payload){store_get_int(&rows, i, 0), store_get_int(&rows, i, 1), span_of(copy, bytes.size)};
    }
    return ERR_ok;
}

err_t store_episode_imported(struct store *store, int64_t job, const int64_t *tasks, const char *const *scripts, size_t count,
                             bool *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[IMPORTED]);
    store_put_int(&args, job);
    store_put_ints(&args, tasks, NULL, count);
    store_put_texts(&args, scripts, count);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    BUG_IF(store_row_count(&rows) != count);
    for (size_t i = 0; i < count; i++) ret[i] = store_get_bool(&rows, i, 0);
    return ERR_ok;
}
