/* A pass over packed micro-batches, data-parallel over the pool.
 *
 * Micro-batch i runs on worker i % threads, whatever the timing, so the sum of gradients has the same bits from run to run.
 * The cancel flag is looked at between micro-batches. The first failure, in the order of micro-batches, is returned. */
#ifndef PAL_TRAINER_PASS_H
#define PAL_TRAINER_PASS_H

#include "trainer/packing.h"
#include "trainer/trainee.h"

/* Log-probs of the targets under model (of the trainee's shape) into each micro-batch's theta; no gradient. */
err_t pass_score(struct trainee *trainee, const struct model *model, struct packing *packing,
                 const atomic_bool *cancel) MUST_USE;

/* Forward, loss and backward: the gradient of the summed loss into *ret_gradient [parameters] (borrowed until the next pass),
 * what it is made of added to *sums. ERR_numeric when the loss is not finite, ERR_conflict when it was cancelled. */
err_t pass_gradient(struct trainee *trainee, enum loss_kind loss, const struct loss_terms *terms, struct packing *packing,
                    const atomic_bool *cancel, const float **ret_gradient, struct loss_sums *sums) MUST_USE;

#endif
