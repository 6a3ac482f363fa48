#include "services/trainer/compute.h"

#include "services/common/run/crash.h"

#include <stdio.h>

/* The weights of now become a file that workers can pull, the value head with them. */
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

/* The outcome reward model likewise, under the number of the phase it learned at the end of. */
static err_t publish_reward(struct compute *c)
{
    struct assignment *a = c->assignment;
    const struct model *orm = a->trainee->orm;
    TRY(model_digest(orm, &c->reward));
    const struct policy_file policy = {.config = orm->config,
                                       .job = a->job,
                                       .lineage = a->lineage,
                                       .version = a->trainee->orm_version,
                                       .role = POLICY_FILE_orm,
                                       .digest = c->reward,
                                       .weights = orm->weights};
    char path[SHELF_PATH_BYTES];
    shelf_reward_path(&a->shelf, a->lineage, a->trainee->orm_version, path);
    TRY(shelf_write(path, &policy));
    c->rewarded = true;
    return ERR_ok;
}

static err_t prepare(struct compute *c)
{
    struct assignment *a = c->assignment;
    TRY(assignment_prepare(a, c->state_dir, c->pool));
    if (a->resume_version < 0) return ERR_ok;
    TRY(publish(c));
    return a->trainee->orm_version > 0 ? publish_reward(c) : ERR_ok;
}

static err_t run_batch(struct compute *c)
{
    struct assignment *a = c->assignment;
    crash_count(a->lineage, a->batch->update);
    crash_here(CRASH_batch_taken);
    TRY(apply_batch(a, &a->cancel, &c->result));
    c->phase_end = a->batch->phase_end;
    if (c->result.changed) TRY(publish(c));
    return c->result.reward ? publish_reward(c) : ERR_ok;
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
    c->result.figures.busy_ms = c->took_ms;
    c->result.figures.tokens_per_second = c->result.figures.tokens_trained / (c->took_ms / 1e3);
}

static void on_done(uv_work_t *request, int status)
{
    struct compute *c = request->data;
    BUG_IF(status != 0); /* nothing cancels it */
    c->started_ns = 0;
    c->done(c);
}

err_t compute_start(struct compute *c, uv_loop_t *loop, enum compute_kind kind, struct assignment *assignment)
{
    BUG_IF(c->assignment);
    c->kind = kind;
    c->assignment = assignment;
    c->err = ERR_ok;
    c->err_text[0] = 0;
    c->result = (struct apply_result){.outcome = ""};
    c->phase_end = c->published = c->rewarded = false;
    c->request.data = c;
    c->started_ns = uv_hrtime();
    if (uv_queue_work(loop, &c->request, on_thread, on_done) == 0) return ERR_ok; /* from here on it is the thread's */
    c->assignment = NULL;
    c->started_ns = 0;
    return err_set(ERR_unavailable, "the compute thread");
}
