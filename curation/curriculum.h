/* Curricula: which task the next fresh group is of.
 *
 * A draw is a pure function of the seed, of how many groups each environment was given so far, and of which tasks are
 * quarantined. So the whole state is in the ledger (fresh groups, replacements included, counted by environment of their
 * task), and a restarted data manager goes on where the old one stopped. */
#ifndef PAL_CURATION_CURRICULUM_H
#define PAL_CURATION_CURRICULUM_H

#include "services/common/base/err.h"

#include <stdint.h>

enum curriculum_kind {
#define CURRICULUM(name, doc) CURRICULUM_##name,
#include "curation/curriculum.def"
#undef CURRICULUM
    CURRICULUM_COUNT
};

#define CURRICULUM_ENVIRONMENTS 64 /* most environments of a mix */

struct curriculum_environment {
    double weight;  /* >= 0, relative to the others; 0: it is never drawn */
    uint64_t tasks; /* its training tasks, numbered 0 to tasks - 1; 0: it is never drawn */
    uint64_t drawn; /* groups drawn from it so far */
};

struct curriculum {
    uint64_t seed;
    const struct curriculum_environment *environments;
    size_t count; /* 1 to CURRICULUM_ENVIRONMENTS */
    /* false when the task may not be drawn (quarantined); NULL: all may */
    bool (*may_draw)(void *ctx, size_t environment, uint64_t task);
    void *ctx;
    const struct curriculum_ranking *ranking; /* gain_rl; the others do not look at it */
    const struct curriculum_rates *rates;     /* success_band and adcl; likewise */
};

/* What success_band and adcl draw by. Callbacks take the context of may_draw. */
struct curriculum_rates {
    double (*success)(void *ctx, size_t environment, uint64_t task); /* of its newest plain episodes, NaN: never played */
    /* success_band: has the update a group of it already? adcl: was it drawn in the batch under way? NULL: none */
    bool (*taken)(void *ctx, size_t environment, uint64_t task);
    double low, high, outside;                      /* success_band */
    uint64_t batch;                                 /* adcl: tasks that are ordered anew at a time, >= 1 */
    const uint64_t *order[CURRICULUM_ENVIRONMENTS]; /* adcl: [tasks], easiest first as it was estimated at first */
};

/* adcl: the places [from, to) of the batch that the next draw of an environment is from; whether that begins it. */
struct curriculum_batch {
    uint64_t from, to;
    bool begins;
};
struct curriculum_batch curriculum_batch(const struct curriculum_environment *environment, uint64_t size);
/* adcl: of the pairs of a batch that have both been played with different success, in the first order, the share whose second
 * is the easier now; NaN without such a pair. */
double curriculum_inversions(const double *success, size_t n);

/* What gain_rl draws by. Its callbacks take the context of may_draw. */
struct curriculum_ranking {
    const uint64_t *order[CURRICULUM_ENVIRONMENTS]; /* [tasks] of each environment: the task at each rank */
    double mu;             /* mean over the ranks of all tasks together (of environments with a weight), in [0, all - 1] */
    double sigma_fraction; /* > 0 */
    bool (*taken)(void *ctx, size_t environment, uint64_t task);  /* has the update a group of it already? NULL: none */
    bool (*solved)(void *ctx, size_t environment, uint64_t task); /* NULL: none is */
};

struct curriculum_draw {
    size_t environment;
    uint64_t task; /* index among the environment's training tasks */
};

const char *curriculum_name(enum curriculum_kind kind);

/* The next task; the caller then adds one to environments[ret->environment].drawn. Environments take turns by smooth weighted
 * round robin (as nginx does it): with t groups drawn so far, the one of the largest credit (t + 1) w_i / W - drawn_i is
 * next, so that drawn_i stays next to its share t w_i / W at every t; those without a weight or a task that may be drawn do
 * not take part. ERR_not_found when no task may be drawn. */
err_t curriculum_draw(enum curriculum_kind kind, const struct curriculum *curriculum, struct curriculum_draw *ret) MUST_USE;

/* The kinds by name: which task of this environment; false when none of its tasks (at least one) may be drawn. */
#define CURRICULUM(name, doc)                                                                                                \
    bool curriculum_##name(const struct curriculum *curriculum, size_t environment, uint64_t *ret_task);
#include "curation/curriculum.def"
#undef CURRICULUM

/* For the kinds. May the task be drawn? */
bool curriculum_may_draw(const struct curriculum *curriculum, size_t environment, uint64_t task);
/* For the kinds. A pseudo-random permutation of [0, n): index -> place, n >= 1, index < n, keyed by seed; O(1) memory. */
uint64_t curriculum_permute(uint64_t seed, uint64_t n, uint64_t index);

#endif
