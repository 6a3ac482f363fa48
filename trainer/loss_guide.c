#include "trainer/loss_guide.h"

#include "trainer/loss_parts.h"

#include <math.h>
#include <stdlib.h>

double loss_guide_shape(const struct loss_guide *guide, double gamma, double r, double *ret_slope)
{
    switch (guide->shaping) {
    case LOSS_SHAPING_none:
        *ret_slope = r;
        return r;
    case LOSS_SHAPING_constant:
    case LOSS_SHAPING_quantile:
        *ret_slope = r * gamma / ((r + gamma) * (r + gamma));
        return r / (r + gamma);
    case LOSS_SHAPING_power: {
        double f = pow(r, guide->power);
        *ret_slope = guide->power * f;
        return f;
    }
    }
    return 0;
}

static int ascending(const void *left, const void *right)
{
    const float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

double loss_guide_quantile(float *numbers, size_t n, double quantile)
{
    qsort(numbers, n, sizeof *numbers, ascending);
    double at = quantile * (double)(n - 1);
    size_t low = (size_t)at;
    if (low + 1 >= n) return (double)numbers[n - 1];
    double above = at - (double)low;
    return (double)numbers[low] * (1 - above) + (double)numbers[low + 1] * above;
}

/* The ratios of the sequence's targets, those certain under both contexts or only the others. */
static size_t ratios(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_sequence *sequence,
                     bool with_certain)
{
    size_t n = 0;
    double certain = log(terms->guide.certain);
    for (size_t t = 0; t < sequence->count; t++) {
        const struct loss_turn *turn = &batch->turn[sequence->first + t];
        for (size_t i = turn->first; i < turn->first + turn->count; i++) {
            bool recorded = batch->behave[i] < LOSS_UNRECORDED;
            double theta = (double)batch->theta[i];
            double start = (double)(terms->behave_ratio && recorded ? batch->behave[i] : batch->prox[i]);
            if (!with_certain && theta > certain && start > certain) continue;
            batch->scratch[n++] = (float)exp(loss_clamp(theta - start));
        }
    }
    return n;
}

static double gamma_of(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_sequence *sequence)
{
    if (terms->guide.shaping != LOSS_SHAPING_quantile) return terms->guide.gamma;
    size_t n = ratios(terms, batch, sequence, false);
    if (n == 0) n = ratios(terms, batch, sequence, true);
    double gamma = loss_guide_quantile(batch->scratch, n, terms->guide.quantile);
    return gamma > LOSS_GUIDE_GAMMA_LEAST ? gamma : LOSS_GUIDE_GAMMA_LEAST;
}

static void one(const struct loss_terms *terms, const struct loss_batch *batch, size_t i, double gamma,
                const struct loss_grad *grad, struct loss_sums *sums)
{
    struct loss_target t = loss_target_read(terms, batch, i, sums);
    if (t.w < 0) return;
    const struct loss_guide *guide = &terms->guide;
    double A = (double)batch->advantage[i], g = (double)batch->weight[i], log_r = (double)batch->theta[i] - t.start;
    double d = loss_clamp(log_r), r = exp(d), slope = 0, unused = 0;
    double s = A * loss_guide_shape(guide, gamma, r, &slope);
    sums->hinted += 1;
    sums->hint_log_ratio += d;
    if (guide->clip > 0) {
        double low = guide->clip < 1 ? 1 - guide->clip : 0, high = 1 + guide->clip;
        double clipped = A * loss_guide_shape(guide, gamma, r < low ? low : r > high ? high : r, &unused);
        if (clipped < s) {
            s = clipped;
            slope = 0;
            sums->clipped += 1;
        }
    }
    if (d != log_r) slope = 0;
    sums->hint_weight += t.w * slope;
    sums->loss -= g * t.w * s;
    grad->dlogp[i] = (float)(-g * t.w * A * slope);
    loss_regularize(terms, batch, i, grad, sums);
}

void loss_guide(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_sequence *sequence,
                const struct loss_grad *grad, struct loss_sums *sums)
{
    if (sequence->count == 0) return;
    double gamma = gamma_of(terms, batch, sequence);
    if (terms->guide.shaping == LOSS_SHAPING_constant || terms->guide.shaping == LOSS_SHAPING_quantile) {
        sums->hint_sequences += 1;
        sums->hint_gamma += gamma;
    }
    for (size_t t = 0; t < sequence->count; t++) {
        const struct loss_turn *turn = &batch->turn[sequence->first + t];
        for (size_t i = turn->first; i < turn->first + turn->count; i++) one(terms, batch, i, gamma, grad, sums);
    }
}
