/* Imitation of demonstrations: cross-entropy of the targets, L = sum of g (-theta). Used by the warm start; advantage, prox,
 * behave and terms are not read. */
#ifndef PAL_TRAINER_LOSS_IMITATION_H
#define PAL_TRAINER_LOSS_IMITATION_H

#include "trainer/loss.h"

void loss_imitation(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_grad *grad,
                    struct loss_sums *sums);

#endif
