#include "trainer/loss_gspo.h"

#include "trainer/loss_guide.h"
#include "trainer/loss_parts.h"

#include <math.h>

static void one(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_sequence *sequence,
                const struct loss_grad *grad, struct loss_sums *sums)
{
    const struct loss_turn *turn = &batch->turn[sequence->first], *end = turn + sequence->count;
    double n = 0, log_ratio = 0, weight = 0, slope = 0;
    for (const struct loss_turn *t = turn; t < end; t++) {
        for (size_t i = t->first; i < t->first + t->count; i++) {
            struct loss_target target = loss_target_read(terms, batch, i, sums);
            n += 1;
            log_ratio += (double)batch->theta[i] - target.start;
            if (target.w < 0) continue;
            weight += (double)batch->weight[i] * target.w;
            loss_regularize(terms, batch, i, grad, sums);
        }
    }
    log_ratio /= n;
    double before = sums->clipped;
    double s = loss_surrogate(terms, log_ratio, (double)batch->advantage[turn->first], &slope, sums);
    if (sums->clipped > before) sums->clipped = before + n;
    sums->plain += n;
    sums->ratio += n * exp(loss_clamp(log_ratio));
    sums->loss -= weight * s;
    for (const struct loss_turn *t = turn; t < end; t++) {
        for (size_t i = t->first; i < t->first + t->count; i++) grad->dlogp[i] += (float)(-weight * slope / n);
    }
}

void loss_gspo(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_grad *grad,
               struct loss_sums *sums)
{
    for (size_t s = 0; s < batch->sequences; s++) {
        const struct loss_sequence *sequence = &batch->sequence[s];
        if (sequence->count == 0) continue;
        if (sequence->hinted)
            loss_guide(terms, batch, sequence, grad, sums);
        else
            one(terms, batch, sequence, grad, sums);
    }
}
