/* A decoder's inside, shared by decoder.c (life cycle, checks, spreading the work) and decoder_pass.c (the forward pass). */
#ifndef PAL_TRAINER_MODEL_DECODER_IMPL_H
#define PAL_TRAINER_MODEL_DECODER_IMPL_H

#include "trainer/model/decoder.h"
#include "trainer/model/kernels.h"
#include "trainer/model/layout.h"

#define DECODER_ROWS     128  /* tokens that one worker takes through the layers together */
#define DECODER_IDS      1024 /* whose logits are computed together */
#define DECODER_VERSIONS 4

/* The matrices of one version, packed for gemm_prepacked. Offsets are the decoder's. */
struct packed {
    uint64_t version;
    uint64_t last_step; /* when it was used; 0: empty */
    float *floats;
};

struct packed_layout {
    size_t qkv, o, gu, down; /* of layer 0 */
    size_t layer_stride;
    size_t head;
    size_t count;
};

/* A worker's rows on their way through the layers. */
struct decoder_work {
    float *block;                        /* the arrays below */
    float *x, *n, *qkv, *att, *gu, *act; /* [DECODER_ROWS, ...] */
    float *logits;                       /* [DECODER_ROWS, head_ids] */
    float *scores;                       /* [G, context] */
    size_t rows;                         /* filled */
    size_t wanted;                       /* of those, rows whose logits are asked for */
    int32_t token[DECODER_ROWS];
    int32_t position[DECODER_ROWS];
    uint32_t slot[DECODER_ROWS];
    uint32_t want[DECODER_ROWS]; /* [wanted] their row */
    float *to[DECODER_ROWS];     /* [wanted] where their logits go */
};

struct decoder {
    struct model_config config;
    struct layout layout;
    struct packed_layout packing;
    const struct kernels *kernels;
    struct pool *pool;
    size_t threads;
    uint32_t slots;
    uint32_t max_context;
    size_t context; /* rounded up to KV_PANEL */
    uint64_t steps;
    bool half_cache;
    size_t head_ids;   /* whose logits are computed together, at most DECODER_IDS */
    uint8_t *cache;    /* [slots, layers, kv_heads, keys | values] */
    float *rope;       /* [max_context, head_dim] */
    uint32_t *used;    /* [slots] positions in the cache */
    uint64_t *version; /* [slots] whose weights filled it */
    uint64_t *seen;    /* [slots] step that last named it */
    size_t *cut;       /* [chunks + 1] first item of each chunk */
    struct packed packed[DECODER_VERSIONS];
    struct decoder_work *work; /* [threads] */
};

/* One worker's way through the model; D width, H heads, K kv heads, E head_dim, A = H E, S = (H + 2 K) E, F ff. */
struct decoder_pass {
    struct decoder *d;
    const struct kernels *k;
    struct decoder_work *w;
    const float *weights;
    const float *packed;
    size_t D, H, K, E, A, S, F;
    float eps;
};

struct decoder_pass decoder_pass_of(struct decoder *d, struct decoder_work *w, const struct model *model,
                                    const struct packed *packed);

static inline const float *decoder_weight(const struct decoder_pass *p, enum tensor_id id, size_t layer)
{
    return tensor_in(&p->d->layout, p->weights, id, layer);
}

static inline const float *decoder_packed(const struct decoder_pass *p, size_t offset, size_t layer)
{
    return p->packed + offset + layer * p->d->packing.layer_stride;
}

static inline struct kv decoder_cache(const struct decoder_pass *p, uint32_t slot, size_t layer, size_t group)
{
    size_t half = p->d->context * p->E * (p->d->half_cache ? sizeof(uint16_t) : sizeof(float));
    size_t index = ((size_t)slot * (size_t)p->d->config.layers + layer) * p->K + group;
    uint8_t *keys = p->d->cache + index * 2 * half;
    return (struct kv){keys, keys + half, p->d->half_cache};
}

/* Feeds items [from, to) through the model on one worker. */
void decoder_feed(const struct decoder_pass *pass, const struct decoder_item *items, size_t from, size_t to);

/* true: decoder_feed_split is the better way for these items */
bool decoder_may_split(const struct decoder *d, const struct decoder_item *items, size_t count);
/* Feeds items of one token each on all workers, which take every product together. */
void decoder_feed_split(struct decoder *d, const struct model *model, const struct packed *packed,
                        const struct decoder_item *items, size_t count);

#endif
