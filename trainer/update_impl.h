/* An update's inside, shared by update.c (its course) and update_score.c (what comes before the first step). */
#ifndef PAL_TRAINER_UPDATE_IMPL_H
#define PAL_TRAINER_UPDATE_IMPL_H

#include "trainer/pass.h"
#include "trainer/update.h"

/* a group's episodes: consecutive entries of `order` */
struct group_slice {
    uint32_t first;
    uint32_t count;
};

struct update {
    struct trainee *trainee;
    const struct update_config *config;
    const struct update_batch *batch;
    const atomic_bool *cancel;
    struct lesson *lessons; /* [episodes]; without an episode where there are no tokens */
    uint32_t *order;        /* [episodes] indices, group after group */
    struct group_slice *groups;
    size_t group_count;
    double all_tokens; /* action tokens of all episodes */
    struct loss_sums sums;
    struct value_sums values;
    double steps, norm_sum, tokens;
};

/* One optimizer step in all: prox is theta of its forward. */
static inline bool update_is_one_step(const struct update *u)
{
    return u->config->minibatches == 1 && u->config->epochs + u->batch->extra_passes == 1;
}

struct packing_options update_packing(const struct update *u);

/* Fills the lessons' prox, reference, values and advantages, as far as the loss needs them. */
err_t update_score(struct update *u) MUST_USE;

#endif
