/* An update: one batch of groups turned into optimizer steps (DESIGN section 10, docs/methods.md).
 *
 * Episodes with signal are packed and go forward, through the loss and backward; those without only count in the denominator
 * (and teach the value head, where there is one and their tokens are there). With one optimizer step (one pass, one
 * minibatch) prox is the same forward's theta, without gradient; with more, a score pass comes first, as it does for a
 * reference policy, for hinted contexts and for the values that ppo and webrl make their advantages from. Minibatches are
 * made of whole groups, shuffled each pass by the trainee's random state; one without signal makes no step. Either the whole
 * update is applied or nothing changed: a loss, gradient or weight that is not finite, a cancellation and every other error
 * leave weights, optimizers and random state as they were. The same trainee, batch and number of threads give the same
 * bits. */
#ifndef PAL_TRAINER_UPDATE_H
#define PAL_TRAINER_UPDATE_H

#include "trainer/diagnostics.h"
#include "trainer/episode.h"
#include "trainer/schedule.h"
#include "trainer/trainee.h"

/* How hinted episodes are trained on. */
enum update_hint {
    UPDATE_HINT_cut,   /* as if played without it: the plain context, nothing is on record of it */
    UPDATE_HINT_ratio, /* the ratio of two contexts (loss_guide.h) */
    UPDATE_HINT_left   /* a control: the hint is a part of the context like any other */
};

struct update_config {
    enum loss_kind loss;
    struct loss_terms terms;
    enum loss_aggregation aggregation;
    enum update_hint hint;
    bool hint_positive;      /* of hinted episodes only those with a positive advantage */
    double discount, lambda; /* ppo: GAE over turns */
    double mix;              /* webrl: lambda of its advantage */
    size_t minibatches;      /* >= 1 */
    size_t epochs;           /* >= 1 */
    size_t tokens_per_microbatch;
    float temperature;
    struct schedule schedule; /* update u has the rate of position u - 1 */
};

struct update_batch {
    int64_t update; /* u >= 1 */
    const struct episode *episodes;
    size_t count;
    double norm_tokens;  /* action tokens of all of them */
    size_t extra_passes; /* beyond the epochs */
    bool discarded;      /* no pass at all: the update is skipped */
};

enum update_outcome {
    UPDATE_OUTCOME_applied,
    UPDATE_OUTCOME_skipped /* discarded, or there is nothing to train on: the version stays */
};

const char *update_outcome_name(enum update_outcome outcome);

/* Applies the batch: trainee->update becomes batch->update, and so does the version unless it was skipped. ERR_malformed
 * names an episode that cannot be trained on; ERR_invalid a loss without its value head or reference; ERR_numeric when
 * something was not finite; ERR_conflict when *cancel became true (NULL: never). Then the trainee is as before. Times in
 * *ret_figures are left 0. */
err_t update_run(struct trainee *trainee, const struct update_config *config, const struct update_batch *batch,
                 const atomic_bool *cancel, enum update_outcome *ret_outcome, struct diagnostics *ret_figures) MUST_USE;

#endif
