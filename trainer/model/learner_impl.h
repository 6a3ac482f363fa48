/* A learner's inside, shared by learner.c (life cycle, checks, reduction) and learner_pass.c (forward and backward). */
#ifndef PAL_TRAINER_MODEL_LEARNER_IMPL_H
#define PAL_TRAINER_MODEL_LEARNER_IMPL_H

#include "trainer/model/kernels.h"
#include "trainer/model/layout.h"
#include "trainer/model/learner.h"

struct array {
    float *at;
    size_t stride; /* floats from layer to layer, 0 when there is one */
};

/* One worker's memory. */
struct work {
#define WORK(name, kept, backward, floats) struct array name;
#include "trainer/model/work.def"
#undef WORK
    float *block;          /* all of the above */
    int32_t *position;     /* [max_tokens] of the last forward */
    uint32_t *row;         /* [max_tokens] position that predicts each target */
    struct head_row *head; /* [max_tokens] of each target */
    float *gradient;       /* [parameters] or NULL */
    size_t tokens;         /* of the last forward; 0: none */
    size_t targets;
};

struct learner {
    struct model_config config;
    struct layout layout;
    const struct kernels *kernels;
    size_t workers;
    size_t max_tokens;
    enum learner_kind kind;
    size_t head_cols; /* ids whose logits are computed together */
    size_t rope_rows;
    float *rope; /* [rope_rows, head_dim] */
    struct work *work;
};

void learner_pass_forward(struct learner *l, struct work *w, const float *weights, const struct learner_batch *batch,
                          const struct learner_out *out);
void learner_pass_backward(struct learner *l, struct work *w, const float *weights, const struct learner_batch *batch,
                           const struct learner_grad *grad);

#endif
