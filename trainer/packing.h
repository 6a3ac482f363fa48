/* Packing: episodes, cut after their last target, laid into micro-batches without padding.
 *
 * Longest first, each into the micro-batch with the fewest tokens that still has room, over as many micro-batches as the
 * tokens need, rounded up to the number of workers: so that workers get about the same. The result depends only on the
 * episodes' lengths and order. Packing never changes the mathematics, only the order in which gradients are added. */
#ifndef PAL_TRAINER_PACKING_H
#define PAL_TRAINER_PACKING_H

#include "services/common/base/arena.h"
#include "trainer/episode.h"
#include "trainer/loss.h"
#include "trainer/model/learner.h"

/* One unit of work: forward, loss and backward of some episodes on one worker. */
struct microbatch {
    uint32_t *index; /* [sequences] which episode of the packed list each sequence is */
    /* what is computed from, filled by packing_make */
    uint32_t *start;  /* [sequences + 1] */
    uint32_t *target; /* [targets] */
    int32_t *tokens;  /* [T] */
    float *weight;    /* [targets], and so are the following */
    float *advantage;
    float *behave;
    uint8_t *own;     /* drawn by the weights of now */
    float *prox;      /* or NULL */
    float *reference; /* or NULL */
    /* what is computed */
    float *theta; /* log-prob now */
    float *entropy;
    float *dlogp;
    float *dentropy;
    struct loss_sums sums;
    /* the same arrays as the learner and the loss read them */
    struct learner_batch batch;
    struct loss_batch loss;
    err_t err; /* of its pass, with its sentence */
    char err_text[ERR_TEXT_BYTES];
};

struct packing {
    struct microbatch *microbatches;
    size_t count;
    size_t tokens;
    size_t targets;
};

struct packing_options {
    int64_t version;              /* of the weights that behave is compared with; -1: not compared */
    size_t tokens_per_microbatch; /* aim; a longer episode gets a micro-batch of its own */
    size_t workers;
    float temperature;
};

/* What the loss knows of a packed episode beside the model's answers. */
struct packing_episode {
    const struct episode *episode; /* with signal, checked */
    double weight;                 /* of each of its targets (loss_weight) */
    const float *prox;             /* [its targets], NULL in all or in none */
    const float *reference;        /* [its targets], NULL in all or in none */
};

/* All arrays live in the arena. ERR_memory, ERR_too_large. count >= 1. */
err_t packing_make(const struct packing_episode *episodes, size_t count, const struct packing_options *options,
                   struct arena *arena, struct packing *ret) MUST_USE;

#endif
