/* The outcome classes of an episode (outcome.def). */
#ifndef PAL_ROLLOUT_OUTCOME_H
#define PAL_ROLLOUT_OUTCOME_H

#include "services/common/base/span.h"

enum outcome {
#define OUTCOME(name, failure, retries, doc) OUTCOME_##name,
#include "rollout/outcome.def"
#undef OUTCOME
    OUTCOME_COUNT
};

const char *outcome_name(enum outcome outcome);
bool outcome_failure(enum outcome outcome);
/* false when there is no such name. */
bool outcome_find(struct span name, enum outcome *ret);

#endif
