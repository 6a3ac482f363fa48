/* What the REST interface reads, as JSON that PostgreSQL makes (docs/rest.md): every answer is bounded. */
#ifndef PAL_STORE_STORE_READ_H
#define PAL_STORE_STORE_READ_H

#include "services/common/store/store.h"

#define STORE_READ_MOST 1000 /* rows of one answer */

/* All append one JSON value to `out`. ERR_not_found where a single thing is asked for. */
err_t store_read_jobs(struct store *store, const char *state, int64_t before, int64_t limit, struct buf *out) MUST_USE;
err_t store_read_job(struct store *store, int64_t job, struct buf *out) MUST_USE;
err_t store_read_events(struct store *store, int64_t job, int64_t after, int64_t limit, struct buf *out) MUST_USE;
/* names: comma-separated, "" for all. One row per update: the history that led to the weights of now; what a lineage said
 * that was forked away is there only with `all`, as rows of their own. */
err_t store_read_metrics(struct store *store, int64_t job, const char *names, int64_t from, int64_t limit, bool all,
                         struct buf *out) MUST_USE;
err_t store_read_tasks(struct store *store, int64_t job, int64_t after, int64_t limit, struct buf *out) MUST_USE;

struct store_episode_filter {
    const char *source;  /* "" for all */
    const char *outcome; /* an outcome class; success | failure: done with reward at least, below 0.5; "" for all */
    int64_t version;     /* group's pinned version, -1 for all */
    int64_t before;      /* ids below this */
    int64_t limit;
};
/* Newest first. */
err_t store_read_episodes(struct store *store, int64_t job, const struct store_episode_filter *filter,
                          struct buf *out) MUST_USE;
err_t store_read_episode(struct store *store, int64_t job, int64_t episode, struct buf *out) MUST_USE;
err_t store_read_decisions(struct store *store, int64_t job, int64_t after, int64_t limit, struct buf *out) MUST_USE;
err_t store_read_checkpoints(struct store *store, int64_t job, struct buf *out) MUST_USE;
err_t store_read_evaluations(struct store *store, int64_t job, bool all, struct buf *out) MUST_USE; /* all: as of metrics */
/* The resolved job file. */
err_t store_read_spec(struct store *store, int64_t job, struct buf *out) MUST_USE;
/* The compressed sequence of an episode; ERR_not_found when it has none. */
err_t store_read_payload(struct store *store, int64_t job, int64_t episode, struct buf *out, int64_t *ret_raw_size) MUST_USE;
/* The successes that the pool of a job draws from, or would if it had one (curation.dart). */
err_t store_read_pool(struct store *store, int64_t job, int64_t after, int64_t limit, struct buf *out) MUST_USE;
err_t store_read_ping(struct store *store) MUST_USE; /* the schema is there */
/* Statements of this connection take at most so long, and their answers are waited for little longer: for a reader that must
 * answer meanwhile. */
err_t store_read_hurry(struct store *store, int ms) MUST_USE;

#endif
