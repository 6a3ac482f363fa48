/* Where each tensor of tensors.def lies in a model's one block of weights (and in a gradient or an optimizer's moments,
 * which have the same shape). Offsets are in floats. Layers are equal, so layer l's tensors lie l * layer_stride further. */
#ifndef PAL_TRAINER_MODEL_LAYOUT_H
#define PAL_TRAINER_MODEL_LAYOUT_H

#include "trainer/model/model.h"

enum tensor_id {
#define TENSOR(id, name, place, kind, rows, cols, present) TENSOR_##id,
#include "trainer/model/tensors.def"
#undef TENSOR
    TENSOR_COUNT
};

enum tensor_kind {
    TENSOR_KIND_embedding, /* [vocab_padded, D]; rows past the vocabulary are kept, never read */
    TENSOR_KIND_matrix,    /* [out, in] */
    TENSOR_KIND_residual,  /* [out, in], writes into the residual stream */
    TENSOR_KIND_norm,      /* [1, n] scales */
    TENSOR_KIND_bias       /* [1, n] */
};

enum tensor_place { TENSOR_PLACE_first, TENSOR_PLACE_layer, TENSOR_PLACE_last };

struct layout {
    size_t offset[TENSOR_COUNT]; /* of layer 0 for tensors that are in every layer */
    size_t layer_stride;
    size_t count; /* floats in all */
};

struct layout layout_of(const struct model_config *config);

/* One tensor as files and optimizers see it. */
struct tensor {
    char name[80]; /* Hugging Face's */
    enum tensor_id id;
    enum tensor_kind kind;
    size_t offset; /* into the block */
    size_t rows;
    size_t cols;
};

/* Walks the tensors in storage order: start from a zeroed iterator. false at the end. */
struct tensor_iter {
    int32_t id;
    int32_t layer;
};
bool tensor_next(const struct model_config *config, struct tensor_iter *iter, struct tensor *ret);

/* The tensor's floats within a block of this layout. */
static inline float *tensor_at(const struct layout *layout, float *block, enum tensor_id id, size_t layer)
{
    return block + layout->offset[id] + layer * layout->layer_stride;
}

static inline const float *tensor_in(const struct layout *layout, const float *block, enum tensor_id id, size_t layer)
{
    return block + layout->offset[id] + layer * layout->layer_stride;
}

#endif
