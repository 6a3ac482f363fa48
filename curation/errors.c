#include "curation/errors.h"

#include "services/common/base/err.h"

bool errors_count(struct errors *errors, enum outcome outcome, double rate, size_t window)
{
    BUG_IF(window == 0);
    if (outcome == OUTCOME_cancelled || outcome == OUTCOME_stale) return false;
    if (errors->attempts >= window) *errors = (struct errors){0};
    errors->attempts++;
    errors->by[outcome]++;
    errors->failed += outcome != OUTCOME_ok && outcome != OUTCOME_truncated;
    return (double)errors->failed > rate * (double)window;
}
