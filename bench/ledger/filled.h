/* A job that has come far: a million episodes and all that belongs to them, written as rows at once. */
#ifndef PAL_BENCH_LEDGER_FILLED_H
#define PAL_BENCH_LEDGER_FILLED_H

#include "bench/ledger/place.h"

/* Groups of an update: with the 16 of the demo the handshake with the trainer, a commit each, would be what is measured. */
#define FILLED_GROUPS   64
#define FILLED_UPDATES  1954
#define FILLED_EPISODES (FILLED_UPDATES * FILLED_GROUPS * 8)

/* For a job that made update 0 and nothing else, while no data manager runs. Seconds that it took. */
double filled_make(const struct place *place, uint64_t job);

#endif
