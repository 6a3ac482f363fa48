/* A_i = R_i - mean of R_j over j != i. REINFORCE leave-one-out (Kool et al. 2019; Ahmadian et al., Back to Basics,
 * arXiv 2402.14740, equation 7): a baseline that does not depend on the episode it is subtracted from, so unbiased. */
#include "curation/advantage.h"

void advantage_rloo(const double *rewards, size_t n, double *ret)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += rewards[i];
    for (size_t i = 0; i < n; i++) ret[i] = rewards[i] - (sum - rewards[i]) / (double)(n - 1);
}
