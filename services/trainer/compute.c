#include "services/trainer/compute.h"

#include "services/common/run/crash.h"

#include <stdio.h>

/* The weights of now become a file that workers can pull. */
static err_t publish(struct compute *c)
{
    struct assignment *a = c->assignment;
    crash_here(CRASH_update_computed);
    TRY(model_digest(a->trainee->model, &c->digest));
    const struct value *value = a->trainee->value;
    struct policy_file policy = {.config = a->trainee->model->config,
                                 .job = a->job,
                                 .lineage = a->lineage,
                                 .version = a->trainee->version,
                                 .role = POLICY_FILE_policy,
                                 .digest = c->digest,
                                 .weights = a->trainee->model->weights};
    if (value) {
        TRY(value_head_digest(value->head, &policy.value_digest));
        policy.value_units = value->head->units;
        policy.value = value->head->weights;
    }
    char path[SHELF_PATH_BYTES];
    shelf_path(&a->shelf, a->lineage, a->trainee->version, path);
    TRY(shelf_write(path, &policy));
    crash_here(CRASH_policy_written);
    c->published = true;
    return ERR_ok;
}

static err_t prepare(struct compute *c)
{
    struct assignment *a = c->assignment;
    TRY(assignment_prepare(a, c->state_dir, c->pool));
    return a->resume_version >= 0 ? publish(c) : ERR_ok;
}

static err_t run_warmstart(struct compute *c)
{
    struct assignment *a = c->assignment;
    if (a->batch->count > 0) {
        err_t err = warmstart_run(a->trainee, &a->warmstart, a->batch->episodes, a->batch->count, &a->cancel, &c->figures);
        if (err == ERR_numeric) return err_prefix(err, "the warm start diverged (a lower policy.warmstart.lr may help)");
        TRY(err);
    }
    if (a->update.terms.kl > 0) TRY(trainee_set_reference(a->trainee));
    c->outcome = update_outcome_name(UPDATE_OUTCOME_applied);
    return publish(c);
}

static err_t run_update(struct compute *c)
{
    struct assignment *a = c->assignment;
    const struct intake *batch = a->batch;
    const struct update_batch input = intake_update(batch);
    enum update_outcome outcome = UPDATE_OUTCOME_skipped;
    err_t err = update_run(a->trainee, &a->update, &input, &a->cancel, &outcome, &c->figures);
    if (err == ERR_numeric) { /* the trainee is as it was; the batch is passed over */
        (void)snprintf(c->err_text, sizeof c->err_text, "%s", err_text());
        a->trainee->update = batch->update;
        a->trainee->bad_updates++;
        c->outcome = "numeric";
        return ERR_ok;
    }
    TRY(err);
    c->outcome = update_outcome_name(outcome);
    return outcome == UPDATE_OUTCOME_applied ? publish(c) : ERR_ok;
}

static err_t run_batch(struct compute *c)
{
    struct intake *batch = c->assignment->batch;
    crash_count(c->assignment->lineage, batch->update);
    crash_here(CRASH_batch_taken);
    TRY(intake_decode(batch));
    return batch->kind == INTAKE_KIND_warmstart ? run_warmstart(c) : run_update(c);
}

static err_t save(struct compute *c)
{
    const struct assignment *a = c->assignment;
    struct checkpoint checkpoint;
    crash_count(a->lineage, a->trainee->update);
    crash_here(CRASH_checkpoint_begun);
    TRY(trainee_checkpoint(a->trainee, &checkpoint));
    checkpoint.job = a->job;
    checkpoint.lineage = a->lineage;
    return archive_save(&a->archive, &checkpoint, &c->saved);
}

static err_t run(struct compute *c)
{
    switch (c->kind) {
    case COMPUTE_KIND_prepare:
        return prepare(c);
    case COMPUTE_KIND_batch:
        return run_batch(c);
    case COMPUTE_KIND_save:
        return save(c);
    }
    return ERR_ok;
}

static void on_thread(uv_work_t *request)
{
    struct compute *c = request->data;
    uint64_t start = uv_hrtime();
    c->err = run(c);
    /* the sentence is this thread's own */
    if (c->err != ERR_ok) (void)snprintf(c->err_text, sizeof c->err_text, "%s", err_text());
    c->took_ms = (double)(uv_hrtime() - start) / 1e6;
    c->figures.busy_ms = c->took_ms;
    c->figures.tokens_per_second = c->figures.tokens_trained / (c->took_ms / 1e3);
}

static void on_done(uv_work_t *request, int status)
{
    struct compute *c = request->data;
    BUG_IF(status != 0); /* nothing cancels it */
    c->done(c);
}

err_t compute_start(struct compute *c, uv_loop_t *loop, enum compute_kind kind, struct assignment *assignment)
{
    BUG_IF(c->assignment);
    c->kind = kind;
    c->assignment = assignment;
    c->err = ERR_ok;
    c->err_text[0] = 0;
    c->outcome = "";
    c->published = false;
    c->figures = (struct diagnostics){0};
    c->request.data = c;
    if (uv_queue_work(loop, &c->request, on_thread, on_done) == 0) return ERR_ok; /* from here on it is the thread's */
    c->assignment = NULL;
    return err_set(ERR_unavailable, "the compute thread");
}
