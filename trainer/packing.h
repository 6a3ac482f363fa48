/* Packing: the contexts of lessons, cut after their last target, laid into micro-batches without padding.
 *
 * Longest first, each into the micro-batch with the fewest tokens that still has room, over as many micro-batches as the
 * tokens need, rounded up to the number of workers: so that workers get about the same. The result depends only on the
 * contexts' lengths and order. Packing never changes the mathematics, only the order in which gradients are added.
 * A micro-batch's targets are those that are trained on and, where states are wanted, the first target of every turn: the
 * hidden state that predicts it is the state before the turn's action. Such a target of a dropped turn, or of a lesson
 * without policy, is in no turn of the loss. */
#ifndef PAL_TRAINER_PACKING_H
#define PAL_TRAINER_PACKING_H

#include "trainer/lesson.h"
#include "trainer/model/learner.h"
#include "trainer/value.h"

/* One unit of work: forward, loss and backward of some contexts on one worker. */
struct microbatch {
    struct lesson **lesson; /* [sequences] whose context each sequence is */
    /* what is computed from, filled by packing_make */
    uint32_t *start;  /* [sequences + 1] */
    uint32_t *first;  /* [sequences + 1] first target of each */
    uint32_t *target; /* [targets] */
    int32_t *tokens;  /* [T] */
    uint32_t *place;  /* [targets] which of its lesson's targets each is */
    float *weight;    /* [targets], and so are the following */
    float *advantage;
    float *behave;
    uint8_t *own; /* drawn by the weights of now */
    float *prox;
    float *reference; /* or NULL */
    struct loss_turn *turn;
    struct loss_sequence *sequence;
    struct value_state *state; /* [states] */
    size_t states;
    /* what is computed */
    float *theta; /* log-prob now */
    float *entropy;
    float *dlogp;
    float *dentropy;
    float *scratch;
    struct loss_sums sums;
    struct value_sums values;
    /* the same arrays as the learner and the loss read them */
    struct learner_batch batch;
    struct loss_batch loss;
    err_t err; /* of its pass, with its sentence */
    char err_text[ERR_TEXT_BYTES];
};

struct packing {
    struct microbatch *microbatches;
    size_t count; /* 0: no lesson has a target */
    size_t tokens;
    size_t targets;
    size_t live; /* of them those that are trained on */
    size_t states;
};

struct packing_options {
    int64_t version;              /* of the weights that behave is compared with; -1: not compared */
    bool moves;                   /* theta has moved since: only what has prox is compared */
    size_t tokens_per_microbatch; /* aim; a longer context gets a micro-batch of its own */
    size_t workers;
    float temperature;
    bool with_hint;     /* whole contexts; otherwise plain ones */
    float state_weight; /* share of each state in the value head's loss; 0: no states */
};

/* All arrays live in the arena. Lessons are weighed; where one has a reference all with policy have.
 * ERR_memory, ERR_too_large. */
err_t packing_make(struct lesson *const *lessons, size_t count, const struct packing_options *options, struct arena *arena,
                   struct packing *ret) MUST_USE;

#endif
