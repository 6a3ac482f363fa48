/* Retry and mask by class of failure. */
#include "services/common/job/job.h"

#include <stddef.h>

/* Where the class's keys are; a class that is no failure has none. */
static const struct place {
    bool failure;
    size_t retries, mask;
} places[OUTCOME_COUNT] = {
#define OUTCOME(name, failure, retries, doc) PLACE_##failure(name)
#define PLACE_true(name)                     [OUTCOME_##name] = {true, offsetof(struct job_retries, name), offsetof(struct job_mask, name)},
#define PLACE_false(name)
#include "rollout/outcome.def"
#undef PLACE_true
#undef PLACE_false
#undef OUTCOME
};

size_t job_retries(const struct job_spec *spec, enum outcome failure)
{
    int64_t times = 0;
    BUG_IF(!places[failure].failure);
    memcpy(&times, (const uint8_t *)&spec->rollout.retries + places[failure].retries, sizeof times);
    return (size_t)times;
}

enum job_mask_of job_mask(const struct job_spec *spec, enum outcome failure)
{
    int mask = 0;
    BUG_IF(!places[failure].failure);
    memcpy(&mask, (const uint8_t *)&spec->rollout.mask + places[failure].mask, sizeof mask);
    return (enum job_mask_of)mask;
}
