/* Tasks in the ledger. */
#ifndef PAL_STORE_STORE_TASK_H
#define PAL_STORE_STORE_TASK_H

#include "services/common/store/store.h"

struct store_task {
    int64_t id;
    int64_t environment;
    bool holdout;
    int64_t level;
    const char *body;
    const char *hash; /* not read back */
    const char *hint;
    const char *source; /* generate | file | mutate */
    int64_t parent;     /* mutate: the task it was made from, else -1; not read back */
    int64_t phase;      /* WebRL: the first one it may be drawn in */
    const char *state;  /* active | quarantined | candidate | refused */
};

/* One set. ERR_conflict when two tasks are the same. */
err_t store_task_insert(struct store *store, int64_t job, const struct store_task *tasks, size_t count) MUST_USE;
/* All tasks of a job by id, in the arena. */
err_t store_task_list(struct store *store, int64_t job, struct arena *arena, struct store_task **ret,
                      size_t *ret_count) MUST_USE;
err_t store_task_set_state(struct store *store, int64_t job, int64_t task, const char *state) MUST_USE;
/* Which of these initial states have a task already: by (environment, hash), into ret[count]. */
err_t store_task_known(struct store *store, int64_t job, const int64_t *environments, const char *const *hashes, size_t count,
                       bool *ret) MUST_USE;

/* The task of each (environment, hash), -1 where there is none. */
err_t store_task_find(struct store *store, int64_t job, const int64_t *environments, const char *const *hashes, size_t count,
                      int64_t *ret) MUST_USE;

#endif
