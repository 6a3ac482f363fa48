/* PPO (Schulman et al. 2017, eq. 7) with a value head: grpo's surrogate, whose advantages are GAE over turns (returns.h)
 * instead of a group's. The value head's own loss is value_head.h's. */
#ifndef PAL_TRAINER_LOSS_PPO_H
#define PAL_TRAINER_LOSS_PPO_H

#include "trainer/loss.h"

void loss_ppo(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_grad *grad,
              struct loss_sums *sums);

#endif
