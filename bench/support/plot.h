/* Learning curves as an SVG file: one line per arm (mean over its runs), a band of one standard deviation, a legend. */
#ifndef PAL_BENCH_SUPPORT_PLOT_H
#define PAL_BENCH_SUPPORT_PLOT_H

#include "bench/support/curve.h"

#define PLOT_ARMS 10
#define PLOT_RUNS 16

struct plot_arm {
    const char *label;
    const struct curve *runs[PLOT_RUNS];
    size_t count;
};

struct plot {
    const char *title;
    double tokens; /* right end of the axis */
    struct plot_arm arms[PLOT_ARMS];
    size_t count;
};

/* False when the file cannot be written. */
bool plot_write(const struct plot *plot, const char *path);

#endif
