/* Imitation: cross-entropy steps over a fixed set of episodes; what the warm start and the outcome reward model learn by.
 *
 * `updates` optimizer steps on `batch` episodes each, taken from seeded shuffles of all of them (every episode once per
 * shuffle), in the context they are in (hints stay), learning rate linear from its peak to 10 %. The optimizer is reset
 * before. On an error model and optimizer are somewhere in between: the caller keeps what it needs. */
#ifndef PAL_TRAINER_IMITATION_H
#define PAL_TRAINER_IMITATION_H

#include "trainer/episode.h"
#include "trainer/loss.h"
#include "trainer/trainee.h"

struct imitation_config {
    size_t updates; /* >= 1 */
    size_t batch;   /* >= 1 */
    double lr;      /* peak */
    size_t tokens_per_microbatch;
    float temperature;
    uint64_t stream; /* of the shuffles' random numbers, under the trainee's seed */
};

struct imitation_result {
    struct loss_sums sums; /* of all steps */
    double last_loss;      /* of the last step */
    double late_loss;      /* mean of the last tenth of the steps */
    double norm;           /* mean norm of the gradient before the clip */
    double tokens;         /* of all steps */
};

/* ERR_invalid without episodes or steps, ERR_malformed naming an episode, ERR_numeric, ERR_conflict when cancelled. */
err_t imitation_run(struct trainee *trainee, struct model *model, struct adamw *adamw, const struct imitation_config *config,
                    const struct episode *episodes, size_t count, const atomic_bool *cancel,
                    struct imitation_result *ret) MUST_USE;

#endif
