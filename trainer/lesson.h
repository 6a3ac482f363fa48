/* A lesson: an episode with tokens as one update trains on it.
 *
 * What is computed before the update's first step is kept here by turn (advantages, values) and by target (prox, reference),
 * so that packing may lay its contexts into micro-batches anew for every step. Targets are counted over the whole episode,
 * those of dropped turns too. All arrays live in the arena of the update. */
#ifndef PAL_TRAINER_LESSON_H
#define PAL_TRAINER_LESSON_H

#include "services/common/base/arena.h"
#include "trainer/episode.h"
#include "trainer/loss.h"

struct lesson {
    const struct episode *episode;
    bool policy;         /* its targets are in the policy's loss; false: only the value head reads it */
    bool hinted;         /* its ratio is of two contexts; otherwise a hint is only cut away */
    uint32_t targets;    /* all */
    uint32_t *turn_size; /* [turns] targets of each */
    float *weight;       /* [turns] of each of the turn's targets, 0 for dropped ones (lesson_weigh) */
    float *advantage;    /* [turns] */
    float *prox;         /* [targets] at the update's start; NULL: it is theta of the first and only forward */
    float *reference;    /* [targets] or NULL */
    float *value;   /* [turns] V of the state before the turn's first target, at the update's start; NULL: not computed */
    float *outcome; /* [turns] what V is to become, in [0, 1]; NULL: no value head */
};

/* For an episode with tokens that passed episode_check: advantage in every turn, weights 0. */
err_t lesson_make(struct lesson *ret, const struct episode *episode, struct arena *arena) MUST_USE;
/* The log-prob recorded of a target may be compared with what the learner says in the lesson's context. */
bool lesson_recorded(const struct lesson *lesson);
void lesson_weigh(struct lesson *lesson, enum loss_aggregation aggregation, const struct loss_norm *norm);

#endif
