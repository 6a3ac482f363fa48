#include "rollout/outcome.h"

struct outcome_row {
    const char *name;
    bool failure;
};

static const struct outcome_row rows[OUTCOME_COUNT] = {
#define OUTCOME(name, failure, retries, doc) {#name, failure},
#include "rollout/outcome.def"
#undef OUTCOME
};

const char *outcome_name(enum outcome outcome)
{
    return rows[outcome].name;
}

bool outcome_failure(enum outcome outcome)
{
    return rows[outcome].failure;
}

bool outcome_find(struct span name, enum outcome *ret)
{
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        if (!span_is(name, rows[i].name)) continue;
        *ret = (enum outcome)i;
        return true;
    }
    return false;
}
