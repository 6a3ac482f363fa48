#include "rollout/sampler.h"

#include <math.h>

err_t sampler_draw(const float *logits, size_t vocab, float temperature, struct rng *rng, float *scratch, struct sampled *ret)
{
    float high = logits[0], check = 0;
    for (size_t i = 0; i < vocab; i++) {
        high = logits[i] > high ? logits[i] : high;
        check += logits[i] * 0.0f; /* NaN for a NaN or an infinity */
    }
    if (!(check == 0.0f)) return err_set(ERR_numeric, "a logit is not finite");
    float inverse = 1.0f / temperature;
    double sum = 0, weighted = 0;
    for (size_t i = 0; i < vocab; i++) {
        float shifted = (logits[i] - high) * inverse, e = expf(shifted);
        scratch[i] = e;
        sum += (double)e;
        weighted += (double)(e * shifted);
    }
    double log_sum = log(sum), left = rng_unit(rng) * sum;
    size_t pick = vocab;
    for (size_t i = 0; i < vocab; i++) {
        if (scratch[i] > 0) pick = i; /* rounding at the end falls on the last possible token */
        left -= (double)scratch[i];
        if (left < 0) break;
    }
    double logp = (double)((logits[pick] - high) * inverse) - log_sum, entropy = log_sum - weighted / sum;
    *ret = (struct sampled){(int32_t)pick, (float)(logp < 0 ? logp : 0), (float)(entropy > 0 ? entropy : 0)};
    return ERR_ok;
}
