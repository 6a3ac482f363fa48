/* The clipped policy gradient on token ratios: PPO's surrogate (Schulman et al. 2017, eq. 7) with GRPO's group advantages
 * (Shao et al. 2024), asymmetric clip (DAPO, Yu et al. 2025, eq. 8), dual clip (Ye et al. 2020, eq. 4), and truncated
 * importance weights for behaviour that differs from the learner's (DART, arXiv 2509.23866; ALGORITHMS B 1.8f).
 *
 * For a target with log-probs theta, prox, behave, reference, entropy H, advantage A, weight g and importance weight w
 * (loss_parts.h):
 *     ratio = exp(theta - prox)                         theta/behave with terms.behave_ratio
 *     s     = min(ratio A, clip(ratio, 1 - low, 1 + high) A);  if dual_clip and A < 0: s = max(s, dual_clip A)
 *     L    += g (-w s - entropy H + kl k3)
 * w and prox carry no gradient. A target masked by `masked` takes no part at all, but stays in the denominator. Hinted
 * sequences are loss_guide's. */
#ifndef PAL_TRAINER_LOSS_GRPO_H
#define PAL_TRAINER_LOSS_GRPO_H

#include "trainer/loss.h"

void loss_grpo(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_grad *grad,
               struct loss_sums *sums);

#endif
