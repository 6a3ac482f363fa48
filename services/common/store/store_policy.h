/* Policy versions, checkpoints and evaluations in the ledger. */
#ifndef PAL_STORE_STORE_POLICY_H
#define PAL_STORE_STORE_POLICY_H

#include "services/common/store/store.h"

struct store_policy {
    int64_t lineage;
    int64_t version;
    const char *digest;
    const char *where;
    const char *role; /* policy | orm */
};

struct store_checkpoint {
    int64_t lineage;
    int64_t version;
    int64_t update;
    const char *path;
    const char *sha256;
    int64_t size;
    const char *digest;
};

/* Repeating it changes nothing but the place. */
err_t store_policy_publish(struct store *store, int64_t job, const struct store_policy *policy) MUST_USE;
err_t store_policy_commit(struct store *store, int64_t job, const struct store_checkpoint *checkpoint) MUST_USE;
/* The newest committed checkpoint of a lineage up to `lineage`. ERR_not_found when there is none. */
err_t store_policy_checkpoint(struct store *store, int64_t job, int64_t lineage, struct arena *arena,
                              struct store_checkpoint *ret) MUST_USE;
/* The newest published version of the lineage in a role; ERR_not_found when there is none. */
err_t store_policy_newest(struct store *store, int64_t job, int64_t lineage, const char *role, struct arena *arena,
                          struct store_policy *ret) MUST_USE;
/* The weights of a version, of the newest lineage that published it; ERR_not_found when there are none. */
err_t store_policy_of_version(struct store *store, int64_t job, int64_t version, struct arena *arena,
                              struct store_policy *ret) MUST_USE;

struct store_evaluation {
    int64_t lineage;
    int64_t version;
    int64_t episodes;
    int64_t done;
    int64_t successes;
    const char *by_level; /* JSON */
};

/* *ret_new false: it was planned before. */
err_t store_evaluation_start(struct store *store, int64_t job, const struct store_evaluation *evaluation,
                             bool *ret_new) MUST_USE;
err_t store_evaluation_end(struct store *store, int64_t job, const struct store_evaluation *evaluation) MUST_USE;
/* Ends without a result those of versions past `version` that are open (all open ones for -1). */
err_t store_evaluation_abandon(struct store *store, int64_t job, int64_t version) MUST_USE;
/* The same for one version. */
err_t store_evaluation_give_up(struct store *store, int64_t job, int64_t version) MUST_USE;
struct store_open_evaluation {
    int64_t lineage, version, episodes;
};
/* Open evaluations by version. */
err_t store_evaluation_open(struct store *store, int64_t job, struct arena *arena, struct store_open_evaluation **ret,
                            size_t *ret_count) MUST_USE;
/* Version, done and successes of the newest ended evaluation of a version <= `version`; ERR_not_found when there is none. */
err_t store_evaluation_newest(struct store *store, int64_t job, int64_t version, struct store_evaluation *ret) MUST_USE;
/* Did an ended evaluation of a version <= `version` reach this share of successes? */
err_t store_evaluation_reached(struct store *store, int64_t job, int64_t version, double success, bool *ret) MUST_USE;
/* Per level of the evaluation's closed groups: level, done, successes. */
struct store_level {
    int64_t level, done, successes;
};
err_t store_evaluation_levels(struct store *store, int64_t job, int64_t lineage, int64_t version, struct arena *arena,
                              struct store_level **ret, size_t *ret_count) MUST_USE;

#endif
