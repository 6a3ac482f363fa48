/* A step of few rows on all workers together: each takes a share of the columns of every product, so that the weights are
 * read once and not once per worker. Where a worker needs what others made they meet. Which worker makes a number changes no
 * bit of it. x, qkv, att and gu are those of the first worker's arrays, the rest each worker has of its own. */
#include "services/common/base/barrier.h"
#include "trainer/model/decoder_impl.h"

#define SPLIT_FLOATS ((size_t)1 << 20)  /* of the weights: with fewer the meetings cost more than the reading */
#define SPLIT_ALWAYS ((size_t)16 << 20) /* with so many no cache holds them: then it pays for any number of rows */

struct split {
    struct barrier barrier;
    struct decoder *d;
    const struct model *model;
    const struct packed *packed;
};

/* one worker of a step */
struct part {
    struct decoder_pass p; /* w: its own arrays */
    struct split *split;
    struct decoder_work *all; /* the first worker's: rows, and what is shared */
    size_t worker;
};

bool decoder_may_split(const struct decoder *d, const struct decoder_item *items, size_t count)
{
    bool few = count < 2 * d->threads, large = d->packing.count >= SPLIT_ALWAYS;
    if (d->threads < 2 || count > DECODER_ROWS || d->packing.count < SPLIT_FLOATS || (!few && !large)) return false;
    if ((size_t)d->config.ff % GEMM_NR_MAX != 0) return false; /* gate and up are shared out alike */
    for (size_t i = 0; i < count; i++) {
        if (items[i].count != 1 || !items[i].logits) return false;
    }
    return true;
}

static void meet(const struct part *part)
{
    barrier_wait(&part->split->barrier);
}

/* the worker's columns of n: [*ret_from, *ret_from + the result) */
static size_t share(const struct part *part, size_t n, size_t *ret_from)
{
    size_t units = (n + GEMM_NR_MAX - 1) / GEMM_NR_MAX, threads = part->p.d->threads;
    size_t from = units * part->worker / threads * GEMM_NR_MAX, to = units * (part->worker + 1) / threads * GEMM_NR_MAX;
    *ret_from = from;
    return (to < n ? to : n) - from;
}

/* columns [from, from + cols) of y [rows, out] = x W, or y + x W */
static void linear(const struct part *part, float *y, const float *x, const float *W, size_t out, size_t in, size_t from,
                   size_t cols, bool add)
{
    const struct gemm g = {GEMM_nt, part->all->rows, out, in, x, in, NULL, 0, y + from, out, add ? y + from : NULL};
    if (cols > 0) part->p.k->gemm_prepacked(&g, W, from, cols);
}

/* Bias, rotation, cache and attention of row r's heads of one group. */
static void attend(const struct part *part, size_t layer, size_t r, size_t group)
{
    const struct decoder_pass *p = &part->p;
    const struct decoder_work *w = part->all;
    size_t G = p->H / p->K, at = group * G * p->E, size = G * p->E;
    float *q = w->qkv + r * p->S + at, *key = w->qkv + r * p->S + p->A + group * p->E, *value = key + p->K * p->E;
    if (p->d->config.qkv_bias) {
        const float *bias = decoder_weight(p, TENSOR_q_bias, layer), *key_bias = bias + p->A + group * p->E;
        p->k->add(q, bias + at, size);
        p->k->add(key, key_bias, p->E);
        p->k->add(value, key_bias + p->K * p->E, p->E);
    }
    p->k->rope(q, p->S, 1, G, p->E, &w->position[r], p->d->rope, 1);
    p->k->rope(key, p->S, 1, 1, p->E, &w->position[r], p->d->rope, 1);
    struct kv kv = decoder_cache(p, w->slot[r], layer, group);
    p->k->kv_write(&kv, (size_t)w->position[r], key, value, p->E);
    p->k->kv_attend(&kv, (size_t)w->position[r] + 1, q, G, p->E, p->w->scores, w->att + r * p->A + at);
}

static void layer_forward(const struct part *part, size_t layer)
{
    const struct decoder_pass *p = &part->p;
    const struct packed_layout *at = &p->d->packing;
    struct decoder_work *all = part->all, *own = p->w;
    float rstd[DECODER_ROWS];
    size_t from = 0, cols = share(part, p->S, &from);
    p->k->rmsnorm_forward(own->n, rstd, all->x, decoder_weight(p, TENSOR_norm1, layer), all->rows, p->D, p->eps);
    linear(part, all->qkv, own->n, decoder_packed(p, at->qkv, layer), p->S, p->D, from, cols, false);
    meet(part);
    for (size_t i = part->worker; i < all->rows * p->K; i += p->d->threads) attend(part, layer, i / p->K, i % p->K);
    meet(part);
    cols = share(part, p->D, &from);
    linear(part, all->x, all->att, decoder_packed(p, at->o, layer), p->D, p->A, from, cols, true);
    meet(part);
    cols = share(part, p->F, &from);
    p->k->rmsnorm_forward(own->n, rstd, all->x, decoder_weight(p, TENSOR_norm2, layer), all->rows, p->D, p->eps);
    linear(part, all->gu, own->n, decoder_packed(p, at->gu, layer), 2 * p->F, p->D, from, cols, false);
    linear(part, all->gu, own->n, decoder_packed(p, at->gu, layer), 2 * p->F, p->D, p->F + from, cols, false);
    meet(part);
    p->k->swiglu_forward(own->act, all->gu, all->rows, p->F);
    cols = share(part, p->D, &from);
    linear(part, all->x, own->act, decoder_packed(p, at->down, layer), p->D, p->F, from, cols, true);
    meet(part);
}

static void head_forward(const struct part *part)
{
    const struct decoder_pass *p = &part->p;
    struct decoder_work *all = part->all, *own = p->w;
    float rstd[DECODER_ROWS];
    size_t V = (size_t)p->d->config.vocab, most = p->d->head_ids, from = 0, left = share(part, V, &from);
    p->k->rmsnorm_forward(own->n, rstd, all->x, decoder_weight(p, TENSOR_norm, 0), all->rows, p->D, p->eps);
    for (size_t ids = 0; left > 0; from += ids, left -= ids) {
        ids = left < most ? left : most;
        const struct gemm g = {GEMM_nt, all->rows, V, p->D, own->n, p->D, NULL, 0, own->logits, most, NULL};
        p->k->gemm_prepacked(&g, p->packed + p->d->packing.head, from, ids);
        for (size_t r = 0; r < all->rows; r++) memcpy(all->to[r] + from, own->logits + r * most, ids * sizeof(float));
    }
}

static void run(void *ctx, size_t index, size_t worker)
{
    struct split *split = ctx;
    struct decoder *d = split->d;
    BUG_IF(index != worker);
    const struct part part = {decoder_pass_of(d, &d->work[worker], split->model, split->packed), split, &d->work[0], worker};
    for (size_t layer = 0; layer < (size_t)d->config.layers; layer++) layer_forward(&part, layer);
    head_forward(&part);
}

void decoder_feed_split(struct decoder *d, const struct model *model, const struct packed *packed,
                        const struct decoder_item *items, size_t count)
{
    struct split split = {.barrier = {.threads = (uint32_t)d->threads}, .d = d, .model = model, .packed = packed};
    struct decoder_work *w = &d->work[0];
    const float *table = tensor_in(&d->layout, model->weights, TENSOR_embed, 0);
    size_t D = (size_t)d->config.width;
    w->rows = w->wanted = count;
    for (size_t r = 0; r < count; r++) {
        w->slot[r] = items[r].slot;
        w->position[r] = (int32_t)d->used[items[r].slot];
        w->to[r] = items[r].logits;
        memcpy(w->x + r * D, table + (size_t)items[r].tokens[0] * D, D * sizeof *w->x);
    }
    pool_run(d->pool, d->threads, true, run, &split);
}
