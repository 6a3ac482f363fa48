/* The learning rate of an update: linear warm-up from 0, then by the schedule's rule. */
#ifndef PAL_TRAINER_SCHEDULE_H
#define PAL_TRAINER_SCHEDULE_H

#include "services/common/base/err.h"

#include <stdint.h>

enum schedule_kind {
    SCHEDULE_constant, /* the peak */
    SCHEDULE_linear    /* from the peak down to SCHEDULE_FLOOR of it at the last update, and there after it */
};

#define SCHEDULE_FLOOR 0.1

struct schedule {
    enum schedule_kind kind;
    double peak;
    uint64_t warmup; /* updates: the n-th of them has n / warmup of the peak */
    uint64_t total;  /* updates planned */
};

err_t schedule_kind_of(const char *name, enum schedule_kind *ret) MUST_USE; /* "constant", "linear" */
double schedule_rate(const struct schedule *schedule, uint64_t update);     /* update counts from 0 */

#endif
