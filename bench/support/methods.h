/* One run of an ablation: a job file with an arm's assignments, a seed and a budget of tokens, played by a stack of its own,
 * its curve kept in a file by the digest of the resolved job. */
#ifndef PAL_BENCH_SUPPORT_METHODS_H
#define PAL_BENCH_SUPPORT_METHODS_H

#include "bench/support/plot.h"
#include "bench/support/rig.h"

#include <stdint.h>

/* A row of experiments.def; an arm has no name, its label is in `file`. */
struct experiment {
    const char *name, *title, *file, *sets;
    double tokens, threshold;
};

struct result {
    int64_t seed;
    struct curve curve;
    double seconds;
    double hinted; /* share of the episodes that were hinted, mean over the updates */
    double hinted_before,
        hinted_after; /* success of hinted episodes, mean over the first and the last ten updates; -1: none */
    json_t *levels;   /* {"1": success, ...} of the last evaluation; owned by who asked */
    json_t *means;    /* {"episodes": of an update, ...}; owned by who asked, NULL in results of older programs */
    double updates;   /* at the end */
};

/* Makes the folder of the results. */
void methods_folder(void);
/* Reads the result or makes it; says what it does on standard error. Ends the program when a run fails or `pal verify` finds
 * a broken invariant. */
void methods_run(const struct experiment *experiment, const char *label, const char *sets, int64_t seed, double tokens,
                 struct result *ret);

#endif
