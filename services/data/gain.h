/* What GAIN-RL knows (curation/gain_rl.h has the method). */
#ifndef PAL_DATA_GAIN_H
#define PAL_DATA_GAIN_H

#include "curation/curriculum.h"
#include "services/common/job/job.h"

struct plan;
struct group;
struct data;
struct wire_update_done;

struct gain {
    /* in the ledger, method `gain-rl` */
    double mu;
    double ranked;                     /* 1: there is a ranking */
    double rank_lineage, rank_version; /* of the scores it was made from; version -1: it needs none */
    double rank_update;                /* updates done when it was made */
    double rank_phase;                 /* WebRL: the phase whose tasks it has */
    /* follows from the ledger */
    uint64_t *order[JOB_ENVIRONMENTS]; /* owned: places in plan->train by rank; by task id before the first ranking */
    size_t open;                       /* scores under way for the next ranking */
    int64_t asked_version;             /* of these */
};

void gain_free(struct gain *gain);
/* The state of now, the order it gives, and the scores under way; nothing when the curriculum is another one. */
err_t gain_load(struct data *data) MUST_USE;
/* May fresh groups be drawn? Not before the first ranking. */
bool gain_ready(const struct plan *plan);
/* Asks for scores, or ranks, when that is due. */
err_t gain_advance(struct data *data) MUST_USE;
/* A score that was asked for has come, or never will. */
err_t gain_scored(struct data *data) MUST_USE;
/* The tasks that are drawn are others now: those without a score under the ranking's version come last until the next one. */
err_t gain_reindex(struct data *data) MUST_USE;
/* A fresh group closed: has its task been solved? */
void gain_closed(struct plan *plan, const struct group *group);
err_t gain_update(struct data *data, const struct wire_update_done *done) MUST_USE;

/* What a draw for an update looks at; lives as long as the draw. */
struct gain_draw {
    struct plan *plan;
    bool *taken; /* [task_count] */
    struct curriculum_ranking ranking;
};
err_t gain_curriculum(struct data *data, int64_t update, struct gain_draw *ret, struct curriculum *curriculum) MUST_USE;

#endif
