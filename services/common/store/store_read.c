#include "services/common/store/store_read.h"

#include "services/common/store/store_link.h"

#include <stdio.h>

enum {
    JOBS,
    JOB,
    EVENTS,
    METRICS,
    TASKS,
    EPISODES,
    EPISODE,
    DECISIONS,
    CHECKPOINTS,
    EVALUATIONS,
    SPEC,
    PAYLOAD,
    POOL,
    PING,
    HURRY
};

#define JOB_FIELDS                                                                                                           \
    "j.id, j.name, j.state, j.reason, j.priority, j.lineage, j.updates_done AS update, j.version, j.created_at, "            \
    "j.started_at,"                                                                                                          \
    " j.trained_at, j.ended_at, extract(epoch FROM j.trained_at - j.started_at)::float8 AS train_seconds"
/* One history: what lineages that were forked away said about later versions and updates is left out, unless all is asked
 * for. A later lineage says everything after its fork again, and what it has not reached yet is past the job's own version.
 */
#define LIVING_EVALUATIONS(job, all)                                                                                         \
    "SELECT DISTINCT ON (e.version, CASE WHEN " all " THEN e.lineage END) e.* FROM evaluation e JOIN job ON job.id = e.job"  \
    " WHERE e.job = " job " AND (" all " OR e.version <= job.version)"                                                       \
    " ORDER BY e.version, CASE WHEN " all " THEN e.lineage END, e.lineage DESC"
#define ROWS(select) "SELECT coalesce(jsonb_agg(to_jsonb(r)), '[]')::text FROM (" select ") r"

static const struct store_statement statements[] = {
    [JOBS] = {.name = "read_jobs",
              .doc = "jobs, newest first",
              .params = {STORE_TEXT, STORE_INT8, STORE_INT8},
              .columns = {STORE_TEXT},
              .text = ROWS("SELECT " JOB_FIELDS " FROM job j WHERE ($1 = '' OR j.state = $1) AND ($2 < 0 OR j.id < $2)"
                           " ORDER BY j.id DESC LIMIT $3")},
    [JOB] = {.name = "read_job",
             .doc = "one job with its counts and evaluations",
             .params = {STORE_INT8},
             .columns = {STORE_TEXT},
             .text =
                 "SELECT to_jsonb(r)::text FROM (SELECT " JOB_FIELDS ", j.spec,"
                 " (SELECT jsonb_build_object('done', count(*) FILTER (WHERE e.state = 'done'),"
                 "  'open', count(*) FILTER (WHERE e.state IN ('pending', 'leased')),"
                 "  'void', count(*) FILTER (WHERE e.state = 'void'),"
                 "  'retried', coalesce(sum(cardinality(e.failures)), 0),"
                 "  'tokens', coalesce(sum(e.prompt_tokens + e.action_tokens), 0)) FROM episode e WHERE e.job = j.id)"
                 " AS episodes,"
                 " (SELECT count(*) FROM batch b WHERE b.job = j.id AND b.update > 0 AND b.lineage = j.lineage"
                 "  AND b.state <> 'handed_out') AS updates_of_lineage,"
                 " (SELECT coalesce(jsonb_agg(jsonb_build_object('lineage', v.lineage, 'version', v.version, 'done', v.done,"
                 "  'successes', v.successes, 'by_level', v.by_level) ORDER BY v.version), '[]')"
                 "  FROM (" LIVING_EVALUATIONS(
                     "j.id", "false") ") v WHERE v.done IS NOT NULL) AS evaluations,"
                                      " (SELECT p.checkpoint FROM policy p WHERE p.job = j.id AND p.committed_at IS NOT NULL"
                                      "  ORDER BY p.lineage DESC, p.version DESC LIMIT 1) AS checkpoint"
                                      " FROM job j WHERE j.id = $1) r"},
    [EVENTS] = {.name = "read_events",
                .doc = "events after a number",
                .params = {STORE_INT8, STORE_INT8, STORE_INT8},
                .columns = {STORE_TEXT},
                .text = ROWS("SELECT seq, at, kind, message, data FROM job_event WHERE job = $1 AND seq > $2 ORDER BY seq"
                             " LIMIT $3")},
    [METRICS] = {.name = "read_metrics",
                 .doc = "metrics by update: one history, or that of all lineages",
                 .params = {STORE_INT8, STORE_TEXT, STORE_INT8, STORE_INT8, STORE_BOOL},
                 .columns = {STORE_TEXT},
                 .text = ROWS("SELECT m.update, m.lineage, jsonb_object_agg(m.name, m.value) AS values FROM"
                              " (SELECT b.update, max(b.lineage) AS newest FROM batch b JOIN job j ON j.id = b.job"
                              "  WHERE b.job = $1 AND b.state <> 'handed_out' AND b.update >= $3"
                              "  AND ($5 OR b.update <= j.updates_done) GROUP BY b.update) a"
                              " JOIN metric m ON m.job = $1 AND m.update = a.update AND ($5 OR m.lineage = a.newest)"
                              " WHERE $2 = '' OR m.name = ANY (string_to_array($2, ','))"
                              " GROUP BY m.update, m.lineage ORDER BY m.update, m.lineage LIMIT $4")},
    [TASKS] = {.name = "read_tasks",
               .doc = "tasks by id",
               .params = {STORE_INT8, STORE_INT8, STORE_INT8},
               .columns = {STORE_TEXT},
               .text =
                   ROWS("SELECT t.id, t.environment, t.split, t.level, t.body, t.hint, t.source, t.state, t.parent, t.phase,"
                        " (SELECT to_jsonb(s) - 'job' - 'task' FROM task_score s WHERE s.job = t.job AND s.task = t.id"
                        "  ORDER BY s.lineage DESC, s.version DESC LIMIT 1) AS score"
                        " FROM task t WHERE t.job = $1 AND t.id > $2 ORDER BY t.id LIMIT $3")},
    [EPISODES] = {.name = "read_episodes",
                  .doc = "episodes, newest first",
                  .params = {STORE_INT8, STORE_TEXT, STORE_TEXT, STORE_INT8, STORE_INT8, STORE_INT8},
                  .columns = {STORE_TEXT},
                  .text =
                      ROWS("SELECT e.id, e.group_id AS \"group\", g.task, g.source, e.slot, e.state, e.attempt, e.outcome,"
                           " e.failures, e.error, e.reward, e.steps, e.prompt_tokens, e.action_tokens, e.version_min,"
                           " e.version_max, g.update_for AS update, g.pin_version, e.worker, e.leased_at, e.ended_at"
                           " FROM episode e JOIN episode_group g ON g.job = e.job AND g.id = e.group_id WHERE e.job = $1"
                           " AND ($2 = '' OR g.source = $2) AND ($3 = '' OR e.outcome = $3"
                           "  OR ($3 = 'success' AND e.reward >= 0.5) OR ($3 = 'failure' AND e.reward < 0.5))"
                           " AND ($4 < 0 OR g.pin_version = $4) AND ($5 < 0 OR e.id < $5) ORDER BY e.id DESC LIMIT $6")},
    [EPISODE] =
        {.name = "read_episode",
         .doc = "an episode's whole life",
         .params = {STORE_INT8, STORE_INT8},
         .columns = {STORE_TEXT},
         .text =
             "SELECT to_jsonb(r)::text FROM (SELECT e.id, e.slot, e.state, e.attempt, e.token, e.outcome, e.failures,"
             " e.error, e.reward, e.hinted, e.steps, e.prompt_tokens, e.action_tokens, e.version_min, e.version_max,"
             " e.turn_entropy, e.engine_ms, e.env_ms, e.seed, e.worker, e.max_steps, e.leased_at, e.ended_at,"
             " g.advantage[e.slot + 1] AS advantage, (to_jsonb(g) - 'job') AS \"group\","
             " (to_jsonb(t) - 'job') AS task,"
             " (SELECT coalesce(jsonb_agg(to_jsonb(d) - 'job' ORDER BY d.id), '[]') FROM decision d WHERE d.job ="
             " e.job AND ((d.subject = 'episode' AND d.key = e.id) OR (d.subject = 'group' AND d.key = g.id)"
             " OR (d.subject = 'task' AND d.key = t.id)))"
             " AS decisions,"
             " (SELECT coalesce(jsonb_agg(jsonb_build_object('lineage', u.lineage, 'update', u.update, 'pass',"
             " u.pass, 'source', u.source, 'state', b.state, 'outcome', b.outcome, 'version', b.version, 'digest', b.digest,"
             " 'handed_out_at', b.handed_out_at, 'applied_at', b.applied_at, 'published_at', p.published_at,"
             " 'checkpoint', p.checkpoint) ORDER BY u.lineage, u.pass), '[]') FROM training_use u JOIN batch b"
             " ON b.job = u.job AND b.lineage = u.lineage AND b.update = u.update LEFT JOIN policy p ON p.job = b.job"
             " AND p.lineage = b.lineage AND p.version = b.version AND p.role = 'policy'"
             " WHERE u.job = e.job AND u.episode = e.id) AS trained"
             " FROM episode e JOIN episode_group g ON g.job = e.job AND g.id = e.group_id"
             " JOIN task t ON t.job = g.job AND t.id = g.task WHERE e.job = $1 AND e.id = $2) r"},
    [DECISIONS] = {.name = "read_decisions",
                   .doc = "decisions by id",
                   .params = {STORE_INT8, STORE_INT8, STORE_INT8},
                   .columns = {STORE_TEXT},
                   .text = ROWS("SELECT id, at, subject, key, rule, verdict, inputs FROM decision WHERE job = $1 AND id > $2"
                                " ORDER BY id LIMIT $3")},
    [CHECKPOINTS] = {.name = "read_checkpoints",
                     .doc = "committed versions",
                     .params = {STORE_INT8},
                     .columns = {STORE_TEXT},
                     .text = ROWS("SELECT lineage, version, update, digest, checkpoint AS path, sha256, size, committed_at"
                                  " FROM policy WHERE job = $1 AND committed_at IS NOT NULL ORDER BY lineage, version"
                                  " LIMIT 1000")},
    [EVALUATIONS] = {.name = "read_evaluations",
                     .doc = "evaluations by version: one history, or that of all lineages",
                     .params = {STORE_INT8, STORE_BOOL},
                     .columns = {STORE_TEXT},
                     .text = ROWS("SELECT lineage, version, episodes, done, successes, by_level, started_at, ended_at FROM"
                                  " (" LIVING_EVALUATIONS("$1", "$2") ") v ORDER BY version, lineage LIMIT 1000")},
    [SPEC] = {.name = "read_spec",
              .doc = "the resolved job",
              .params = {STORE_INT8},
              .columns = {STORE_TEXT},
              .text = "SELECT spec::text FROM job WHERE id = $1"},
    [PAYLOAD] = {.name = "read_payload",
                 .doc = "an episode's compressed sequence",
                 .params = {STORE_INT8, STORE_INT8},
                 .columns = {STORE_INT4, STORE_BYTEA},
                 .text = "SELECT raw_size, bytes FROM episode_payload WHERE job = $1 AND episode = $2"},
    [POOL] = {.name = "read_pool",
              .doc = "successes that the pool draws from, by episode",
              .params = {STORE_INT8, STORE_INT8, STORE_INT8},
              .columns = {STORE_TEXT},
              .text =
                  ROWS("SELECT p.id AS episode, p.task, t.environment, t.level, p.source, p.reward, p.steps,"
                       " p.version_min AS version, p.ended_at, t.body, p.script, (SELECT count(*) FROM episode_group d"
                       "  WHERE d.job = $1 AND d.task = p.task AND d.pool = p.id) AS drawn FROM"
                       " (SELECT e.id, g.task, g.source, e.reward, e.steps, e.version_min, e.ended_at, e.script,"
                       "   row_number() OVER (PARTITION BY g.task, g.source ORDER BY e.id DESC) AS n FROM episode_group g"
                       "   JOIN episode e ON e.job = g.job AND e.group_id = g.id WHERE g.job = $1 AND g.state = 'closed'"
                       "   AND g.source IN ('fresh', 'import') AND e.state = 'done' AND NOT e.hinted AND e.reward >= 0.5) p"
                       " JOIN job j ON j.id = $1 JOIN task t ON t.job = $1 AND t.id = p.task WHERE p.id > $2"
                       " AND p.n <= CASE p.source WHEN 'import' THEN 1024"
                       "  ELSE greatest(32, (j.spec #>> '{curation,dart,cap_window}')::int) END ORDER BY p.id LIMIT $3")},
    [PING] = {.name = "read_ping",
              .doc = "the schema is there",
              .columns = {STORE_INT8},
              .text = "SELECT epoch FROM data_epoch"},
    [HURRY] = {.name = "read_hurry",
               .doc = "how long a statement may take",
               .params = {STORE_TEXT},
               .columns = {STORE_TEXT},
               .text = "SELECT set_config('statement_timeout', $1, false)"},
};

const struct store_table store_read_table = {"read", statements, sizeof statements / sizeof *statements};

/* Runs a statement of one text column and one row, appending it. */
static err_t read_text(struct store *store, struct store_args *args, const char *what, struct buf *out)
{
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, args, &rows, what));
    struct span text = store_get_span(&rows, 0, 0);
    return buf_append(out, text.data, text.size);
}

static int64_t bounded(int64_t limit)
{
    return limit < 1 ? 1 : limit > STORE_READ_MOST ? STORE_READ_MOST : limit;
}

err_t store_read_jobs(struct store *store, const char *state, int64_t before, int64_t limit, struct buf *out)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[JOBS]);
    store_put_text(&args, state);
    store_put_int(&args, before);
    store_put_int(&args, bounded(limit));
    return read_text(store, &args, "jobs", out);
}

/* Statements whose parameters are all integers. */
static err_t read_ints(struct store *store, int statement, const int64_t *values, size_t count, const char *what,
                       struct buf *out)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[statement]);
    for (size_t i = 0; i < count; i++) store_put_int(&args, values[i]);
    return read_text(store, &args, what, out);
}

err_t store_read_job(struct store *store, int64_t job, struct buf *out)
{
    return read_ints(store, JOB, &job, 1, "job", out);
}

err_t store_read_events(struct store *store, int64_t job, int64_t after, int64_t limit, struct buf *out)
{
    return read_ints(store, EVENTS, (const int64_t[]){job, after, bounded(limit)}, 3, "events", out);
}

err_t store_read_metrics(struct store *store, int64_t job, const char *names, int64_t from, int64_t limit, bool all,
                         struct buf *out)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[METRICS]);
    store_put_int(&args, job);
    store_put_text(&args, names);
    store_put_int(&args, from);
    store_put_int(&args, bounded(limit));
    store_put_bool(&args, all);
    return read_text(store, &args, "metrics", out);
}

err_t store_read_tasks(struct store *store, int64_t job, int64_t after, int64_t limit, struct buf *out)
{
    return read_ints(store, TASKS, (const int64_t[]){job, after, bounded(limit)}, 3, "tasks", out);
}

err_t store_read_episodes(struct store *store, int64_t job, const struct store_episode_filter *filter, struct buf *out)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[EPISODES]);
    store_put_int(&args, job);
    store_put_text(&args, filter->source);
    store_put_text(&args, filter->outcome);
    store_put_int(&args, filter->version);
    store_put_int(&args, filter->before);
    store_put_int(&args, bounded(filter->limit));
    return read_text(store, &args, "episodes", out);
}

err_t store_read_episode(struct store *store, int64_t job, int64_t episode, struct buf *out)
{
    return read_ints(store, EPISODE, (const int64_t[]){job, episode}, 2, "episode", out);
}

err_t store_read_decisions(struct store *store, int64_t job, int64_t after, int64_t limit, struct buf *out)
{
    return read_ints(store, DECISIONS, (const int64_t[]){job, after, bounded(limit)}, 3, "decisions", out);
}

err_t store_read_checkpoints(struct store *store, int64_t job, struct buf *out)
{
    return read_ints(store, CHECKPOINTS, &job, 1, "checkpoints", out);
}

err_t store_read_evaluations(struct store *store, int64_t job, bool all, struct buf *out)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[EVALUATIONS]);
    store_put_int(&args, job);
    store_put_bool(&args, all);
    return read_text(store, &args, "evaluations", out);
}

err_t store_read_spec(struct store *store, int64_t job, struct buf *out)
{
    return read_ints(store, SPEC, &job, 1, "job", out);
}

err_t store_read_payload(struct store *store, int64_t job, int64_t episode, struct buf *out, int64_t *ret_raw_size)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[PAYLOAD]);
    store_put_int(&args, job);
    store_put_int(&args, episode);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, "payload"));
    struct span bytes = store_get_span(&rows, 0, 1);
    *ret_raw_size = store_get_int(&rows, 0, 0);
    return buf_append(out, bytes.data, bytes.size);
}

err_t store_read_pool(struct store *store, int64_t job, int64_t after, int64_t limit, struct buf *out)
{
    return read_ints(store, POOL, (const int64_t[]){job, after, bounded(limit)}, 3, "pool", out);
}

err_t store_read_ping(struct store *store)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[PING]);
    AUTO(store_rows) rows = {0};
    return store_run_one(store, &args, &rows, "schema");
}

#define HURRY_GRACE_MS 1000

err_t store_read_hurry(struct store *store, int ms)
{
    char text[16];
    AUTO(store_args) args = {0};
    AUTO(store_rows) rows = {0};
    (void)snprintf(text, sizeof text, "%d", ms);
    store_args_init(&args, &statements[HURRY]);
    store_put_text(&args, text);
    TRY(store_run_one(store, &args, &rows, "statement_timeout"));
    store->patience_ms = ms + HURRY_GRACE_MS;
    return ERR_ok;
}
