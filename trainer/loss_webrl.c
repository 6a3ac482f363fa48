#include "trainer/loss_webrl.h"

#include "trainer/loss_parts.h"

#include <math.h>

#define SURE       0.8 /* the released code's: what the reference already does this surely */
#define SURE_SLOPE 5.0 /* is pushed by this much less far */

/* The paper's loss of a turn and its derivative by l. */
static double paper(double beta, double l, double advantage, double *ret_slope)
{
    double away = beta * l - advantage;
    *ret_slope = 2 * beta * away;
    return away * away;
}

static double released(double l, double reference_mean, double advantage, double *ret_slope)
{
    *ret_slope = 0;
    if (advantage <= 0) return 0;
    double b = reference_mean >= log(SURE) ? SURE_SLOPE : 1;
    if (b * fabs(l) > 1) b = 1 / fabs(l);
    double d = b * l - 1, slope = d < -1 ? -1 : d > 1 ? 1 : d;
    *ret_slope = slope;
    return (fabs(d) < 1 ? d * d / 2 : fabs(d) - 0.5) / b;
}

static void one(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_turn *turn,
                const struct loss_grad *grad, struct loss_sums *sums)
{
    const struct loss_regression *r = &terms->regression;
    size_t end = turn->first + turn->count;
    double n = (double)turn->count, l = 0, reference = 0, weight = 0, slope = 0;
    for (size_t i = turn->first; i < end; i++) {
        (void)loss_target_read(terms, batch, i, sums);
        sums->plain += 1;
        sums->ratio += exp(loss_clamp((double)batch->theta[i] - (double)batch->prox[i]));
        l += (double)batch->theta[i] - (double)batch->reference[i];
        reference += (double)batch->reference[i];
        weight += (double)batch->weight[i];
        loss_regularize(terms, batch, i, grad, sums);
    }
    double scale = r->mean || r->released ? 1 / n : 1, advantage = (double)batch->advantage[turn->first];
    sums->loss += weight * (r->released ? released(l / n, reference / n, advantage, &slope)
                                        : paper(r->beta, l * scale, advantage, &slope));
    for (size_t i = turn->first; i < end; i++) grad->dlogp[i] += (float)(weight * slope * scale);
}

void loss_webrl(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_grad *grad,
                struct loss_sums *sums)
{
    BUG_IF(!batch->reference);
    for (size_t t = 0; t < batch->turns; t++) one(terms, batch, &batch->turn[t], grad, sums);
}
