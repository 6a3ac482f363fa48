/* Forward through all layers for a worker's items, DECODER_ROWS tokens at a time: the products run over all rows at once,
 * attention goes row by row over the row's own cache. A window's keys are written before its queries read them, and an
 * item's tokens are in order, so one item may be cut by windows. */
#include "trainer/model/decoder_impl.h"

static void linear(const struct decoder_pass *p, float *y, const float *x, const float *W, size_t rows, size_t out, size_t in,
                   bool add)
{
    const struct gemm g = {GEMM_nt, rows, out, in, x, in, NULL, 0, y, out, add ? y : NULL};
    p->k->gemm_prepacked(&g, W, 0, out);
}

static void write_cache(const struct decoder_pass *p, size_t layer)
{
    const struct decoder_work *w = p->w;
    for (size_t r = 0; r < w->rows; r++) {
        const float *key = w->qkv + r * p->S + p->A, *value = key + p->K * p->E;
        for (size_t g = 0; g < p->K; g++) {
            struct kv kv = decoder_cache(p, w->slot[r], layer, g);
            p->k->kv_write(&kv, (size_t)w->position[r], key + g * p->E, value + g * p->E, p->E);
        }
    }
}

/* row r's attention to out [A] */
static void attend(const struct decoder_pass *p, size_t layer, size_t r, float *out)
{
    const struct decoder_work *w = p->w;
    size_t G = p->H / p->K;
    for (size_t g = 0; g < p->K; g++) {
        struct kv kv = decoder_cache(p, w->slot[r], layer, g);
        p->k->kv_attend(&kv, (size_t)w->position[r] + 1, w->qkv + r * p->S + g * G * p->E, G, p->E, w->scores,
                        out + g * G * p->E);
    }
}

static void layer_forward(const struct decoder_pass *p, size_t layer)
{
    struct decoder_work *w = p->w;
    const struct packed_layout *at = &p->d->packing;
    float rstd[DECODER_ROWS];
    bool last = layer + 1 == (size_t)p->d->config.layers;
    size_t rows = last ? w->wanted : w->rows;
    p->k->rmsnorm_forward(w->n, rstd, w->x, decoder_weight(p, TENSOR_norm1, layer), w->rows, p->D, p->eps);
    linear(p, w->qkv, w->n, decoder_packed(p, at->qkv, layer), w->rows, p->S, p->D, false);
    if (p->d->config.qkv_bias) p->k->add_rows(w->qkv, p->S, decoder_weight(p, TENSOR_q_bias, layer), w->rows, p->S);
    p->k->rope(w->qkv, p->S, w->rows, p->H + p->K, p->E, w->position, p->d->rope, 1);
    write_cache(p, layer);
    /* past the last cache only the rows that were asked for go on, moved to the front */
    for (size_t r = 0; r < rows; r++) {
        size_t from = last ? w->want[r] : r;
        attend(p, layer, from, w->att + r * p->A);
        if (from != r) memcpy(w->x + r * p->D, w->x + from * p->D, p->D * sizeof *w->x);
    }
    linear(p, w->x, w->att, decoder_packed(p, at->o, layer), rows, p->D, p->A, true);
    p->k->rmsnorm_forward(w->n, rstd, w->x, decoder_weight(p, TENSOR_norm2, layer), rows, p->D, p->eps);
    linear(p, w->gu, w->n, decoder_packed(p, at->gu, layer), rows, 2 * p->F, p->D, false);
    p->k->swiglu_forward(w->act, w->gu, rows, p->F);
    linear(p, w->x, w->act, decoder_packed(p, at->down, layer), rows, p->D, p->F, true);
}

static void head_forward(const struct decoder_pass *p)
{
    struct decoder_work *w = p->w;
    float rstd[DECODER_ROWS];
    size_t V = (size_t)p->d->config.vocab, most = p->d->head_ids;
    p->k->rmsnorm_forward(w->n, rstd, w->x, decoder_weight(p, TENSOR_norm, 0), w->wanted, p->D, p->eps);
    for (size_t from = 0; from < V; from += most) {
        size_t ids = V - from < most ? V - from : most;
        const struct gemm g = {GEMM_nt, w->wanted, V, p->D, w->n, p->D, NULL, 0, w->logits, most, NULL};
        p->k->gemm_prepacked(&g, p->packed + p->d->packing.head, from, ids);
        for (size_t r = 0; r < w->wanted; r++) memcpy(w->to[r] + from, w->logits + r * most, ids * sizeof(float));
    }
}

/* takes the rows gathered so far through the model */
static void flush(const struct decoder_pass *p)
{
    struct decoder_work *w = p->w;
    if (w->rows == 0) return;
    const float *table = decoder_weight(p, TENSOR_embed, 0);
    for (size_t r = 0; r < w->rows; r++) memcpy(w->x + r * p->D, table + (size_t)w->token[r] * p->D, p->D * sizeof *w->x);
    for (size_t layer = 0; layer < (size_t)p->d->config.layers; layer++) layer_forward(p, layer);
    if (w->wanted > 0) head_forward(p);
    w->rows = w->wanted = 0;
}

void decoder_feed(const struct decoder_pass *p, const struct decoder_item *items, size_t from, size_t to)
{
    struct decoder_work *w = p->w;
    w->rows = w->wanted = 0;
    for (size_t i = from; i < to; i++) {
        for (uint32_t t = 0; t < items[i].count; t++) {
            size_t r = w->rows++;
            w->token[r] = items[i].tokens[t];
            w->slot[r] = items[i].slot;
            w->position[r] = (int32_t)(p->d->used[items[i].slot] + t);
            if (t + 1 == items[i].count && items[i].logits) {
                w->want[w->wanted] = (uint32_t)r;
                w->to[w->wanted++] = items[i].logits;
            }
            if (w->rows == DECODER_ROWS) flush(p);
        }
    }
    flush(p);
}
