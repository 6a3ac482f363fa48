#include "services/trainer/apply.h"

#include <math.h>
#include <stdio.h>

static void warn(struct apply_result *result)
{
    (void)snprintf(result->warning, sizeof result->warning, "%s", err_text());
}

/* Whatever was imitated, the weights are version 0 now, and what begins from it does. */
static err_t apply_warmstart(struct assignment *a, const atomic_bool *cancel, struct apply_result *result)
{
    const struct intake *batch = a->batch;
    if (batch->count > 0) {
        err_t err = warmstart_run(a->trainee, &a->warmstart, batch->episodes, batch->count, cancel, &result->figures);
        if (err == ERR_numeric) return err_prefix(err, "the warm start diverged (a lower policy.warmstart.lr may help)");
        TRY(err);
    }
    if (a->phase.reference) TRY(trainee_set_reference(a->trainee));
    if (a->phase.orm) TRY(trainee_set_orm(a->trainee));
    result->outcome = update_outcome_name(UPDATE_OUTCOME_applied);
    result->changed = true;
    return ERR_ok;
}

static err_t end_phase(struct assignment *a, const atomic_bool *cancel, struct apply_result *result)
{
    const struct intake *batch = a->batch;
    bool diverged = false;
    if (batch->phase != a->trainee->phase)
        return err_set(ERR_conflict, "the end of phase %ld came, %ld have ended", (long)batch->phase,
                       (long)a->trainee->phase);
    TRY(phase_end(a->trainee, &a->phase, batch->cases, batch->case_count, cancel, &diverged, &result->figures));
    if (diverged) warn(result);
    if (diverged && a->reward_only && a->trainee->orm_version == 0)
        return err_prefix(ERR_numeric, "the outcome reward model diverged (a lower curation.webrl.orm_lr may help)");
    result->reward = a->phase.orm && a->trainee->orm_version > 0;
    return ERR_ok;
}

static err_t apply_update(struct assignment *a, const atomic_bool *cancel, struct apply_result *result)
{
    const struct intake *batch = a->batch;
    const struct update_batch input = intake_update(batch);
    enum update_outcome outcome = UPDATE_OUTCOME_skipped;
    double angle = (double)NAN; /* under the weights that the update starts from */
    if (a->prompts.on && !batch->discarded) TRY(prompts_angle(&a->prompts, a->trainee, batch, &angle));
    err_t err = update_run(a->trainee, &a->update, &input, cancel, &outcome, &result->figures);
    if (err == ERR_numeric) { /* the trainee is as it was; the batch is passed over */
        warn(result);
        a->trainee->update = batch->update;
        a->trainee->bad_updates++;
        result->outcome = "numeric";
    } else {
        TRY(err);
        result->outcome = update_outcome_name(outcome);
        result->changed = outcome == UPDATE_OUTCOME_applied;
    }
    result->figures.angle = angle;
    return batch->phase_end ? end_phase(a, cancel, result) : ERR_ok;
}

err_t apply_batch(struct assignment *a, const atomic_bool *cancel, struct apply_result *ret)
{
    *ret = (struct apply_result){.outcome = ""};
    diagnostics_clear(&ret->figures);
    TRY(intake_decode(a->batch, &a->reader));
    if (a->batch->kind == INTAKE_KIND_warmstart) return apply_warmstart(a, cancel, ret);
    return apply_update(a, cancel, ret);
}
