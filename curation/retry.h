/* What becomes of a slot whose attempt ended: done, another attempt, or void.
 *
 * An infrastructure failure is never a reward: each class of failure has its own number of retries (of the job, by default
 * rollout/outcome.def), counted per class over the slot's attempts; when a class has spent its retries the slot is void. A
 * retry keeps the episode and its task's seed, raises `attempt`, and samples with a new seed. */
#ifndef PAL_CURATION_RETRY_H
#define PAL_CURATION_RETRY_H

#include "rollout/outcome.h"

enum retry {
    RETRY_DONE,  /* an outcome: the slot is filled */
    RETRY_AGAIN, /* a failure with retries left: pending again */
    RETRY_VOID,  /* a failure without */
};

/* failures: attempts of this slot that ended in `outcome`, this one included; retries: of its class, in this job. */
enum retry retry_decide(enum outcome outcome, size_t failures, size_t retries);

/* The sampling seed of an attempt: the same on every machine, different for each (job seed, episode, attempt); fits bigint.
 */
int64_t retry_seed(uint64_t job_seed, int64_t episode, int64_t attempt);

#endif
