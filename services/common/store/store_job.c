#include "services/common/store/store_job.h"

#include "services/common/store/store_internal.h"

enum { INSERT, BY_KEY, CURRENT, QUEUED, STATE, SET_STATE, PROGRESS, SET_TRAINER, SET_PRIORITY, EVENT };

#define JOB_COLUMNS                                                                                                          \
    {                                                                                                                        \
        STORE_INT8, STORE_TEXT, STORE_JSONB, STORE_TEXT, STORE_INT4, STORE_INT8, STORE_INT8                                  \
    }
#define JOB_SELECT "SELECT id, state, spec, coalesce(trainer, ''), lineage, updates_done, version FROM job "

static const struct store_statement statements[] = {
    [INSERT] = {.name = "job_insert",
                .doc = "a new queued job, or nothing when its idempotency key is known",
                .params = {STORE_TEXT, STORE_JSONB, STORE_INT8, STORE_TEXT},
                .columns = {STORE_INT8},
                .text = "INSERT INTO job (name, spec, priority, idempotency_key) VALUES ($1, $2, $3, $4)"
                        " ON CONFLICT (idempotency_key) DO NOTHING RETURNING id"},
    [BY_KEY] = {.name = "job_by_key",
                .doc = "the job of an idempotency key",
                .params = {STORE_TEXT, STORE_JSONB},
                .columns = {STORE_INT8, STORE_BOOL},
                .text = "SELECT id, spec = $2 FROM job WHERE idempotency_key = $1"},
    [CURRENT] = {.name = "job_current",
                 .doc = "the job that holds the stage",
                 .columns = JOB_COLUMNS,
                 .text = JOB_SELECT "WHERE state IN ('starting', 'running', 'paused') ORDER BY id LIMIT 1"},
    [QUEUED] = {.name = "job_queued",
                .doc = "the next job in line",
                .columns = JOB_COLUMNS,
                .text = JOB_SELECT "WHERE state = 'queued' ORDER BY priority DESC, id LIMIT 1"},
    [STATE] = {.name = "job_state",
               .doc = "a job's state",
               .params = {STORE_INT8},
               .columns = {STORE_TEXT},
               .text = "SELECT state FROM job WHERE id = $1"},
    [SET_STATE] = {.name = "job_set_state",
                   .doc = "moves a job; ended_at and the first started_at are set here",
                   .params = {STORE_INT8, STORE_TEXT, STORE_TEXT},
                   .text = "UPDATE job SET state = $2, reason = $3,"
                           " started_at = CASE WHEN $2 = 'running' THEN coalesce(started_at, now()) ELSE started_at END,"
                           " ended_at = CASE WHEN $2 IN ('succeeded', 'failed', 'cancelled') THEN now() END WHERE id = $1"},
    [PROGRESS] = {.name = "job_progress",
                  .doc = "lineage, last update and version; trained_at when an update was recorded",
                  .params = {STORE_INT8, STORE_INT8, STORE_INT8, STORE_INT8, STORE_BOOL},
                  .text = "UPDATE job SET lineage = $2::int, updates_done = $3, version = $4,"
                          " trained_at = CASE WHEN $5 THEN clock_timestamp() ELSE trained_at END WHERE id = $1"},
    [SET_TRAINER] = {.name = "job_set_trainer",
                     .doc = "who owns the lineage",
                     .params = {STORE_INT8, STORE_TEXT},
                     .text = "UPDATE job SET trainer = $2 WHERE id = $1"},
    [SET_PRIORITY] = {.name = "job_set_priority",
                      .doc = "the place in the queue",
                      .params = {STORE_INT8, STORE_INT8},
                      .text = "UPDATE job SET priority = $2 WHERE id = $1"},
    [EVENT] = {.name = "job_event",
               .doc = "the next event of a job; the data manager is the only writer",
               .params = {STORE_INT8, STORE_TEXT, STORE_TEXT, STORE_JSONB},
               .text = "INSERT INTO job_event (job, seq, kind, message, data)"
                       " SELECT $1, coalesce(max(seq), 0) + 1, $2, $3, $4 FROM job_event WHERE job = $1"},
};

const struct store_table store_job_table = {"job", statements, sizeof statements / sizeof *statements};

err_t store_job_insert(struct store *store, const char *name, struct span spec, int64_t priority, struct span key,
                       int64_t *ret_id, bool *ret_created)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[INSERT]);
    store_put_text(&args, name);
    store_put_span(&args, spec);
    store_put_int(&args, priority);
    if (key.size)
        store_put_span(&args, key);
    else
        store_put_null(&args);
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, &args, &rows));
    *ret_created = store_row_count(&rows) == 1;
    if (*ret_created) {
        *ret_id = store_get_int(&rows, 0, 0);
        return ERR_ok;
    }
    AUTO(store_args) known = {0};
    store_args_init(&known, &statements[BY_KEY]);
    store_put_span(&known, key);
    store_put_span(&known, spec);
    AUTO(store_rows) found = {0};
    TRY(store_run_one(store, &known, &found, "job of this idempotency key"));
    *ret_id = store_get_int(&found, 0, 0);
    if (store_get_bool(&found, 0, 1)) return ERR_ok;
    return err_set(ERR_invalid, "the idempotency key is that of job %lld, which is another one", (long long)*ret_id);
}

err_t store_job_current(struct store *store, bool queued, struct arena *arena, struct store_job *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[queued ? QUEUED : CURRENT]);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, queued ? "queued job" : "current job"));
    *ret = (struct store_job){
        .id = store_get_int(&rows, 0, 0),
        .state = arena_text(arena, span_text(store_get_text(&rows, 0, 1))),
        .spec = arena_text(arena, store_get_span(&rows, 0, 2)),
        .trainer = arena_text(arena, span_text(store_get_text(&rows, 0, 3))),
        .lineage = store_get_int(&rows, 0, 4),
        .updates_done = store_get_int(&rows, 0, 5),
        .version = store_get_int(&rows, 0, 6),
    };
    return ret->state && ret->spec && ret->trainer ? ERR_ok : ERR_memory;
}

err_t store_job_state(struct store *store, int64_t job, struct arena *arena, const char **ret_state)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[STATE]);
    store_put_int(&args, job);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, "job"));
    *ret_state = arena_text(arena, span_text(store_get_text(&rows, 0, 0)));
    return *ret_state ? ERR_ok : ERR_memory;
}

err_t store_job_set_state(struct store *store, int64_t job, const char *state, const char *reason)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[SET_STATE]);
    store_put_int(&args, job);
    store_put_text(&args, state);
    store_put_text(&args, reason);
    return store_run(store, &args, NULL);
}

err_t store_job_progress(struct store *store, int64_t job, int64_t lineage, int64_t updates_done, int64_t version,
                         bool trained)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[PROGRESS]);
    store_put_int(&args, job);
    store_put_int(&args, lineage);
    store_put_int(&args, updates_done);
    store_put_int(&args, version);
    store_put_bool(&args, trained);
    return store_run(store, &args, NULL);
}

err_t store_job_set_trainer(struct store *store, int64_t job, const char *identity)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[SET_TRAINER]);
    store_put_int(&args, job);
    store_put_text(&args, identity);
    return store_run(store, &args, NULL);
}

err_t store_job_set_priority(struct store *store, int64_t job, int64_t priority)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[SET_PRIORITY]);
    store_put_int(&args, job);
    store_put_int(&args, priority);
    return store_run(store, &args, NULL);
}

err_t store_job_event(struct store *store, int64_t job, const char *kind, const char *message, const char *data)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[EVENT]);
    store_put_int(&args, job);
    store_put_text(&args, kind);
    store_put_text(&args, message);
    store_put_text(&args, data);
    return store_run(store, &args, NULL);
}
