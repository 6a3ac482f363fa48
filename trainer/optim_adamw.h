/* AdamW (Loshchilov and Hutter 2019, algorithm 2) with a clip on the gradient's global norm, over one block of parameters.
 *
 *     g <- g min(1, clip / |g|)                     |g| over all parameters, in double
 *     m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2
 *     w <- w - lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay w)     decay on `decayed` ranges only
 *
 * The work is cut into fixed pieces, each computed the same way on whichever thread, so a step gives the same bits for any
 * number of threads. */
#ifndef PAL_TRAINER_OPTIM_ADAMW_H
#define PAL_TRAINER_OPTIM_ADAMW_H

#include "services/common/base/err.h"
#include "services/common/base/pool.h"

#include <stdint.h>

struct model_config;

struct adamw_config {
    float beta1;
    float beta2;
    float eps;
    float weight_decay;
    float clip; /* largest norm of the gradient; 0: no clip */
};

#define ADAMW_DEFAULTS                                                                                                       \
    {                                                                                                                        \
        .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .clip = 1.0f                                                           \
    }

/* Parameters [offset, offset + count), ascending and apart. */
struct adamw_range {
    size_t offset;
    size_t count;
};

/* The state is open: checkpoints store step, m and v. */
struct adamw {
    struct adamw_config config;
    size_t count;
    uint64_t step; /* t: steps taken */
    float *m;      /* [count] */
    float *v;      /* [count] */
    struct adamw_range *decayed;
    size_t decayed_count;
    double *partial; /* [pieces] squares of the gradient */
};

/* ERR_invalid naming the field; ERR_memory. decayed may be NULL with 0: nothing decays. */
err_t adamw_new(struct adamw **ret, const struct adamw_config *config, size_t count, const struct adamw_range *decayed,
                size_t decayed_count) MUST_USE;
/* For a model: matrices and embeddings decay, norms and biases do not. */
err_t adamw_new_model(struct adamw **ret, const struct adamw_config *config, const struct model_config *model) MUST_USE;
void adamw_free(struct adamw **adamw);
void adamw_reset(struct adamw *adamw); /* step 0, zero moments */

/* One step: weights [count] -= ... by gradient [count], which is not changed. *ret_norm is the gradient's norm before the
 * clip. ERR_numeric when it is not finite: then neither weights nor state have changed. pool NULL: the caller's thread. */
err_t adamw_step(struct adamw *adamw, float lr, float *weights, const float *gradient, struct pool *pool,
                 double *ret_norm) MUST_USE;

#endif
