#include "trainer/loss_ppo.h"

#include "trainer/loss_grpo.h"

void loss_ppo(const struct loss_terms *terms, const struct loss_batch *batch, const struct loss_grad *grad,
              struct loss_sums *sums)
{
    loss_grpo(terms, batch, grad, sums);
}
