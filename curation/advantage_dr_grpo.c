/* A_i = R_i - mean R. Dr. GRPO (Liu et al., Understanding R1-Zero-Like Training, arXiv 2503.20783, equation 2): without the
 * std, which weighs easy and hard tasks more than the others. */
#include "curation/advantage.h"

void advantage_dr_grpo(const double *rewards, size_t n, double *ret)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += rewards[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) ret[i] = rewards[i] - mean;
}
