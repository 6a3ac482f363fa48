/* The error-rate stop rule: an environment whose attempts mostly fail ends the job, with what was counted as the evidence.
 *
 * Attempts are counted in blocks; a block is over when it holds `window` attempts, and the rule holds as soon as its failures
 * are more than rate x window. What people and schedulers cause (cancelled, stale) is not counted. */
#ifndef PAL_CURATION_ERRORS_H
#define PAL_CURATION_ERRORS_H

#include "rollout/outcome.h"

#include <stddef.h>

struct errors {
    size_t attempts, failed; /* in the block */
    size_t by[OUTCOME_COUNT];
};

/* Counts how an attempt ended. True when too many failed: the block then holds the evidence. rate in [0, 1], window >= 1. */
bool errors_count(struct errors *errors, enum outcome outcome, double rate, size_t window);

#endif
