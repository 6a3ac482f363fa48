#include "trainer/pass.h"

#include <math.h>
#include <stdio.h>

struct pass {
    struct trainee *trainee;
    const struct model *model;
    struct packing *packing;
    const atomic_bool *cancel;
    loss_t loss; /* NULL: no gradient of the policy */
    const struct loss_terms *terms;
    bool values; /* the value head learns */
};

/* Where nothing was scored at the update's start, this forward is the start. */
static void fill_prox(struct microbatch *m)
{
    for (size_t s = 0; s < m->batch.sequences; s++) {
        if (m->lesson[s]->prox) continue;
        size_t first = m->first[s], count = m->first[s + 1] - first;
        memcpy(m->prox + first, m->theta + first, count * sizeof *m->prox);
    }
}

/* V of the states, and with `values` its gradient: *ret_dhidden is what of it goes into the policy, or NULL. */
static err_t run_states(const struct pass *pass, struct microbatch *m, size_t worker, const float **ret_dhidden)
{
    struct value *value = pass->trainee->value;
    *ret_dhidden = NULL;
    if (m->states == 0) return ERR_ok;
    value_forward(value, worker, m->state, m->states, pass->values ? &m->values : NULL);
    if (!pass->values) return ERR_ok;
    if (!isfinite(m->values.loss)) return err_set(ERR_numeric, "the value head's loss is %g", m->values.loss);
    *ret_dhidden = value_backward(value, worker, m->state, m->states, m->batch.targets);
    return ERR_ok;
}

static err_t run_one(const struct pass *pass, struct microbatch *m, size_t worker)
{
    struct trainee *t = pass->trainee;
    if (pass->cancel && atomic_load_explicit(pass->cancel, memory_order_relaxed)) return err_set(ERR_conflict, "cancelled");
    const struct learner_out out = {
        .logp = m->theta, .entropy = m->entropy, .hidden = m->states > 0 ? t->value->work[worker].hidden : NULL};
    struct learner_grad back = {.dlogp = m->dlogp, .dentropy = m->dentropy};
    TRY(learner_forward(t->learner, worker, pass->model, &m->batch, &out));
    TRY(run_states(pass, m, worker, &back.dhidden));
    if (!pass->loss) return ERR_ok;
    const struct loss_grad grad = {m->dlogp, m->dentropy};
    fill_prox(m);
    pass->loss(pass->terms, &m->loss, &grad, &m->sums);
    if (!isfinite(m->sums.loss)) return err_set(ERR_numeric, "the loss of a micro-batch is %g", m->sums.loss);
    learner_backward(t->learner, worker, pass->model, &m->batch, &back);
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
    BUG_IF(pass->packing->states > 0 && !pass->trainee->value);
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

static void add_values(const struct packing *packing, struct value_sums *values)
{
    for (size_t i = 0; packing->states > 0 && i < packing->count; i++)
        value_sums_add(values, &packing->microbatches[i].values);
}

err_t pass_gradient(struct trainee *trainee, const struct model *model, enum loss_kind loss, const struct loss_terms *terms,
                    struct packing *packing, const atomic_bool *cancel, const float **ret_gradient, struct loss_sums *sums,
                    struct value_sums *values)
{
    struct pass pass = {trainee, model, packing, cancel, loss_of(loss), terms, packing->states > 0};
    learner_zero(trainee->learner);
    TRY(run(&pass));
    for (size_t i = 0; i < packing->count; i++) loss_sums_add(sums, &packing->microbatches[i].sums);
    add_values(packing, values);
    *ret_gradient = learner_reduce(trainee->learner);
    return ERR_ok;
}

err_t pass_values(struct trainee *trainee, struct packing *packing, const atomic_bool *cancel, struct value_sums *values)
{
    struct pass pass = {.trainee = trainee, .model = trainee->model, .packing = packing, .cancel = cancel, .values = true};
    TRY(run(&pass));
    add_values(packing, values);
    return ERR_ok;
}
