/* The value head: V of a state, an estimate of the episode's outcome in [0, 1], from the policy's last hidden state.
 *
 *     a = ReLU(h W + b),  V = sigmoid(a u + c)          h [D] the final norm's output at the last token before the action
 *
 * A head is only weights, one block of W [D, units], b [units], u [units], c [1]; any number of threads may read it. Its
 * ReLU layer is where FAU, the share of positive activations, is measured (arXiv 2310.07418). */
#ifndef PAL_TRAINER_VALUE_HEAD_H
#define PAL_TRAINER_VALUE_HEAD_H

#include "services/common/base/digest.h"
#include "services/common/base/err.h"

#include <stdint.h>

#define VALUE_HEAD_UNITS_MOST 4096

struct value_head {
    size_t width; /* D */
    size_t units;
    size_t count;   /* weights */
    float *weights; /* [count] */
    bool owns_weights;
};

size_t value_head_parameters(size_t width, size_t units);

err_t value_head_new(struct value_head **ret, size_t width, size_t units) MUST_USE; /* zero weights */
/* Wraps weights that outlive the head (never written to): ERR_invalid when count does not fit. */
err_t value_head_wrap(struct value_head **ret, size_t width, size_t units, const float *weights, size_t count) MUST_USE;
void value_head_free(struct value_head **head);
/* W normal(0, sqrt(2 / D)), u normal(0, 0.1 / sqrt(units)), biases 0: V is near 1/2 everywhere. The same for the same seed.
 */
void value_head_init(struct value_head *head, uint64_t seed);
/* SHA-256 of sizes and weights. */
err_t value_head_digest(const struct value_head *head, struct digest *ret) MUST_USE;

/* V of n states hidden [n, D] into value [n]; active [n, units] is a, kept for backward. */
void value_head_forward(const struct value_head *head, const float *hidden, size_t n, float *active, float *value);
/* Given dz [n] = dL/d(a u + c): adds to gradient [count], which is laid out as the weights, and sets dhidden [n, D] unless it
 * is NULL. active is used up. */
void value_head_backward(const struct value_head *head, const float *hidden, float *active, size_t n, const float *dz,
                         float *gradient, float *dhidden);

#endif
