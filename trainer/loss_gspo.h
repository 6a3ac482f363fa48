/* The clipped policy gradient on sequence ratios: GSPO (Zheng et al. 2025, arXiv 2507.18071, eq. 5 and 7), DART's public
 * configuration (ALGORITHMS B 1.9).
 *
 * For a sequence of n targets with log-probs theta, start (prox, or behave with terms.behave_ratio), advantage A, weights g
 * and importance weights w (loss_parts.h):
 *     ratio = exp(1/n sum (theta - start))
 *     s     = grpo's surrogate of that ratio
 *     L    += -(sum g w) s + sum g (-entropy H + kl k3)
 * With seq_mean and w = 1 sum g is one over the number of sequences: the paper's objective. A sequence is a whole episode, or
 * one turn with rollout.context step. A target masked by `masked` has w = 0 but is in the ratio. A sequence that the clip
 * took counts all its targets as clipped. Hinted sequences are loss_guide's: their ratio is of two contexts. */
#ifndef PAL_TRAINER_LOSS_GSPO_H
#define PAL_TRAINER_LOSS_GSPO_H

#include "trainer/loss.h"

void loss_gspo(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_grad *grad,
               struct loss_sums *sums);

#endif
