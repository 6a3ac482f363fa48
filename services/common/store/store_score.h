/* What was measured of tasks under a version: rows of task_score. */
#ifndef PAL_STORE_STORE_SCORE_H
#define PAL_STORE_STORE_SCORE_H

#include "services/common/store/store.h"

/* NaN where it was not measured. */
struct store_score {
    int64_t task;
    int64_t version;
    double c_intra, c_inter; /* mean cosines of the prompt's last hidden states (curation/gain_rl.h) */
    double tokens;           /* of the prompt */
    double value;            /* of the start state */
};

/* One set; measuring again overwrites. */
err_t store_score_insert(struct store *store, int64_t job, int64_t lineage, const struct store_score *scores,
                         size_t count) MUST_USE;
/* The scores under a version, measured in this lineage, by task. */
err_t store_score_list(struct store *store, int64_t job, int64_t lineage, int64_t version, struct arena *arena,
                       struct store_score **ret, size_t *ret_count) MUST_USE;

/* What the plain episodes of an update's groups won, replaced ones included, and the tasks of these groups. */
struct store_plain {
    double reward; /* mean, NaN without episodes */
    int64_t *tasks;
    size_t task_count;
};
err_t store_score_plain(struct store *store, int64_t job, int64_t update, struct arena *arena,
                        struct store_plain *ret) MUST_USE;
/* Tasks whose newest closed fresh group won with every plain episode. */
err_t store_score_solved(struct store *store, int64_t job, struct arena *arena, int64_t **ret, size_t *ret_count) MUST_USE;

#endif
