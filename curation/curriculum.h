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
};

struct curriculum_draw {
    size_t environment;
    uint64_t task; /* index among the environment's training tasks */
};

const char *curriculum_name(enum curriculum_kind kind);

/* The next task; the caller then adds one to environments[ret->environment].drawn. ERR_not_found when no task may be drawn.
 */
err_t curriculum_draw(enum curriculum_kind kind, const struct curriculum *curriculum, struct curriculum_draw *ret) MUST_USE;

/* The kinds by name, as above. */
#define CURRICULUM(name, doc)                                                                                                \
    err_t curriculum_##name(const struct curriculum *curriculum, struct curriculum_draw *ret) MUST_USE;
#include "curation/curriculum.def"
#undef CURRICULUM

/* For the kinds. A pseudo-random permutation of [0, n): index -> place, n >= 1, index < n, keyed by seed; O(1) memory. */
uint64_t curriculum_permute(uint64_t seed, uint64_t n, uint64_t index);

#endif
