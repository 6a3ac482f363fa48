/* The trainee: a policy while it is trained, with all that its next update depends on.
 *
 * Weights, optimizer, random state, reference weights, value head, outcome reward model and the count of updates; a
 * checkpoint is exactly this. Updates (update.h), the warm start (warmstart.h) and the ends of phases (phase.h) work on it;
 * between their calls weights and optimizer always belong together and are finite. Compute threads are the pool that was
 * passed in; nothing here is thread-safe. */
#ifndef PAL_TRAINER_TRAINEE_H
#define PAL_TRAINER_TRAINEE_H

#include "services/common/base/arena.h"
#include "services/common/base/pool.h"
#include "trainer/checkpoint.h"
#include "trainer/model/learner.h"
#include "trainer/optim_adamw.h"
#include "trainer/value.h"

#include <stdatomic.h>

struct trainee_config {
    struct model_config model;
    struct adamw_config adamw;
    struct value_config value;
    bool recompute;    /* activations are computed again in backward (learner.h) */
    size_t max_tokens; /* most tokens of a micro-batch, or of one episode if that is longer */
    uint64_t seed;     /* the job's */
    bool blank;        /* trainee_new leaves the weights 0: the caller has some */
};

struct trainee {
    struct pool *pool; /* borrowed */
    struct model *model;
    struct model *reference; /* weights of version 0, or of the last phase's end; NULL: none */
    struct value *value;     /* NULL: no value head */
    struct model *orm;       /* outcome reward model, NULL: none */
    struct adamw *adamw;
    struct learner *learner;
    struct model *kept_model; /* weights and optimizer as they were before the update that runs now */
    struct adamw *kept_adamw;
    struct arena arena; /* of the update that runs now */
    struct rng rng;     /* order of groups in minibatches */
    uint64_t seed;
    size_t max_tokens;
    int64_t version;
    int64_t update;
    uint64_t bad_updates;
    int64_t phase;       /* phases ended */
    int64_t orm_version; /* of the outcome reward model: phases ended, 0 while it has not learned */
};

/* Random weights from the seed (unless blank), version and update 0. */
err_t trainee_new(struct trainee **ret, const struct trainee_config *config, struct pool *pool) MUST_USE;
/* As the checkpoint says: ERR_conflict when its model or value head is not the configured one. */
err_t trainee_resume(struct trainee **ret, const struct trainee_config *config, const struct checkpoint *checkpoint,
                     struct pool *pool) MUST_USE;
void trainee_free(struct trainee **trainee);
/* Memory that a trainee takes with so many workers, and `others` further copies of the weights (reference, orm); a checked
 * config. What a batch's episodes take comes to it. */
size_t trainee_bytes_of(const struct trainee_config *config, size_t workers, size_t others);

/* Takes the weights of now as the reference, or as those the outcome reward model begins from. */
err_t trainee_set_reference(struct trainee *trainee) MUST_USE;
err_t trainee_set_orm(struct trainee *trainee) MUST_USE;

/* What a checkpoint of now holds; borrows from the trainee. job and lineage are the caller's. */
err_t trainee_checkpoint(const struct trainee *trainee, struct checkpoint *ret) MUST_USE;

/* Remembers weights and optimizers, the value head's too; trainee_restore brings them back. */
void trainee_keep(struct trainee *trainee);
void trainee_restore(struct trainee *trainee);
bool trainee_finite(const struct model *model); /* all weights are */

#endif
