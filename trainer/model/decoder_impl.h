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

/* Feeds items [from, to) through the model on one worker. */
void decoder_pass(struct decoder *d, struct decoder_work *w, const struct model *model, const struct packed *packed,
                  const struct decoder_item *items, size_t from, size_t to);

#endif
