/* What the losses on ratios share: a target's importance weight, the clipped surrogate, entropy bonus and KL.
 *
 * Importance (DART, arXiv 2509.23866; ALGORITHMS B 1.8f): with rho = exp(prox - behave)
 *     w = 1 (off, behave_ratio, or nothing was recorded) | min(rho, cap) (tis) | the same, 0 outside [1/2, 2] (masked)
 * KL to the reference: k3 = exp(d) - d - 1, d = reference - theta (Schulman 2020, "Approximating KL divergence").
 * Log-ratios are clamped to +-LOSS_LOG_RATIO_MAX; where the clamp holds the derivative is 0. */
#ifndef PAL_TRAINER_LOSS_PARTS_H
#define PAL_TRAINER_LOSS_PARTS_H

#include "trainer/loss.h"

struct loss_target {
    double start; /* what the ratio is against: prox, or behave with terms.behave_ratio */
    double w;     /* importance weight, no gradient; below 0: the target is masked and takes no part */
};

/* Reads target i and adds what it tells about the data to *sums. */
struct loss_target loss_target_read(const struct loss_terms *terms, const struct loss_batch *batch, size_t i,
                                    struct loss_sums *sums);

double loss_clamp(double log_ratio);

/* s = min(ratio A, clip(ratio, 1 - low, 1 + high) A), with dual_clip and A < 0 at least dual_clip A; *ret_slope = ds/dlog
 * ratio. */
double loss_surrogate(const struct loss_terms *terms, double log_ratio, double advantage, double *ret_slope,
                      struct loss_sums *sums);

/* Adds -entropy H + kl k3 of target i, weighted, to the loss and to the derivatives. */
void loss_regularize(const struct loss_terms *terms, const struct loss_batch *batch, size_t i, const struct loss_grad *grad,
                     struct loss_sums *sums);

#endif
