/* The gradient interface (DESIGN section 9): every RL loss lives outside the engine.
 *
 * A learner holds one workspace and one gradient buffer per worker thread. For a micro-batch, worker w calls
 *     learner_forward(l, w, batch, out)    log-probs, entropies (and hidden states) at the target positions
 *     ... the loss turns them into dL/dlogp, dL/dentropy per target, in plain C ...
 *     learner_backward(l, w, batch, grad)  accumulates into worker w's gradient buffer
 * Forward keeps its activations in worker w's workspace until that worker's next forward; backward uses them up, so it may
 * follow a forward once. learner_reduce then sums the
 * workers' gradients in worker order (bit-identical for the same assignment) into gradient 0.
 * Packed sequences, no padding: sequence i covers tokens [start[i], start[i+1]) and positions begin at 0 in each.
 * A target t is a position p >= 1 within its sequence: logp[t] is log p(tokens[p] | tokens before p) under
 * softmax(logits / temperature) over the vocabulary (padding masked); entropy[t] is that distribution's, in nats. */
#ifndef PAL_TRAINER_MODEL_LEARNER_H
#define PAL_TRAINER_MODEL_LEARNER_H

#include "trainer/model/model.h"

struct learner;

struct learner_batch {
    size_t sequences;
    const uint32_t *start; /* [sequences + 1], start[0] = 0, start[sequences] = T */
    const int32_t *tokens; /* [T] */
    size_t targets;
    const uint32_t *target; /* [targets] ascending positions into tokens */
    float temperature;      /* > 0 */
};

struct learner_out {
    float *logp;    /* [targets] */
    float *entropy; /* [targets] */
    float *hidden;  /* [targets, D] final-norm hidden state that predicts the target, or NULL if not wanted */
};

struct learner_grad {
    const float *dlogp;    /* [targets] */
    const float *dentropy; /* [targets] */
    const float *dhidden;  /* [targets, D] or NULL */
};

/* What is kept of a forward pass. Recomputation keeps the input of each layer and computes the rest of it again in backward:
 * the same gradients to the bit, for about a third more work and a small part of the memory. */
enum learner_kind {
    LEARNER_KIND_forward, /* nothing: no gradients (checks, scores) */
    LEARNER_KIND_gradient,
    LEARNER_KIND_recompute
};

/* workers >= 1; max_tokens is the most tokens a micro-batch may hold (a longer single sequence is refused). */
err_t learner_new(struct learner **ret, const struct model_config *config, size_t workers, size_t max_tokens,
                  enum learner_kind kind) MUST_USE;
void learner_free(struct learner **learner);
size_t learner_bytes(const struct learner *learner); /* memory held */
/* The same before it is made; a checked config. */
size_t learner_bytes_of(const struct model_config *config, size_t workers, size_t max_tokens, enum learner_kind kind);

/* ERR_invalid for ids outside the vocabulary, unordered targets or too many tokens; nothing is computed then. */
err_t learner_forward(struct learner *learner, size_t worker, const struct model *model, const struct learner_batch *batch,
                      const struct learner_out *out) MUST_USE;
void learner_backward(struct learner *learner, size_t worker, const struct model *model, const struct learner_batch *batch,
                      const struct learner_grad *grad);

void learner_zero(struct learner *learner);     /* all gradient buffers */
float *learner_reduce(struct learner *learner); /* [parameters], worker order; borrowed until the next call */

#endif
