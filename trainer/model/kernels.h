/* The layers of the transformer, built once per instruction set.
 *
 * Each layer is a pair x_forward / x_backward in x.inc; kernels_<isa>.c compiles them all for one instruction set, and
 * kernels() picks the best that this processor has. Backward passes ADD to gradients of weights and of activations unless
 * a comment says "sets". No allocation, no state: any number of threads may call. Arrays are row-major; shapes stand
 * behind the parameters. T tokens, D width, H heads, K kv heads, G = H / K, E head_dim, A = H E, S = (H + 2 K) E, F ff,
 * R target rows, V vocabulary. */
#ifndef PAL_TRAINER_MODEL_KERNELS_H
#define PAL_TRAINER_MODEL_KERNELS_H

#include "trainer/model/gemm.h"

#include <stdbool.h>
#include <stdint.h>

/* What attention needs to know. qkv rows are [H heads of q, K of k, K of v], each E floats, q and k already rotated. */
struct attention {
    size_t heads;
    size_t kv_heads;
    size_t head_dim;
    size_t sequences;
    const uint32_t *start; /* [sequences + 1] */
    float *scratch;        /* [attention_scratch_floats] */
    float *pack;           /* [GEMM_PACK_FLOATS] */
};

#define ATTENTION_BLOCK 32 /* queries of one head at a time */

/* For sequences of up to max_tokens. */
size_t attention_scratch_floats(size_t heads, size_t kv_heads, size_t head_dim, size_t max_tokens);

/* One head group's keys and values in a decoder's cache. Keys are stored in panels of KV_PANEL positions,
 * [panel][E][KV_PANEL], so that one load gives the same component of neighbouring positions; values are [position][E].
 * Elements are floats or halves. */
#define KV_PANEL 32

struct kv {
    void *keys;
    void *values;
    bool half; /* IEEE binary16 instead of floats */
};

/* Softmax over one row of logits that come in parts: the first two are set by the caller, the rest by head_add. */
struct head_row {
    float inverse_temperature;
    int32_t token; /* the target */
    float high;    /* largest logit so far */
    float sum;     /* of e^d, d = (z - high) / temperature */
    float moment;  /* of e^d d */
    float target;  /* the target's logit */
};

/* What backward is told of a row. */
struct head_grad {
    float lse, entropy;    /* as head_end gave them */
    float dlogp, dentropy; /* dL/d of each */
};

struct kernels {
    const char *name; /* "x86-64-v4", ... */

    void (*gemm)(const struct gemm *g, float *scratch);
    void (*gemm_pack)(float *to, const float *b, size_t N, size_t K); /* B [N, K] to [gemm_packed_floats] */
    /* nt; g->b is not read. Columns [from, from + cols) of the N, of which the first goes to C's first; from is a multiple of
     * GEMM_NR_MAX. */
    void (*gemm_prepacked)(const struct gemm *g, const float *packed, size_t from, size_t cols);

    /* y = w x / sqrt(mean(x^2) + eps) (Zhang and Sennrich 2019); rstd [T] is kept for backward */
    void (*rmsnorm_forward)(float *y, float *rstd, const float *x, const float *w, size_t T, size_t D, float eps);
    void (*rmsnorm_backward)(float *dx, float *dw, const float *dy, const float *x, const float *rstd, const float *w,
                             size_t T, size_t D);

    /* Rotates `heads` heads of each row in place (Su et al. 2021), pairs i and i + E/2. table [positions, E]: E/2 cosines,
     * then E/2 sines. sign 1 forward, -1 backward (the inverse rotation). */
    void (*rope)(float *x, size_t stride, size_t T, size_t heads, size_t head_dim, const int32_t *position,
                 const float *table, float sign);

    /* Causal within each sequence. out [T, A], lse [T, H] = log of the softmax's sum, qkv [T, S]. backward sets dqkv. */
    void (*attention_forward)(const struct attention *a, float *out, float *lse, const float *qkv);
    void (*attention_backward)(const struct attention *a, float *dqkv, const float *dout, const float *out, const float *lse,
                               const float *qkv);

    /* gu [T, 2 F] = gate, up; y [T, F] = silu(gate) up (Shazeer 2020). backward sets dgu, and y again. */
    void (*swiglu_forward)(float *y, const float *gu, size_t T, size_t F);
    void (*swiglu_backward)(float *dgu, float *y, const float *dy, const float *gu, size_t T, size_t F);

    /* One target; p = softmax(logits / temperature). head_add takes the logits z [n] of ids [from, from + n), in order from 0
     * on; head_end sets lse, log p(token) and the entropy in nats. */
    void (*head_add)(struct head_row *row, const float *z, size_t from, size_t n);
    void (*head_end)(const struct head_row *row, float *lse, float *logp, float *entropy);
    /* Overwrites z [n], logits of ids [from, from + n), by dL/dz. */
    void (*head_backward)(const struct head_row *row, float *z, size_t from, size_t n, const struct head_grad *grad);

    /* Decoding: keys and values of one position into the cache, and G queries over positions [0, n). out [G, E];
     * scores [G, n rounded up to KV_PANEL] is scratch. */
    void (*kv_write)(const struct kv *kv, size_t position, const float *key, const float *value, size_t head_dim);
    void (*kv_attend)(const struct kv *kv, size_t n, const float *q, size_t G, size_t head_dim, float *scores, float *out);

    void (*add)(float *to, const float *from, size_t n);                             /* to += from */
    void (*add_rows)(float *x, size_t stride, const float *row, size_t T, size_t n); /* bias: x[t] += row */
    void (*sum_rows)(float *row, const float *x, size_t stride, size_t T, size_t n); /* its gradient: row += x[t] */
    void (*exp_all)(float *y, const float *x, size_t n);                             /* y = e^x (see simd.inc) */
};

const struct kernels *kernels(void);

/* Every build this processor can run, best first; NULL past the last. For tests. */
const struct kernels *kernels_at(size_t index);

#endif
