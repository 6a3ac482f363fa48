/* What the tasks of a job have shown so far, read back for the mirror: outcomes of plain episodes, the pool. */
#ifndef PAL_STORE_STORE_RECORD_H
#define PAL_STORE_STORE_RECORD_H

#include "services/common/store/store.h"

enum store_record_kind {
    STORE_RECORD_OUTCOMES, /* done plain episodes of closed fresh groups */
    STORE_RECORD_WINS,     /* the successes among them */
    STORE_RECORD_IMPORTS,  /* imported episodes that succeeded */
};

struct store_record {
    int64_t task, episode;
    double reward;
    int64_t steps;
    int64_t update; /* that its group was reserved to; 0: none */
};

/* The newest `most` of each training task, by task, in the arena. */
err_t store_record_list(struct store *store, int64_t job, enum store_record_kind kind, int64_t most, struct arena *arena,
                        struct store_record **ret, size_t *ret_count) MUST_USE;

/* How often each episode came from the pool. */
struct store_drawn {
    int64_t task, episode, times;
};
err_t store_record_drawn(struct store *store, int64_t job, struct arena *arena, struct store_drawn **ret,
                         size_t *ret_count) MUST_USE;

/* The size of each task's newest fresh group. */
struct store_assigned {
    int64_t task, size;
};
err_t store_record_assigned(struct store *store, int64_t job, struct arena *arena, struct store_assigned **ret,
                            size_t *ret_count) MUST_USE;

#endif
