/* The transformer once more, in double, one token at a time and without cleverness: what the tests compare the engine with.
 * (A ck_assert that holds writes to a pipe all the same: inner loops test first and abort then.) Weights come from the
 * engine's layout; everything else is written from the formulas. */
#ifndef PAL_TESTS_MODEL_REFERENCE_H
#define PAL_TESTS_MODEL_REFERENCE_H

#include "trainer/model/layout.h"
#include "trainer/model/learner.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#define REF_KEYS 512 /* longest sequence */

struct reference {
    const struct model_config *c;
    struct layout layout;
    const double *weights;
};

static inline double *doubles(size_t n)
{
    double *p = calloc(n + 1, sizeof *p);
    if (!p) ck_abort_msg("no memory");
    return p;
}

static inline float *floats(size_t n)
{
    float *p = calloc(n + 1, sizeof *p);
    if (!p) ck_abort_msg("no memory");
    return p;
}

static inline const double *ref_tensor(const struct reference *m, enum tensor_id id, size_t layer)
{
    return m->weights + m->layout.offset[id] + layer * m->layout.layer_stride;
}

static inline void ref_linear(double *y, const double *W, const double *bias, const double *x, size_t out, size_t in)
{
    for (size_t o = 0; o < out; o++) {
        y[o] = bias ? bias[o] : 0;
        for (size_t i = 0; i < in; i++) y[o] += W[o * in + i] * x[i];
    }
}

static inline void ref_norm(double *y, const double *x, const double *w, size_t n, double eps)
{
    double squares = 0;
    for (size_t i = 0; i < n; i++) squares += x[i] * x[i];
    for (size_t i = 0; i < n; i++) y[i] = x[i] / sqrt(squares / (double)n + eps) * w[i];
}

static inline void ref_rope(double *x, size_t E, size_t position, double theta)
{
    for (size_t i = 0; i < E / 2; i++) {
        double angle = (double)position * pow(theta, -2.0 * (double)i / (double)E);
        double a = x[i], b = x[i + E / 2];
        x[i] = a * cos(angle) - b * sin(angle);
        x[i + E / 2] = b * cos(angle) + a * sin(angle);
    }
}

/* one query over n keys, keys and values `stride` apart */
static inline void ref_attend(double *out, const double *q, const double *k, const double *v, size_t n, size_t stride,
                              size_t E)
{
    double p[REF_KEYS], sum = 0, top = -1e300;
    if (n > REF_KEYS) ck_abort_msg("%zu keys", n);
    for (size_t j = 0; j < n; j++) {
        p[j] = 0;
        for (size_t i = 0; i < E; i++) p[j] += q[i] * k[j * stride + i] / sqrt((double)E);
        if (p[j] > top) top = p[j];
    }
    for (size_t j = 0; j < n; j++) sum += p[j] = exp(p[j] - top);
    for (size_t i = 0; i < E; i++) out[i] = 0;
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < E; i++) out[i] += p[j] / sum * v[j * stride + i];
    }
}

/* x [n, D] in place through one layer */
static inline void ref_layer(const struct reference *m, size_t l, double *x, size_t n)
{
    const struct model_config *c = m->c;
    size_t D = (size_t)c->width, E = (size_t)c->head_dim, H = (size_t)c->heads, K = (size_t)c->kv_heads, F = (size_t)c->ff;
    size_t A = H * E, S = A + 2 * K * E;
    double *qkv = doubles(n * S), *norm = doubles(D), *att = doubles(A), *out = doubles(D), *gu = doubles(2 * F);
    for (size_t t = 0; t < n; t++) {
        ref_norm(norm, x + t * D, ref_tensor(m, TENSOR_norm1, l), D, (double)c->rms_eps);
        const double *bias = c->qkv_bias ? ref_tensor(m, TENSOR_q_bias, l) : NULL;
        ref_linear(qkv + t * S, ref_tensor(m, TENSOR_q_proj, l), bias, norm, S, D);
        for (size_t h = 0; h < H + K; h++) ref_rope(qkv + t * S + h * E, E, t, (double)c->rope_theta);
    }
    for (size_t t = 0; t < n; t++) {
        for (size_t h = 0; h < H; h++) {
            const double *k = qkv + A + h / (H / K) * E;
            ref_attend(att + h * E, qkv + t * S + h * E, k, k + K * E, t + 1, S, E);
        }
        ref_linear(out, ref_tensor(m, TENSOR_o_proj, l), NULL, att, D, A);
        for (size_t i = 0; i < D; i++) x[t * D + i] += out[i];
        ref_norm(norm, x + t * D, ref_tensor(m, TENSOR_norm2, l), D, (double)c->rms_eps);
        ref_linear(gu, ref_tensor(m, TENSOR_gate_proj, l), NULL, norm, 2 * F, D);
        for (size_t i = 0; i < F; i++) gu[i] = gu[i] / (1 + exp(-gu[i])) * gu[F + i];
        ref_linear(out, ref_tensor(m, TENSOR_down_proj, l), NULL, gu, D, F);
        for (size_t i = 0; i < D; i++) x[t * D + i] += out[i];
    }
    free(qkv);
    free(norm);
    free(att);
    free(out);
    free(gu);
}

/* log p(y) and entropy of softmax(z / temperature) */
static inline void ref_softmax(const double *z, size_t V, double temperature, size_t y, double *logp, double *entropy)
{
    double top = -1e300, sum = 0;
    for (size_t i = 0; i < V; i++) top = z[i] / temperature > top ? z[i] / temperature : top;
    for (size_t i = 0; i < V; i++) sum += exp(z[i] / temperature - top);
    *entropy = 0;
    for (size_t i = 0; i < V; i++) {
        double lp = z[i] / temperature - top - log(sum);
        *entropy -= exp(lp) * lp;
    }
    *logp = z[y] / temperature - top - log(sum);
}

/* logp, entropy [targets], hidden [targets, D] of a batch */
static inline void ref_forward(const struct reference *m, const struct learner_batch *b, double *logp, double *entropy,
                               double *hidden)
{
    const struct model_config *c = m->c;
    size_t D = (size_t)c->width, next = 0;
    double *z = doubles((size_t)c->vocab);
    for (size_t s = 0; s < b->sequences; s++) {
        size_t n = b->start[s + 1] - b->start[s];
        double *x = doubles(n * D);
        for (size_t t = 0; t < n; t++) {
            const double *row = ref_tensor(m, TENSOR_embed, 0) + (size_t)b->tokens[b->start[s] + t] * D;
            for (size_t i = 0; i < D; i++) x[t * D + i] = row[i];
        }
        for (size_t l = 0; l < (size_t)c->layers; l++) ref_layer(m, l, x, n);
        for (; next < b->targets && b->target[next] < b->start[s + 1]; next++) {
            ref_norm(hidden + next * D, x + (b->target[next] - 1 - b->start[s]) * D, ref_tensor(m, TENSOR_norm, 0), D,
                     (double)c->rms_eps);
            ref_linear(z, ref_tensor(m, TENSOR_head, 0), NULL, hidden + next * D, (size_t)c->vocab, D);
            ref_softmax(z, (size_t)c->vocab, (double)b->temperature, (size_t)b->tokens[b->target[next]], &logp[next],
                        &entropy[next]);
        }
        free(x);
    }
    free(z);
}

/* weights with enough spread for every path to matter; padding rows stay 0 */
static inline void spread_weights(struct model *model, uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed, 7);
    struct tensor t;
    for (struct tensor_iter iter = {0}; tensor_next(&model->config, &iter, &t);) {
        size_t rows = t.kind == TENSOR_KIND_embedding ? (size_t)model->config.vocab : t.rows;
        double scale = t.kind == TENSOR_KIND_embedding ? 0.5 : 0.8 / sqrt((double)t.cols);
        for (size_t i = 0; i < rows * t.cols; i++) {
            double x = rng_normal(&rng);
            model->weights[t.offset + i] = (float)(t.kind == TENSOR_KIND_norm ? 1 + 0.3 * x : scale * x);
        }
    }
}

#endif
