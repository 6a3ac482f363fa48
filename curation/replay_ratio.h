/* Adaptive replay ratio: how many passes an update makes over its fresh data, by the plasticity of the value head.
 *
 * Ma et al., Revisiting Plasticity in Visual RL (arXiv 2310.07418): train with few passes while the critic's share of active
 * units (FAU) still changes, with many once it has settled. Here: each fresh update earns U credits (U: the low or the high
 * ratio, fractions allowed) and each pass over its batch spends one; an update without a whole credit is discarded. FAU is
 * averaged over all updates of a window of `window` readings; with d_k = FAU_k - FAU_(k-1) of neighbouring windows
 *
 *     rule paper     high for good at the first |d_k| < tau                        (the paper's algorithm 1)
 *     rule guarded   the first `warmup` windows only measure: tau' = max(tau, 2 std d), sample deviation; then high after two
 *                    windows in a row with |d_k| < tau' and FAU_k > floor FAU_1; back to low when a window's mean importance
 *                    weight is under weight_low, its mean clip share over clip_high, or its explained variance fell for two
 *                    windows in a row; high again after two quiet windows more   (ours: the difference also vanishes in the
 *                    trough of the dip, and passes over stale data are what the weights and the clip see)
 *
 * The state is numbers only (replay_ratio.def); zeroed, it is that before the first update. */
#ifndef PAL_CURATION_REPLAY_RATIO_H
#define PAL_CURATION_REPLAY_RATIO_H

#include <stdbool.h>
#include <stdint.h>

#define REPLAY_RATIO_QUIET 2 /* quiet windows in a row before a guarded switch */
#define REPLAY_RATIO_FALLS 2 /* windows of falling explained variance before the switch back */

struct replay_ratio_config {
    double low, high; /* passes earned by a fresh update */
    bool guarded;
    double window; /* readings, >= 1 */
    double tau;
    double warmup; /* windows, >= 1 */
    double floor, weight_low, clip_high;
};

struct replay_ratio {
#define STATE(name, doc) double name;
#include "curation/replay_ratio.def"
#undef STATE
};

/* What an update measured; NaN where it did not. */
struct replay_ratio_reading {
    double fau, mean_w, clip_share, explained_variance;
};

enum replay_ratio_why {
    REPLAY_RATIO_MEASURES, /* the first window, or one of the warm-up */
    REPLAY_RATIO_STAYS,
    REPLAY_RATIO_QUIETED,  /* to high: FAU has settled */
    REPLAY_RATIO_WEIGHT,   /* to low: the mean importance weight is too small */
    REPLAY_RATIO_CLIP,     /* to low: the clip takes too much */
    REPLAY_RATIO_VARIANCE, /* to low: the value head explains less and less */
};

/* The verdict on a window that ended, with what it was made from; NaN where nothing was measured. */
struct replay_ratio_verdict {
    enum replay_ratio_why why;
    bool high; /* from the next update on */
    double fau, difference, tau;
    double mean_w, clip_share, explained_variance;
};

const char *replay_ratio_why_name(enum replay_ratio_why why);

/* U now. */
double replay_ratio_now(const struct replay_ratio_config *config, const struct replay_ratio *state);
/* Passes that the next fresh update may make: 0 discards it. Changes nothing. */
int64_t replay_ratio_passes(const struct replay_ratio_config *config, const struct replay_ratio *state);
/* An update was made with so many passes: earns U, spends them. More than it had (an update made again, after a rollback to
 * before a switch that does not come this time) is a debt that the next ones pay. */
void replay_ratio_spend(const struct replay_ratio_config *config, struct replay_ratio *state, int64_t passes);
/* What it measured. True when a window ended with it; then *ret says what follows. */
bool replay_ratio_read(const struct replay_ratio_config *config, struct replay_ratio *state,
                       const struct replay_ratio_reading *reading, struct replay_ratio_verdict *ret);

#endif
