#include "curation/retry.h"

#include "services/common/base/rng.h"

/* the columns that matter here, so that this folder needs none of rollout/'s code */
static const struct {
    bool failure;
    size_t retries;
} classes[] = {
#define OUTCOME(name, failure, retries, doc) [OUTCOME_##name] = {failure, retries},
#include "rollout/outcome.def"
#undef OUTCOME
};

enum retry retry_decide(enum outcome outcome, size_t failures)
{
    if (!classes[outcome].failure) return RETRY_DONE;
    return failures <= classes[outcome].retries ? RETRY_AGAIN : RETRY_VOID;
}

int64_t retry_seed(uint64_t job_seed, int64_t episode, int64_t attempt)
{
    return (int64_t)(rng_mix(rng_mix(job_seed, (uint64_t)episode), (uint64_t)attempt) & INT64_MAX);
}
