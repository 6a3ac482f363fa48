#include "trainer/model/layout.h"

#include <stdio.h>

struct shape {
    const char *name;
    enum tensor_place place;
    enum tensor_kind kind;
    size_t rows;
    size_t cols;
    bool present;
};

static struct shape shape_of(const struct model_config *c, enum tensor_id tensor)
{
    switch (tensor) {
#define TENSOR(id, name, place, kind, rows, cols, present)                                                                   \
    case TENSOR_##id:                                                                                                        \
        return (struct shape){name, TENSOR_PLACE_##place, TENSOR_KIND_##kind, (size_t)(rows), (size_t)(cols), present};
#include "trainer/model/tensors.def"
#undef TENSOR
    case TENSOR_COUNT:
        break;
    }
    return (struct shape){.name = ""};
}

struct layout layout_of(const struct model_config *config)
{
    struct layout layout = {0};
    size_t at = 0;
    for (int32_t id = 0; id < TENSOR_COUNT; id++) {
        struct shape s = shape_of(config, (enum tensor_id)id);
        /* the first tensor after the layers: step over the other layers */
        if (s.place == TENSOR_PLACE_last && layout.layer_stride == 0) {
            layout.layer_stride = at - layout.offset[TENSOR_norm1];
            at = layout.offset[TENSOR_norm1] + layout.layer_stride * (size_t)config->layers;
        }
        layout.offset[id] = at;
        if (s.present) at += s.rows * s.cols;
    }
    /* a tied head is the embedding */
    if (config->tied) layout.offset[TENSOR_head] = layout.offset[TENSOR_embed];
    layout.count = at;
    return layout;
}

/* moves to the row after id in storage order: the layers' rows repeat */
static void advance(const struct model_config *config, struct tensor_iter *iter)
{
    bool layer = shape_of(config, (enum tensor_id)iter->id).place == TENSOR_PLACE_layer;
    iter->id++;
    bool left = shape_of(config, (enum tensor_id)iter->id).place != TENSOR_PLACE_layer;
    if (layer && left && iter->layer + 1 < config->layers) {
        iter->layer++;
        iter->id = TENSOR_norm1;
    }
}

bool tensor_next(const struct model_config *config, struct tensor_iter *iter, struct tensor *ret)
{
    while (iter->id < TENSOR_COUNT && !shape_of(config, (enum tensor_id)iter->id).present) advance(config, iter);
    if (iter->id >= TENSOR_COUNT) return false;
    struct layout layout = layout_of(config);
    struct shape s = shape_of(config, (enum tensor_id)iter->id);
    bool layer = s.place == TENSOR_PLACE_layer;
    *ret = (struct tensor){.id = (enum tensor_id)iter->id, .kind = s.kind, .rows = s.rows, .cols = s.cols};
    ret->offset = layout.offset[iter->id] + (layer ? (size_t)iter->layer * layout.layer_stride : 0);
    if (layer)
        (void)snprintf(ret->name, sizeof ret->name, "model.layers.%d.%s", iter->layer, s.name);
    else
        (void)snprintf(ret->name, sizeof ret->name, "%s", s.name);
    advance(config, iter);
    return true;
}
