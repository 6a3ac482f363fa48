/* The value head while it is trained: its weights, its own AdamW, and what each worker computes with it.
 *
 * A worker gives it the hidden states of a micro-batch's targets (learner_out.hidden); of those, the states (packing.h) go
 * through the head. Loss, a mean over the states of an optimizer step: cross-entropy on the outcome y in [0, 1],
 *     L = -y log V - (1 - y) log(1 - V),  dL/dz = V - y                   (WebRL, arXiv 2411.02337; ALGORITHMS B 2.4)
 * With `coefficient` above 0 its gradient, times that, goes on into the policy's hidden states; else it stops there.
 * Gradients are summed in worker order: the same bits for the same number of threads. */
#ifndef PAL_TRAINER_VALUE_H
#define PAL_TRAINER_VALUE_H

#include "trainer/optim_adamw.h"
#include "trainer/value_head.h"

struct value_config {
    size_t units; /* 0: no value head */
    double lr;
    double coefficient; /* into the policy; 0: detached */
};

/* A state of a micro-batch. */
struct value_state {
    uint32_t target; /* the hidden state that predicts this target */
    uint32_t turn;   /* of its episode */
    float outcome;
    float weight; /* share in the loss */
    float value;  /* V, computed */
};

/* What the figures are made of; zeroed, added to, merged in a fixed order. */
struct value_sums {
    double states;
    double loss;                    /* of each state, not weighted */
    double active, units;           /* positive activations and all of them: FAU */
    double outcome, outcome_square; /* sums of y, y^2 */
    double error, error_square;     /* of y - V */
};

struct value_work {
    float *hidden;  /* [max_tokens, D] of the micro-batch's targets */
    float *dhidden; /* [max_tokens, D] or NULL when detached */
    float *rows;    /* [max_tokens, D] of the states; their gradient, too */
    float *active;  /* [max_tokens, units] */
    float *numbers; /* [2 max_tokens] V and dz */
    float *gradient;
};

struct value {
    struct value_config config;
    struct value_head *head;
    struct value_head *kept_head; /* as before the update that runs now */
    struct adamw *adamw;
    struct adamw *kept_adamw;
    struct value_work *work; /* [workers] */
    size_t workers;
};

/* Weights from the seed. adamw gives the betas; nothing decays. */
err_t value_new(struct value **ret, const struct value_config *config, const struct adamw_config *adamw, size_t width,
                size_t workers, size_t max_tokens, uint64_t seed) MUST_USE;
void value_free(struct value **value);
void value_keep(struct value *value);
void value_restore(struct value *value);

/* V of the states into them, from the worker's hidden; sums NULL: only V. */
void value_forward(struct value *value, size_t worker, struct value_state *states, size_t count, struct value_sums *sums);
/* After value_forward of the same states: adds to the worker's gradient. Returns dhidden [targets, D] for the learner, or
 * NULL when detached. */
const float *value_backward(struct value *value, size_t worker, const struct value_state *states, size_t count,
                            size_t targets);
void value_zero(struct value *value);
/* A step of its optimizer by the workers' gradients. ERR_numeric when something is not finite. */
err_t value_step(struct value *value) MUST_USE;

void value_sums_add(struct value_sums *sums, const struct value_sums *more);
/* 1 - Var(y - V) / Var(y); NaN where the outcomes do not vary. */
double value_explained_variance(const struct value_sums *sums);

#endif
