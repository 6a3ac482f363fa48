/* WebRL's regression (arXiv 2411.02337; ALGORITHMS A5 and B 2.4, 2.5): the optimum of the KL-regularised objective satisfies
 * beta log(theta/reference) = A, so any source of actions will do, without a ratio.
 *
 * For a turn of n targets with advantage A and weights g, l = sum (theta - reference), or that over n with terms.mean:
 *     paper      L += (sum g) (beta l - A)^2,           the gradient by theta is (sum g) 2 beta (beta l - A) [/ n]
 *     released   L += (sum g) SmoothL1(b l - 1) / b     for turns with A > 0, nothing for the others; always l over n;
 *                b = 5 where the reference's mean log-prob is at least log 0.8, else 1, and at most 1 / |l|; b carries no
 *                gradient; SmoothL1(d) = d^2 / 2 for |d| < 1, else |d| - 1/2
 * The entropy bonus and k3 KL of the job are added as everywhere. What the sampler recorded only goes into the figures. */
#ifndef PAL_TRAINER_LOSS_WEBRL_H
#define PAL_TRAINER_LOSS_WEBRL_H

#include "trainer/loss.h"

/* batch->reference must be there. */
void loss_webrl(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_grad *grad,
                struct loss_sums *sums);

#endif
