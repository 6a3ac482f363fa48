/* A pass over packed micro-batches, data-parallel over the pool.
 *
 * Micro-batch i runs on worker i % threads, whatever the timing, so the sum of gradients has the same bits from run to run.
 * The cancel flag is looked at between micro-batches. The first failure, in the order of micro-batches, is returned. Where a
 * packing has states, the trainee's value head goes along. */
#ifndef PAL_TRAINER_PASS_H
#define PAL_TRAINER_PASS_H

#include "trainer/packing.h"
#include "trainer/trainee.h"

/* Log-probs of the targets under model (of the trainee's shape) into each micro-batch's theta, and V of its states; no
 * gradient. */
err_t pass_score(struct trainee *trainee, const struct model *model, struct packing *packing,
                 const atomic_bool *cancel) MUST_USE;

/* Forward, loss and backward: the gradient of the summed loss into *ret_gradient [parameters] (borrowed until the next pass),
 * what it is made of added to *sums. The value head's gradient is added to its workers (value_zero, value_step), its figures
 * to *values, which may be NULL without states. ERR_numeric when a loss is not finite, ERR_conflict when it was cancelled. */
err_t pass_gradient(struct trainee *trainee, const struct model *model, enum loss_kind loss, const struct loss_terms *terms,
                    struct packing *packing, const atomic_bool *cancel, const float **ret_gradient, struct loss_sums *sums,
                    struct value_sums *values) MUST_USE;
/* The value head's part alone, for lessons without policy and a detached head: the model is only read. */
err_t pass_values(struct trainee *trainee, struct packing *packing, const atomic_bool *cancel,
                  struct value_sums *values) MUST_USE;

#endif
