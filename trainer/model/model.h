/* The embedded engine's model: a decoder-only transformer of the Llama/Qwen2 family in fp32.
 *
 * RMSNorm, rotary positions (pairs i and i + head_dim/2, Hugging Face's layout), grouped-query attention, SwiGLU, optional
 * q/k/v bias, tied or separate head. All weights live in one contiguous block, tensor after tensor in the order of
 * tensors.def; weight matrices are row-major [out, in] as in Hugging Face files. Token ids at or past `vocab` do not exist:
 * `vocab_padded` rows may be stored (for alignment, or because a file has them) but are masked everywhere (softmax, entropy,
 * gradients).
 *
 * A model is only weights: it may be read from several threads at once. Who trains it owns a `learner` (learner.h); who
 * plays with it owns a `decoder` (decoder.h). Dimensions in comments: T tokens, D width, V vocab, H heads, K kv heads,
 * F ff, L layers. */
#ifndef PAL_TRAINER_MODEL_MODEL_H
#define PAL_TRAINER_MODEL_MODEL_H

#include "services/common/base/digest.h"
#include "services/common/base/err.h"
#include "services/common/base/rng.h"
#include "services/common/base/span.h"

#include <stdint.h>

/* How rotary frequencies are stretched for sequences longer than those of pre-training. */
enum rope_scaling_kind {
    ROPE_SCALING_none,
    ROPE_SCALING_linear, /* every frequency / factor (Chen et al. 2023) */
    ROPE_SCALING_llama3  /* long wavelengths / factor, short ones kept, smooth between (Llama 3.1's files) */
};

struct rope_scaling {
    enum rope_scaling_kind kind; /* the fields behind are 0 where the kind has no use for them */
    float factor;                /* >= 1 */
    float low_freq_factor;       /* llama3: wavelengths past original_positions / low_freq_factor are long, */
    float high_freq_factor;      /* those below original_positions / high_freq_factor short; above low_freq_factor */
    int32_t original_positions;  /* of pre-training */
};

struct model_config {
    int32_t vocab;         /* V, ids in use: 2 to 1 << 20 */
    int32_t vocab_padded;  /* rows stored, >= vocab */
    int32_t layers;        /* L, 1 to 256 */
    int32_t width;         /* D */
    int32_t heads;         /* H */
    int32_t kv_heads;      /* K, divides H */
    int32_t head_dim;      /* even */
    int32_t ff;            /* F */
    int32_t max_positions; /* longest sequence in tokens */
    float rope_theta;
    struct rope_scaling rope_scaling;
    float rms_eps;
    bool qkv_bias;
    bool tied; /* the head is the embedding */
};

struct model {
    struct model_config config;
    size_t count;      /* parameters, padding rows included */
    float *weights;    /* [count], 64-byte aligned */
    bool owns_weights; /* false: borrowed, e.g. mapped shared memory */
};

/* Sizes within bounds and consistent, else ERR_invalid naming the field. */
err_t model_config_check(const struct model_config *config) MUST_USE;
/* The same function of the same weights. */
bool model_config_equal(const struct model_config *a, const struct model_config *b);
/* Looks a preset up ("tiny-0.4m", ...; presets.def) and fills its shape for a vocabulary. ERR_not_found lists the names. */
err_t model_preset(const char *name, int32_t vocab, struct model_config *ret) MUST_USE;

size_t model_parameters(const struct model_config *config); /* stored floats */

err_t model_new(struct model **ret, const struct model_config *config) MUST_USE; /* zero weights */
/* Wraps weights that outlive the model; count must fit the config. */
err_t model_wrap(struct model **ret, const struct model_config *config, float *weights, size_t count) MUST_USE;
void model_free(struct model **model);
/* Normal(0, 0.02) matrices, residual outputs scaled by 1/sqrt(2L), norms 1, biases 0: the same for the same seed. */
void model_init(struct model *model, uint64_t seed);

/* SHA-256 over the config and the weights' bytes: a policy's identity. */
err_t model_digest(const struct model *model, struct digest *ret) MUST_USE;

#endif
