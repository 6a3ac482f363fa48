/* Batches in the ledger: what each update of each lineage consumed. */
#ifndef PAL_STORE_STORE_BATCH_H
#define PAL_STORE_STORE_BATCH_H

#include "services/common/store/store.h"

struct store_turns {
    uint64_t *v;
    size_t n;
};

struct store_batch {
    int64_t lineage;
    int64_t update;
    const char *kind; /* warmstart | update */
    int64_t *groups;
    size_t group_count;
    int64_t *episodes; /* in training order */
    int64_t *pass;
    double *advantage;
    const char **source;   /* fresh | demonstration | hinted | pool | replay */
    int64_t *member_group; /* whose advantage it carries: that of its episode, except in the pool */
    size_t episode_count;
    int64_t norm_tokens;
    int64_t no_signal_groups;
    struct store_turns *dropped; /* of each member the turns that are not trained on; NULL: none of any */
    int64_t phase;
    bool phase_end;
    int64_t passes; /* over its members; 0: discarded */
    int64_t *judged;
    size_t judged_count;
    const char *state;            /* this and the following: read only */
    const char *outcome, *digest; /* "" before it was applied; digest of the weights after it */
};

/* The batch as handed out, and one use per member and pass: ERR_conflict when an (episode, pass) is used in this lineage
 * already. */
err_t store_batch_insert(struct store *store, int64_t job, const struct store_batch *batch) MUST_USE;
/* The batch of this update in the newest lineage that has one. ERR_not_found when there is none. */
err_t store_batch_read(struct store *store, int64_t job, int64_t update, struct arena *arena,
                       struct store_batch *ret) MUST_USE;
/* outcome: applied | skipped | numeric. *ret_passes: those over the batch, -1 when it was recorded before. */
err_t store_batch_apply(struct store *store, int64_t job, int64_t lineage, int64_t update, const char *outcome,
                        int64_t version, const char *digest, int64_t *ret_passes) MUST_USE;
/* Everything applied up to this update of the lineage is committed. */
err_t store_batch_commit(struct store *store, int64_t job, int64_t lineage, int64_t update) MUST_USE;

/* How many of the newest updates up to `update` were skipped in a row, discarded ones left out; at most `most` are looked at.
 */
err_t store_batch_skips(struct store *store, int64_t job, int64_t update, int64_t most, int64_t *ret) MUST_USE;

/* What a batch's members are, for the wire: by the order of `episodes`. */
struct store_member {
    int64_t action_tokens;
    int64_t version_min; /* -1 for none */
    int64_t steps;
    bool signal; /* of its member_group */
    double reward;
    double *turn_tokens; /* [turns]; none where they were not told */
    size_t turns;
};
err_t store_batch_members(struct store *store, int64_t job, const struct store_batch *batch, struct arena *arena,
                          struct store_member **ret) MUST_USE;
/* The next pass of each episode that is trained on again: past those of every lineage, and at least 1. */
err_t store_batch_passes(struct store *store, int64_t job, const int64_t *episodes, size_t count, int64_t *ret) MUST_USE;

#endif
