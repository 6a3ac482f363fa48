#include "trainer/schedule.h"

#include <string.h>

err_t schedule_kind_of(const char *name, enum schedule_kind *ret)
{
    if (strcmp(name, "constant") == 0)
        *ret = SCHEDULE_constant;
    else if (strcmp(name, "linear") == 0)
        *ret = SCHEDULE_linear;
    else
        return err_set(ERR_invalid, "schedule: \"%.40s\" is neither constant nor linear", name);
    return ERR_ok;
}

double schedule_rate(const struct schedule *schedule, uint64_t update)
{
    if (update < schedule->warmup) return schedule->peak * (double)(update + 1) / (double)schedule->warmup;
    switch (schedule->kind) {
    case SCHEDULE_constant:
        return schedule->peak;
    case SCHEDULE_linear:
        break;
    }
    uint64_t steps = schedule->total > schedule->warmup + 1 ? schedule->total - schedule->warmup - 1 : 1;
    double done = (double)(update - schedule->warmup) / (double)steps;
    return schedule->peak * (1.0 - (1.0 - SCHEDULE_FLOOR) * (done < 1 ? done : 1));
}
