/* A job that has come far: a million episodes and all that belongs to them, written as rows at once. */
#ifndef PAL_BENCH_LEDGER_FILLED_H
#define PAL_BENCH_LEDGER_FILLED_H

#include "bench/ledger/place.h"

#define FILLED_GROUPS   16 /* of an update */
#define FILLED_UPDATES  7813
#define FILLED_EPISODES (FILLED_UPDATES * FILLED_GROUPS * 8)

/* For a job that made update 0 and nothing else, while no data manager runs. Seconds that it took. */
double filled_make(const struct place *place, uint64_t job);

#endif
