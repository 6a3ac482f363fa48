/* Drawing a token: softmax over the vocabulary at a temperature, nothing cut off.
 *
 * log-prob and entropy are those of the distribution that the token is drawn from (full vocabulary, nats, tempered), as
 * learner_forward computes them. Arithmetic in double over float logits; one uniform number per draw. */
#ifndef PAL_ROLLOUT_SAMPLER_H
#define PAL_ROLLOUT_SAMPLER_H

#include "services/common/base/err.h"
#include "services/common/base/rng.h"

struct sampled {
    int32_t token;
    float logp;    /* <= 0 */
    float entropy; /* >= 0 */
};

/* logits [vocab], scratch [vocab] floats. ERR_numeric when a logit is not finite: then nothing is drawn. */
err_t sampler_draw(const float *logits, size_t vocab, float temperature, struct rng *rng, float *scratch,
                   struct sampled *ret) MUST_USE;

#endif
