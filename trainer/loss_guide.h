/* Hinted sequences: an action drawn with a hint in its context, learned from as if without (Guide, arXiv 2506.13923; the
 * authors' code, ALGORITHMS A4 and B 3.3).
 *
 * For a target with theta under the context without the hint, prox and behave under the one with it, advantage A, weight g
 * and importance weight w = min(prox/behave, cap) (loss_parts.h):
 *     r  = exp(theta - prox)                            theta/behave and w = 1 with terms.behave_ratio
 *     f(r) = r | r / (r + gamma), gamma given | the same, gamma = max(1e-4, quantile of the sequence's r) | r ^ power
 *     L += g (-w A f(r) - entropy H + kl k3)            with clip c > 0: -w min(A f(r), A f(clip(r, 1 - c, 1 + c)))
 * The gradient by theta is -g w A r f'(r); gamma carries none. The quantile interpolates between neighbours as the authors'
 * does and leaves out targets that are `certain` under both contexts (a terminator's r is near 1 and would set gamma for
 * words whose r is a hundredth); where all are, none is left out. */
#ifndef PAL_TRAINER_LOSS_GUIDE_H
#define PAL_TRAINER_LOSS_GUIDE_H

#include "trainer/loss.h"

#define LOSS_GUIDE_GAMMA_LEAST 1e-4

/* f(r) and r f'(r). */
double loss_guide_shape(const struct loss_guide *guide, double gamma, double r, double *ret_slope);
/* The linearly interpolated quantile of n >= 1 numbers, which are sorted in place. */
double loss_guide_quantile(float *numbers, size_t n, double quantile);

/* One hinted sequence of the batch. */
void loss_guide(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_sequence *sequence,
                const struct loss_grad *grad, struct loss_sums *sums);

#endif
