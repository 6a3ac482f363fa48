/* The warm start: imitation (imitation.h) of demonstrations before the first update, so that RL begins from a policy that
 * acts at all. Afterwards the optimizer is reset and the weights are version 0. As with an update, an error leaves the
 * trainee as it was. */
#ifndef PAL_TRAINER_WARMSTART_H
#define PAL_TRAINER_WARMSTART_H

#include "trainer/diagnostics.h"
#include "trainer/episode.h"
#include "trainer/trainee.h"

struct warmstart_config {
    size_t updates; /* optimizer steps, >= 1 */
    size_t batch;   /* episodes per step, >= 1 */
    double lr;      /* peak */
    size_t tokens_per_microbatch;
    float temperature;
};

/* Every episode needs targets (signal). Errors as in update_run; ERR_invalid without episodes. loss is that of the last step,
 * tokens and targets are those of all steps. */
err_t warmstart_run(struct trainee *trainee, const struct warmstart_config *config, const struct episode *episodes,
                    size_t count, const atomic_bool *cancel, struct diagnostics *ret_figures) MUST_USE;

#endif
