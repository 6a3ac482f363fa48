#include "trainer/loss_imitation.h"

void loss_imitation(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_grad *grad,
                    struct loss_sums *sums)
{
    (void)terms;
    for (size_t i = 0; i < batch->targets; i++) {
        sums->targets += 1;
        sums->entropy += (double)batch->entropy[i];
        sums->loss -= (double)batch->weight[i] * (double)batch->theta[i];
        grad->dlogp[i] = -batch->weight[i];
    }
}
