#include "curation/admission.h"

#include "services/common/base/err.h"

int64_t admission_update(int64_t planned, int64_t voided, int64_t replaced, int64_t groups_per_update)
{
    BUG_IF(groups_per_update < 1 || voided < 0 || replaced < 0 || planned < voided + replaced);
    return (planned - voided - replaced) / groups_per_update + 1;
}

bool admission_may_start(int64_t update, int64_t updates_done, int64_t max_staleness)
{
    return update - 1 - updates_done <= max_staleness;
}

int64_t admission_min_version(int64_t update, int64_t max_staleness, int64_t newest_version)
{
    int64_t least = update - 1 - max_staleness;
    if (least > newest_version) least = newest_version;
    return least > 0 ? least : 0;
}

int64_t admission_age(int64_t version, int64_t oldest_version)
{
    return version - oldest_version;
}
