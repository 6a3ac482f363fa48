#include "trainer/loss_grpo.h"

#include <math.h>

static double clamp_log(double log_ratio)
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

/* The importance weight, and what it tells about the data. Negative: the target is masked. */
static double importance(const struct loss_terms *terms, double start, double behave, struct loss_sums *sums)
{
    double d = clamp_log(start - behave), rho = exp(d);
    sums->recorded += 1;
    sums->rho += rho;
    sums->rho_square += rho * rho;
    sums->behave_kl += k3(d);
    loss_gap_add(sums, fabs(start - behave));
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

/* The surrogate s and its derivative by theta. */
static double surrogate(const struct loss_terms *terms, double log_ratio, double advantage, double *ret_slope,
                        struct loss_sums *sums)
{
    double d = clamp_log(log_ratio), ratio = exp(d);
    sums->ratio += ratio;
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

void loss_grpo(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_grad *grad,
               struct loss_sums *sums)
{
    for (size_t i = 0; i < batch->targets; i++) {
        double theta = (double)batch->theta[i], g = (double)batch->weight[i], entropy = (double)batch->entropy[i];
        double start = batch->prox ? (double)batch->prox[i] : theta;
        bool recorded = batch->behave[i] < LOSS_UNRECORDED;
        double behave = recorded ? (double)batch->behave[i] : start;
        sums->targets += 1;
        sums->entropy += entropy;
        grad->dlogp[i] = 0;
        grad->dentropy[i] = 0;
        if (recorded && batch->own && batch->own[i]) {
            sums->own += 1;
            if (fabs(start - behave) > sums->own_gap) sums->own_gap = fabs(start - behave);
        }
        double w = recorded ? importance(terms, start, behave, sums) : 1;
        if (w < 0) continue;
        double slope = 0;
        double s =
            surrogate(terms, theta - (terms->behave_ratio ? behave : start), (double)batch->advantage[i], &slope, sums);
        double loss = -w * s - terms->entropy * entropy, dlogp = -w * slope;
        if (batch->reference) {
            double away = (double)batch->reference[i] - theta, d = clamp_log(away);
            sums->reference += k3(d);
            loss += terms->kl * k3(d);
            if (d == away) dlogp -= terms->kl * expm1(d);
        }
        sums->loss += g * loss;
        grad->dlogp[i] = (float)(g * dlogp);
        grad->dentropy[i] = (float)(-g * terms->entropy);
    }
}
