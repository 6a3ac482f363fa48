#include "trainer/pass.h"

#include <math.h>
#include <stdio.h>

struct pass {
    struct trainee *trainee;
    const struct model *model;
    struct packing *packing;
    const atomic_bool *cancel;
    loss_t loss; /* NULL: score only */
    const struct loss_terms *terms;
};

static err_t run_one(const struct pass *pass, struct microbatch *m, size_t worker)
{
    if (pass->cancel && atomic_load_explicit(pass->cancel, memory_order_relaxed)) return err_set(ERR_conflict, "cancelled");
    struct learner *learner = pass->trainee->learner;
    const struct learner_out out = {.logp = m->theta, .entropy = m->entropy};
    TRY(learner_forward(learner, worker, pass->model, &m->batch, &out));
    if (!pass->loss) return ERR_ok;
    const struct loss_grad grad = {m->dlogp, m->dentropy};
    pass->loss(pass->terms, &m->loss, &grad, &m->sums);
    if (!isfinite(m->sums.loss)) return err_set(ERR_numeric, "the loss of a micro-batch is %g", m->sums.loss);
    const struct learner_grad back = {.dlogp = m->dlogp, .dentropy = m->dentropy};
    learner_backward(learner, worker, pass->model, &m->batch, &back);
    return ERR_ok;
}

static void run_microbatch(void *ctx, size_t index, size_t worker)
{
    const struct pass *pass = ctx;
    struct microbatch *m = &pass->packing->microbatches[index];
    m->err = run_one(pass, m, worker);
    /* the sentence is the worker thread's own: it goes to the caller with the micro-batch */
    if (m->err != ERR_ok) (void)snprintf(m->err_text, sizeof m->err_text, "%s", err_text());
}

static err_t run(struct pass *pass)
{
    pool_run(pass->trainee->pool, pass->packing->count, true, run_microbatch, pass);
    for (size_t i = 0; i < pass->packing->count; i++) {
        const struct microbatch *m = &pass->packing->microbatches[i];
        if (m->err != ERR_ok) return err_set(m->err, "%s", m->err_text);
    }
    return ERR_ok;
}

err_t pass_score(struct trainee *trainee, const struct model *model, struct packing *packing, const atomic_bool *cancel)
{
    struct pass pass = {.trainee = trainee, .model = model, .packing = packing, .cancel = cancel};
    return run(&pass);
}

err_t pass_gradient(struct trainee *trainee, enum loss_kind loss, const struct loss_terms *terms, struct packing *packing,
                    const atomic_bool *cancel, const float **ret_gradient, struct loss_sums *sums)
{
    struct pass pass = {trainee, trainee->model, packing, cancel, loss_of(loss), terms};
    learner_zero(trainee->learner);
    TRY(run(&pass));
    for (size_t i = 0; i < packing->count; i++) loss_sums_add(sums, &packing->microbatches[i].sums);
    *ret_gradient = learner_reduce(trainee->learner);
    return ERR_ok;
}
