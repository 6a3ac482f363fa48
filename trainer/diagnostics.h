/* The figures of an update (diagnostics.def): made from what the loss summed up; times are the caller's. */
#ifndef PAL_TRAINER_DIAGNOSTICS_H
#define PAL_TRAINER_DIAGNOSTICS_H

#include "trainer/loss.h"
#include "trainer/value.h"

#define DIAGNOSTICS_OWN_GAP      1e-3 /* own_gap_max above it: sampler and learner disagree */
#define DIAGNOSTICS_OWN_GAP_HALF 5e-2 /* with rollout.kv_cache fp16 */

struct diagnostics {
#define FIGURE(name, doc) double name;
#include "trainer/diagnostics.def"
#undef FIGURE
};

enum diagnostics_figure {
#define FIGURE(name, doc) DIAGNOSTICS_##name,
#include "trainer/diagnostics.def"
#undef FIGURE
    DIAGNOSTICS_COUNT
};

const char *diagnostics_name(enum diagnostics_figure figure);
const char *diagnostics_doc(enum diagnostics_figure figure);
double diagnostics_value(const struct diagnostics *diagnostics, enum diagnostics_figure figure);

/* Every figure 0, those that only some updates measure NaN. */
void diagnostics_clear(struct diagnostics *diagnostics);
/* Fills what follows from the sums of all optimizer steps; steps >= 1. */
void diagnostics_from_sums(struct diagnostics *diagnostics, const struct loss_sums *sums, double steps);
/* Fills those of the value head; without states nothing. */
void diagnostics_from_values(struct diagnostics *diagnostics, const struct value_sums *sums);

#endif
