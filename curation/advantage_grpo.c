/* A_i = (R_i - mean R) / (std R + 1e-6), std with n - 1. GRPO (Shao et al., DeepSeekMath, arXiv 2402.03300, section 4.1.2);
 * sample std as in the authors' and verl's code; the 1e-6 is outside the root. */
#include "curation/advantage.h"

#include <math.h>

#define STD_FLOOR 1e-6

void advantage_grpo(const double *rewards, size_t n, double *ret)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += rewards[i];
    double mean = sum / (double)n;
    double squares = 0;
    for (size_t i = 0; i < n; i++) squares += (rewards[i] - mean) * (rewards[i] - mean);
    double std = sqrt(squares / (double)(n - 1));
    for (size_t i = 0; i < n; i++) ret[i] = (rewards[i] - mean) / (std + STD_FLOOR);
}
