#include "trainer/loss_grpo.h"

#include "trainer/loss_guide.h"
#include "trainer/loss_parts.h"

#include <math.h>

static void one(const struct loss_terms *terms, const struct loss_batch *batch, size_t i, const struct loss_grad *grad,
                struct loss_sums *sums)
{
    struct loss_target t = loss_target_read(terms, batch, i, sums);
    if (t.w < 0) return;
    double g = (double)batch->weight[i], slope = 0, d = (double)batch->theta[i] - t.start;
    double s = loss_surrogate(terms, d, (double)batch->advantage[i], &slope, sums);
    sums->plain += 1;
    sums->ratio += exp(loss_clamp(d));
    sums->loss -= g * t.w * s;
    grad->dlogp[i] = (float)(-g * t.w * slope);
    loss_regularize(terms, batch, i, grad, sums);
}

void loss_grpo(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_grad *grad,
               struct loss_sums *sums)
{
    for (size_t s = 0; s < batch->sequences; s++) {
        const struct loss_sequence *sequence = &batch->sequence[s];
        if (sequence->hinted) {
            loss_guide(terms, batch, sequence, grad, sums);
            continue;
        }
        for (size_t t = 0; t < sequence->count; t++) {
            const struct loss_turn *turn = &batch->turn[sequence->first + t];
            for (size_t i = turn->first; i < turn->first + turn->count; i++) one(terms, batch, i, grad, sums);
        }
    }
}
