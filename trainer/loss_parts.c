#include "trainer/loss_parts.h"

#include <math.h>

double loss_clamp(double log_ratio)
{
    if (log_ratio > LOSS_LOG_RATIO_MAX) return LOSS_LOG_RATIO_MAX;
    if (log_ratio < -LOSS_LOG_RATIO_MAX) return -LOSS_LOG_RATIO_MAX;
    return log_ratio;
}

/* exp(d) - d - 1 without cancellation at small d, never below 0 */
static double k3(double d)
{
    return expm1(d) - d;
}

static double importance(const struct loss_terms *terms, double prox, double behave, struct loss_sums *sums)
{
    double d = loss_clamp(prox - behave), rho = exp(d);
    sums->recorded += 1;
    sums->rho += rho;
    sums->rho_square += rho * rho;
    sums->behave_kl += k3(d);
    loss_gap_add(sums, fabs(prox - behave));
    double w = 1;
    bool masked = false;
    if (!terms->behave_ratio && terms->importance != LOSS_IMPORTANCE_off) {
        w = rho < terms->cap ? rho : terms->cap;
        masked = terms->importance == LOSS_IMPORTANCE_masked && (rho < 1 / LOSS_MASK_RATIO || rho > LOSS_MASK_RATIO);
        if (masked || rho > terms->cap) sums->truncated += 1;
    }
    sums->weight += masked ? 0 : w;
    return masked ? -1 : w;
}

struct loss_target loss_target_read(const struct loss_terms *terms, const struct loss_batch *batch, size_t i,
                                    struct loss_sums *sums)
{
    double prox = (double)batch->prox[i], behave = (double)batch->behave[i];
    sums->targets += 1;
    sums->entropy += (double)batch->entropy[i];
    if (!(batch->behave[i] < LOSS_UNRECORDED)) return (struct loss_target){prox, 1};
    if (batch->own && batch->own[i]) {
        sums->own += 1;
        if (fabs(prox - behave) > sums->own_gap) sums->own_gap = fabs(prox - behave);
    }
    return (struct loss_target){terms->behave_ratio ? behave : prox, importance(terms, prox, behave, sums)};
}

double loss_surrogate(const struct loss_terms *terms, double log_ratio, double advantage, double *ret_slope,
                      struct loss_sums *sums)
{
    double d = loss_clamp(log_ratio), ratio = exp(d);
    double clipped = ratio < 1 - terms->clip_low    ? 1 - terms->clip_low
                     : ratio > 1 + terms->clip_high ? 1 + terms->clip_high
                                                    : ratio;
    double s = ratio * advantage;
    *ret_slope = d == log_ratio ? s : 0;
    if (clipped * advantage < s) {
        s = clipped * advantage;
        *ret_slope = 0;
        sums->clipped += 1;
    } else if (terms->dual_clip > 0 && advantage < 0 && terms->dual_clip * advantage > s) {
        s = terms->dual_clip * advantage;
        *ret_slope = 0;
        sums->clipped += 1;
    }
    return s;
}

void loss_regularize(const struct loss_terms *terms, const struct loss_batch *batch, size_t i, const struct loss_grad *grad,
                     struct loss_sums *sums)
{
    double g = (double)batch->weight[i], dlogp = 0, loss = -terms->entropy * (double)batch->entropy[i];
    if (batch->reference) {
        double away = (double)batch->reference[i] - (double)batch->theta[i], d = loss_clamp(away);
        sums->reference += k3(d);
        loss += terms->kl * k3(d);
        if (d == away) dlogp = -terms->kl * expm1(d);
    }
    sums->loss += g * loss;
    grad->dlogp[i] += (float)(g * dlogp);
    grad->dentropy[i] += (float)(-g * terms->entropy);
}
