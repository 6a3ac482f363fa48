/* Forward and backward through all layers, on one worker's arrays. Gradients of weights are added to w->gradient. */
#include "trainer/model/learner_impl.h"

/* what a layer's functions share */
struct pass {
    const struct learner *l;
    const struct kernels *k;
    struct work *w;
    const float *weights;
    const struct learner_batch *batch;
    struct attention attention;
    size_t T, R;             /* tokens, target rows */
    size_t D, H, E, A, S, F; /* of the model */
    size_t V;                /* ids in use: columns past them are never computed */
    float eps;
};

static struct pass pass_of(const struct learner *l, struct work *w, const float *weights, const struct learner_batch *batch)
{
    const struct model_config *c = &l->config;
    size_t H = (size_t)c->heads, K = (size_t)c->kv_heads, E = (size_t)c->head_dim;
    return (struct pass){
        .l = l,
        .k = l->kernels,
        .w = w,
        .weights = weights,
        .batch = batch,
        .attention = {H, K, E, batch->sequences, batch->start, w->attention.at, w->pack.at},
        .T = batch->start[batch->sequences],
        .R = batch->targets,
        .D = (size_t)c->width,
        .H = H,
        .E = E,
        .A = H * E,
        .S = (H + 2 * K) * E,
        .F = (size_t)c->ff,
        .V = (size_t)c->vocab,
        .eps = c->rms_eps,
    };
}

static float *at(struct array array, size_t layer)
{
    return array.at + layer * array.stride;
}

static const float *weight(const struct pass *p, enum tensor_id id, size_t layer)
{
    return tensor_in(&p->l->layout, p->weights, id, layer);
}

static float *gradient(const struct pass *p, enum tensor_id id, size_t layer)
{
    return tensor_at(&p->l->layout, p->w->gradient, id, layer);
}

static bool is_last(const struct pass *p, size_t layer)
{
    return layer + 1 == (size_t)p->l->config.layers;
}

/* y [rows, out] = x [rows, in] W^T, plus (NULL: nothing) of y's shape */
static void linear_forward(const struct pass *p, float *y, const float *x, const float *W, size_t rows, size_t out, size_t in,
                           const float *plus)
{
    const struct gemm g = {GEMM_nt, rows, out, in, x, in, W, in, y, out, plus};
    p->k->gemm(&g, p->w->pack.at);
}

/* dx [rows, in] = dy [rows, out] W */
static void linear_back(const struct pass *p, float *dx, const float *dy, const float *W, size_t rows, size_t out, size_t in)
{
    const struct gemm g = {GEMM_nn, rows, in, out, dy, out, W, in, dx, in, NULL};
    p->k->gemm(&g, p->w->pack.at);
}

/* dW += dy^T x */
static void linear_gradient(const struct pass *p, float *dW, const float *dy, const float *x, size_t rows, size_t out,
                            size_t in)
{
    const struct gemm g = {GEMM_tn, out, in, rows, dy, out, x, in, dW, in, dW};
    p->k->gemm(&g, p->w->pack.at);
}

static void gather_rows(float *to, const float *from, const uint32_t *row, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++) memcpy(to + r * n, from + row[r] * n, n * sizeof *to);
}

/* the rows that are not named are 0 */
static void scatter_rows(float *to, const float *from, const uint32_t *row, size_t rows, size_t all, size_t n)
{
    memset(to, 0, all * n * sizeof *to);
    for (size_t r = 0; r < rows; r++) memcpy(to + row[r] * n, from + r * n, n * sizeof *to);
}

static void embedding_forward(const struct pass *p)
{
    const float *table = weight(p, TENSOR_embed, 0);
    float *x = at(p->w->x, 0);
    for (size_t t = 0; t < p->T; t++) memcpy(x + t * p->D, table + (size_t)p->batch->tokens[t] * p->D, p->D * sizeof *x);
}

static void embedding_backward(const struct pass *p, const float *dx)
{
    float *table = gradient(p, TENSOR_embed, 0);
    for (size_t t = 0; t < p->T; t++) p->k->add(table + (size_t)p->batch->tokens[t] * p->D, dx + t * p->D, p->D);
}

static void layer_attention_forward(const struct pass *p, size_t layer)
{
    struct work *w = p->w;
    float *x = at(w->x, layer), *n1 = at(w->n1, layer), *qkv = at(w->qkv, layer);
    p->k->rmsnorm_forward(n1, at(w->rstd1, layer), x, weight(p, TENSOR_norm1, layer), p->T, p->D, p->eps);
    linear_forward(p, qkv, n1, weight(p, TENSOR_q_proj, layer), p->T, p->S, p->D, NULL);
    if (p->l->config.qkv_bias) p->k->add_rows(qkv, p->S, weight(p, TENSOR_q_bias, layer), p->T, p->S);
    p->k->rope(qkv, p->S, p->T, p->H + p->attention.kv_heads, p->E, w->position, p->l->rope, 1);
    p->k->attention_forward(&p->attention, at(w->att, layer), at(w->lse, layer), qkv);
}

/* everything of a layer but its output: what backward needs */
static void layer_inside(const struct pass *p, size_t layer)
{
    struct work *w = p->w;
    bool last = is_last(p, layer);
    size_t rows = last ? p->R : p->T;
    float *mid = at(w->mid, layer), *n2 = at(w->n2, layer), *gu = at(w->gu, layer);
    layer_attention_forward(p, layer);
    const float *att = at(w->att, layer), *x = at(w->x, layer);
    if (last) {
        gather_rows(mid, x, w->row, rows, p->D);
        gather_rows(w->picked.at, att, w->row, rows, p->A);
        att = w->picked.at;
        x = mid;
    }
    linear_forward(p, mid, att, weight(p, TENSOR_o_proj, layer), rows, p->D, p->A, x);
    p->k->rmsnorm_forward(n2, at(w->rstd2, layer), mid, weight(p, TENSOR_norm2, layer), rows, p->D, p->eps);
    linear_forward(p, gu, n2, weight(p, TENSOR_gate_proj, layer), rows, 2 * p->F, p->D, NULL);
    p->k->swiglu_forward(at(w->act, layer), gu, rows, p->F);
}

static void layer_forward(const struct pass *p, size_t layer)
{
    struct work *w = p->w;
    bool last = is_last(p, layer);
    layer_inside(p, layer);
    linear_forward(p, last ? w->top.at : at(w->x, layer + 1), at(w->act, layer), weight(p, TENSOR_down_proj, layer),
                   last ? p->R : p->T, p->D, p->F, at(w->mid, layer));
}

/* The feed-forward's part: from dx at the layer's output rows to dx at `mid`. Its normed input and its output are computed
 * again, which costs less than to keep them. */
static void feed_forward_backward(const struct pass *p, size_t layer, float *dx, size_t rows)
{
    struct work *w = p->w;
    float *dn = w->dn.at, *dgu = w->dgu.at, *act = w->act.at, *n2 = w->n2.at;
    const float *gate = weight(p, TENSOR_gate_proj, layer), *norm = weight(p, TENSOR_norm2, layer), *mid = at(w->mid, layer);
    linear_back(p, w->dact.at, dx, weight(p, TENSOR_down_proj, layer), rows, p->D, p->F);
    p->k->swiglu_backward(dgu, act, w->dact.at, at(w->gu, layer), rows, p->F);
    linear_gradient(p, gradient(p, TENSOR_down_proj, layer), dx, act, rows, p->D, p->F);
    p->k->rmsnorm_forward(n2, at(w->rstd2, layer), mid, norm, rows, p->D, p->eps);
    linear_back(p, dn, dgu, gate, rows, 2 * p->F, p->D);
    linear_gradient(p, gradient(p, TENSOR_gate_proj, layer), dgu, n2, rows, 2 * p->F, p->D);
    p->k->rmsnorm_backward(dx, gradient(p, TENSOR_norm2, layer), dn, mid, at(w->rstd2, layer), norm, rows, p->D);
}

/* from dx at the layer's output rows to w->dwide, the gradient at its input (all tokens) */
static void layer_backward(const struct pass *p, size_t layer, float *dx)
{
    struct work *w = p->w;
    bool last = is_last(p, layer);
    size_t rows = last ? p->R : p->T;
    float *dn = w->dn.at, *datt = last ? w->dpicked.at : w->datt.at, *dqkv = w->dqkv.at, *n1 = w->n1.at;
    const float *att = last ? w->picked.at : at(w->att, layer), *x = at(w->x, layer), *norm = weight(p, TENSOR_norm1, layer);
    feed_forward_backward(p, layer, dx, rows);
    linear_back(p, datt, dx, weight(p, TENSOR_o_proj, layer), rows, p->D, p->A);
    linear_gradient(p, gradient(p, TENSOR_o_proj, layer), dx, att, rows, p->D, p->A);
    if (last) {
        scatter_rows(w->dwide.at, dx, w->row, rows, p->T, p->D);
        scatter_rows(w->datt.at, datt, w->row, rows, p->T, p->A);
    }
    p->k->attention_backward(&p->attention, dqkv, w->datt.at, at(w->att, layer), at(w->lse, layer), at(w->qkv, layer));
    p->k->rope(dqkv, p->S, p->T, p->H + p->attention.kv_heads, p->E, w->position, p->l->rope, -1);
    if (p->l->config.qkv_bias) p->k->sum_rows(gradient(p, TENSOR_q_bias, layer), dqkv, p->S, p->T, p->S);
    p->k->rmsnorm_forward(n1, at(w->rstd1, layer), x, norm, p->T, p->D, p->eps);
    linear_back(p, dn, dqkv, weight(p, TENSOR_q_proj, layer), p->T, p->S, p->D);
    linear_gradient(p, gradient(p, TENSOR_q_proj, layer), dqkv, n1, p->T, p->S, p->D);
    p->k->rmsnorm_backward(w->dwide.at, gradient(p, TENSOR_norm1, layer), dn, x, at(w->rstd1, layer), norm, p->T, p->D);
}

/* logits of ids [from, from + cols) at the target rows, [R, head_cols] */
static void head_logits(const struct pass *p, size_t from, size_t cols)
{
    const float *W = weight(p, TENSOR_head, 0) + from * p->D;
    const struct gemm g = {GEMM_nt, p->R, cols, p->D, p->w->hidden.at, p->D, W, p->D, p->w->logits.at, p->l->head_cols, NULL};
    p->k->gemm(&g, p->w->pack.at);
}

static size_t head_cols(const struct pass *p, size_t from)
{
    return p->V - from < p->l->head_cols ? p->V - from : p->l->head_cols;
}

static void head_forward(const struct pass *p, const struct learner_out *out)
{
    struct work *w = p->w;
    size_t ld = p->l->head_cols;
    for (size_t r = 0; r < p->R; r++)
        w->head[r] = (struct head_row){.inverse_temperature = 1.0f / p->batch->temperature,
                                       .token = p->batch->tokens[p->batch->target[r]]};
    for (size_t from = 0; from < p->V; from += ld) {
        size_t cols = head_cols(p, from);
        head_logits(p, from, cols);
        for (size_t r = 0; r < p->R; r++) p->k->head_add(&w->head[r], w->logits.at + r * ld, from, cols);
    }
    for (size_t r = 0; r < p->R; r++) {
        p->k->head_end(&w->head[r], &w->head_lse.at[r], &out->logp[r], &w->head_ent.at[r]);
        out->entropy[r] = w->head_ent.at[r];
    }
}

void learner_pass_forward(struct learner *l, struct work *w, const float *weights, const struct learner_batch *batch,
                          const struct learner_out *out)
{
    const struct pass pass = pass_of(l, w, weights, batch), *p = &pass;
    embedding_forward(p);
    for (size_t layer = 0; layer < (size_t)l->config.layers; layer++) layer_forward(p, layer);
    p->k->rmsnorm_forward(w->hidden.at, w->rstd.at, w->top.at, weight(p, TENSOR_norm, 0), p->R, p->D, p->eps);
    if (out->hidden) memcpy(out->hidden, w->hidden.at, p->R * p->D * sizeof *out->hidden);
    head_forward(p, out);
}

/* dn = gradient at the final norm's output; the head's weights get theirs. The logits are computed again where they did not
 * all fit: cheaper than keeping [targets, vocab]. */
static void head_backward(const struct pass *p, float *dn, const struct learner_grad *grad)
{
    struct work *w = p->w;
    size_t ld = p->l->head_cols;
    float *z = w->logits.at;
    for (size_t from = 0; from < p->V; from += ld) {
        size_t cols = head_cols(p, from);
        if (cols < p->V) head_logits(p, from, cols);
        for (size_t r = 0; r < p->R; r++) {
            const struct head_grad g = {w->head_lse.at[r], w->head_ent.at[r], grad->dlogp[r], grad->dentropy[r]};
            p->k->head_backward(&w->head[r], z + r * ld, from, cols, &g);
        }
        const float *W = weight(p, TENSOR_head, 0) + from * p->D;
        const struct gemm back = {GEMM_nn, p->R, p->D, cols, z, ld, W, p->D, dn, p->D, from > 0 ? dn : NULL};
        p->k->gemm(&back, w->pack.at);
        float *dW = gradient(p, TENSOR_head, 0) + from * p->D;
        const struct gemm dw = {GEMM_tn, cols, p->D, p->R, z, ld, w->hidden.at, p->D, dW, p->D, dW};
        p->k->gemm(&dw, w->pack.at);
    }
    if (grad->dhidden) p->k->add(dn, grad->dhidden, p->R * p->D);
}

void learner_pass_backward(struct learner *l, struct work *w, const float *weights, const struct learner_batch *batch,
                           const struct learner_grad *grad)
{
    const struct pass pass = pass_of(l, w, weights, batch), *p = &pass;
    head_backward(p, w->dn.at, grad);
    memset(w->dx.at, 0, p->R * p->D * sizeof(float));
    p->k->rmsnorm_backward(w->dx.at, gradient(p, TENSOR_norm, 0), w->dn.at, w->top.at, w->rstd.at, weight(p, TENSOR_norm, 0),
                           p->R, p->D);
    /* the last layer turns target rows (dx) into all tokens (dwide); the others work on dwide in place */
    float *dx = w->dx.at;
    for (size_t layer = (size_t)l->config.layers; layer-- > 0;) {
        if (l->kind == LEARNER_KIND_recompute && !is_last(p, layer))
            layer_inside(p, layer); /* the last one's arrays are still there */
        layer_backward(p, layer, dx);
        dx = w->dwide.at;
    }
    embedding_backward(p, w->dwide.at);
}
