/* What WebRL's phases ask of the ledger. */
#ifndef PAL_STORE_STORE_PHASE_H
#define PAL_STORE_STORE_PHASE_H

#include "services/common/store/store.h"

/* Tasks that failed in a phase, by id: fewer than half of their plain episodes won. */
err_t store_phase_failed(struct store *store, int64_t job, int64_t phase, struct arena *arena, int64_t **ret,
                         size_t *ret_count) MUST_USE;

/* An episode and its task. */
struct store_success {
    int64_t episode, task;
};
/* The first plain success of each task in phases before `phase`, as far as it was not measured for that phase yet. by_value:
 * the loss makes its own advantages; else only those with a positive one. */
err_t store_phase_successes(struct store *store, int64_t job, int64_t phase, bool by_value, struct arena *arena,
                            struct store_success **ret, size_t *ret_count) MUST_USE;

/* A success whose perplexity was measured for a phase. */
struct store_replay {
    int64_t episode, group;
    double perplexity;
    int64_t uses; /* updates that replayed it */
    int64_t action_tokens, version_min, turns;
    double reward, advantage;
};
err_t store_phase_replays(struct store *store, int64_t job, int64_t phase, struct arena *arena, struct store_replay **ret,
                          size_t *ret_count) MUST_USE;

/* The newest plain episodes up to an update whose reward is the environment's own, oldest first. */
err_t store_phase_verified(struct store *store, int64_t job, int64_t update, int64_t most, struct arena *arena, int64_t **ret,
                           size_t *ret_count) MUST_USE;
struct store_outcome {
    int64_t task;
    double reward;
};
/* In the order of `episodes`; ERR_not_found when one is missing. */
err_t store_phase_outcomes(struct store *store, int64_t job, const int64_t *episodes, size_t count, struct arena *arena,
                           struct store_outcome **ret) MUST_USE;

#endif
