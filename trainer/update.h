/* An update: one batch of groups turned into optimizer steps (DESIGN section 10).
 *
 * Episodes with signal are packed and go forward, through the loss and backward; those without are only counted in the
 * denominator. With one optimizer step (one epoch, one minibatch) prox is the same forward's theta, without gradient; with
 * more, or with a reference policy, a score pass comes first. Minibatches are made of whole groups, shuffled each epoch by
 * the trainee's random state; one without signal makes no step. Either the whole update is applied or nothing changed: a
 * loss, gradient or weight that is not finite, a cancellation and every other error leave weights, optimizer and random state
 * as they were. The same trainee, batch and number of threads give the same bits. */
#ifndef PAL_TRAINER_UPDATE_H
#define PAL_TRAINER_UPDATE_H

#include "trainer/diagnostics.h"
#include "trainer/episode.h"
#include "trainer/schedule.h"
#include "trainer/trainee.h"

struct update_config {
    enum loss_kind loss;
    struct loss_terms terms;
    enum loss_aggregation aggregation;
    size_t minibatches; /* >= 1 */
    size_t epochs;      /* >= 1 */
    size_t tokens_per_microbatch;
    float temperature;
    struct schedule schedule; /* update u has the rate of position u - 1 */
};

struct update_batch {
    int64_t update; /* u >= 1 */
    const struct episode *episodes;
    size_t count;
    double norm_tokens; /* action tokens of all of them */
};

enum update_outcome {
    UPDATE_OUTCOME_applied,
    UPDATE_OUTCOME_skipped /* no episode has signal: the version stays */
};

const char *update_outcome_name(enum update_outcome outcome);

/* Applies the batch: trainee->update becomes batch->update, and so does the version unless it was skipped. ERR_malformed
 * names an episode that cannot be trained on; ERR_numeric when something was not finite; ERR_conflict when *cancel became
 * true (NULL: never). Then the trainee is as before. Times in *ret_figures are left 0. */
err_t update_run(struct trainee *trainee, const struct update_config *config, const struct update_batch *batch,
                 const atomic_bool *cancel, enum update_outcome *ret_outcome, struct diagnostics *ret_figures) MUST_USE;

#endif
