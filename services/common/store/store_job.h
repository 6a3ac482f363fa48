/* Jobs and their events in the ledger. */
#ifndef PAL_STORE_STORE_JOB_H
#define PAL_STORE_STORE_JOB_H

#include "services/common/store/store.h"

struct store_job {
    int64_t id;
    const char *state;
    const char *spec;    /* JSON */
    const char *trainer; /* identity that owns the lineage, "" for none yet */
    int64_t lineage;
    int64_t updates_done;
    int64_t version;
};

/* ret_created false: the key was known and *ret_id is that job; ERR_invalid when that job's spec is another one. key "" is
 * none. */
err_t store_job_insert(struct store *store, const char *name, struct span spec, int64_t priority, struct span key,
                       int64_t *ret_id, bool *ret_created) MUST_USE;
/* The job that is starting, running or paused; then, with `queued`, the next one in line. ERR_not_found when there is none.
 */
err_t store_job_current(struct store *store, bool queued, struct arena *arena, struct store_job *ret) MUST_USE;
/* ERR_not_found when there is no such job. */
err_t store_job_state(struct store *store, int64_t job, struct arena *arena, const char **ret_state) MUST_USE;
err_t store_job_set_state(struct store *store, int64_t job, const char *state, const char *reason) MUST_USE;
err_t store_job_progress(struct store *store, int64_t job, int64_t lineage, int64_t updates_done, int64_t version,
                         bool trained) MUST_USE;
err_t store_job_set_trainer(struct store *store, int64_t job, const char *identity) MUST_USE;
err_t store_job_set_priority(struct store *store, int64_t job, int64_t priority) MUST_USE;
/* data: a JSON object. */
err_t store_job_event(struct store *store, int64_t job, const char *kind, const char *message, const char *data) MUST_USE;

#endif
