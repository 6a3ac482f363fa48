#include "curation/retry.h"

#include "services/common/base/rng.h"

#include <stdbool.h>

/* the column that matters here, so that this folder needs none of rollout/'s code */
static const bool failures_by_class[] = {
#define OUTCOME(name, failure, retries, doc) [OUTCOME_##name] = failure,
#include "rollout/outcome.def"
#undef OUTCOME
};

enum retry retry_decide(enum outcome outcome, size_t failures, size_t retries)
{
    if (!failures_by_class[outcome]) return RETRY_DONE;
    return failures <= retries ? RETRY_AGAIN : RETRY_VOID;
}

int64_t retry_seed(uint64_t job_seed, int64_t episode, int64_t attempt)
{
    return (int64_t)(rng_mix(rng_mix(job_seed, (uint64_t)episode), (uint64_t)attempt) & INT64_MAX);
}
