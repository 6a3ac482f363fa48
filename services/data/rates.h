/* Curricula by success rate (success-band, adcl): what a draw looks at, and what adcl keeps. */
#ifndef PAL_DATA_RATES_H
#define PAL_DATA_RATES_H

#include "curation/curriculum.h"
#include "services/common/job/job.h"

struct plan;
struct data;

/* Follows from the ledger. */
struct rates {
    uint64_t *order[JOB_ENVIRONMENTS]; /* owned: places in plan->train by level, each level shuffled by the job's seed */
    uint64_t *place[JOB_ENVIRONMENTS]; /* owned: of each task in it */
    bool *taken[JOB_ENVIRONMENTS];     /* owned: by place, drawn in the batch under way; all false outside it */
    double inversions;                 /* of the batch that began last; NaN: not known here */
};

/* A draw for an update; lives as long as the draw. */
struct rates_draw {
    struct plan *plan;
    int64_t update;
    struct curriculum_rates rates;
};

void rates_free(struct rates *rates);
/* After plan_index_tasks and whatever else changes the training tasks; nothing with another curriculum. */
err_t rates_load(struct data *data) MUST_USE;
void rates_curriculum(struct plan *plan, int64_t update, struct rates_draw *ret, struct curriculum *curriculum);
/* A task was drawn (and is not counted yet); adcl: a batch that begins is a decision. */
err_t rates_drawn(struct data *data, int64_t update, const struct curriculum_draw *draw) MUST_USE;

#endif
