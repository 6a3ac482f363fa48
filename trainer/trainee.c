#include "trainer/trainee.h"

#include <stdlib.h>

#define RNG_STREAM      7                 /* apart from the model's initialisation */
#define ARENA_MAX_BYTES ((size_t)4 << 30) /* of one update */

static enum learner_kind kind_of(const struct trainee_config *config)
{
    return config->recompute ? LEARNER_KIND_recompute : LEARNER_KIND_gradient;
}

static err_t build(struct trainee *t, const struct trainee_config *config)
{
    arena_init(&t->arena, ARENA_MAX_BYTES);
    TRY(model_new(&t->model, &config->model));
    TRY(model_new(&t->kept_model, &config->model));
    TRY(adamw_new_model(&t->adamw, &config->adamw, &config->model));
    TRY(adamw_new_model(&t->kept_adamw, &config->adamw, &config->model));
    TRY(learner_new(&t->learner, &config->model, pool_threads(t->pool), config->max_tokens, kind_of(config)));
    rng_init(&t->rng, config->seed, RNG_STREAM);
    if (config->value.units == 0) return ERR_ok;
    return value_new(&t->value, &config->value, &config->adamw, (size_t)config->model.width, pool_threads(t->pool),
                     config->max_tokens, config->seed);
}

static err_t make(struct trainee **ret, const struct trainee_config *config, struct pool *pool)
{
    struct trainee *t = calloc(1, sizeof *t);
    if (!t) return err_set(ERR_memory, "a trainee");
    t->pool = pool;
    t->seed = config->seed;
    t->max_tokens = config->max_tokens;
    err_t err = build(t, config);
    if (err != ERR_ok)
        trainee_free(&t);
    else
        *ret = t;
    return err;
}

err_t trainee_new(struct trainee **ret, const struct trainee_config *config, struct pool *pool)
{
    struct trainee *t = NULL;
    TRY(make(&t, config, pool));
    BUG_IF(!t);
    if (!config->blank) model_init(t->model, config->seed);
    *ret = t;
    return ERR_ok;
}

static err_t fill(struct trainee *t, const struct checkpoint *c)
{
    size_t bytes = c->count * sizeof(float);
    if (c->reference) {
        TRY(model_new(&t->reference, &c->config));
        memcpy(t->reference->weights, c->reference, bytes);
    }
    if (c->orm) {
        TRY(model_new(&t->orm, &c->config));
        memcpy(t->orm->weights, c->orm, bytes);
    }
    if (t->value) {
        size_t value_bytes = t->value->head->count * sizeof(float);
        memcpy(t->value->head->weights, c->value, value_bytes);
        memcpy(t->value->adamw->m, c->value_m, value_bytes);
        memcpy(t->value->adamw->v, c->value_v, value_bytes);
        t->value->adamw->step = c->value_step;
    }
    memcpy(t->model->weights, c->weights, bytes);
    memcpy(t->adamw->m, c->m, bytes);
    memcpy(t->adamw->v, c->v, bytes);
    t->adamw->step = c->optimizer_step;
    t->rng = c->rng;
    t->version = c->version;
    t->update = c->update;
    t->bad_updates = c->bad_updates;
    t->phase = c->phase;
    t->orm_version = c->orm_version;
    return ERR_ok;
}

err_t trainee_resume(struct trainee **ret, const struct trainee_config *config, const struct checkpoint *checkpoint,
                     struct pool *pool)
{
    if (!model_config_equal(&config->model, &checkpoint->config))
        return err_set(ERR_conflict, "the checkpoint's model (%zu parameters, vocabulary %d) is not the job's (%zu, %d)",
                       checkpoint->count, checkpoint->config.vocab, model_parameters(&config->model), config->model.vocab);
    if (checkpoint->seed != config->seed)
        return err_set(ERR_conflict, "the checkpoint's seed %lu is not the job's %lu", (unsigned long)checkpoint->seed,
                       (unsigned long)config->seed);
    if (checkpoint->value_units != config->value.units)
        return err_set(ERR_conflict, "the checkpoint's value head has %zu units, the job's %zu", checkpoint->value_units,
                       config->value.units);
    struct trainee *t = NULL;
    TRY(make(&t, config, pool));
    BUG_IF(!t);
    err_t err = fill(t, checkpoint);
    if (err != ERR_ok)
        trainee_free(&t);
    else
        *ret = t;
    return err;
}

size_t trainee_bytes_of(const struct trainee_config *config, size_t workers, size_t others)
{
    /* weights and the optimizer's two moments, each with the copy that trainee_keep makes */
    size_t copies = 2 * 3 + others, D = (size_t)config->model.width;
    size_t value = config->value.units ? workers * config->max_tokens * (3 * D + config->value.units + 2) : 0;
    return copies * model_parameters(&config->model) * sizeof(float) + value * sizeof(float) +
           learner_bytes_of(&config->model, workers, config->max_tokens, kind_of(config));
}

void trainee_free(struct trainee **trainee)
{
    struct trainee *t = *trainee;
    *trainee = NULL;
    if (!t) return;
    model_free(&t->model);
    model_free(&t->reference);
    model_free(&t->kept_model);
    model_free(&t->orm);
    value_free(&t->value);
    adamw_free(&t->adamw);
    adamw_free(&t->kept_adamw);
    learner_free(&t->learner);
    arena_fini(&t->arena);
    free(t);
}

static err_t copy_to(struct model **to, const struct model *from)
{
    if (!*to) TRY(model_new(to, &from->config));
    memcpy((*to)->weights, from->weights, from->count * sizeof(float));
    return ERR_ok;
}

err_t trainee_set_reference(struct trainee *trainee)
{
    return copy_to(&trainee->reference, trainee->model);
}

err_t trainee_set_orm(struct trainee *trainee)
{
    return copy_to(&trainee->orm, trainee->model);
}

err_t trainee_checkpoint(const struct trainee *t, struct checkpoint *ret)
{
    struct digest digest;
    TRY(model_digest(t->model, &digest));
    struct checkpoint c = {.config = t->model->config,
                           .version = t->version,
                           .update = t->update,
                           .seed = t->seed,
                           .bad_updates = t->bad_updates,
                           .optimizer_step = t->adamw->step,
                           .rng = t->rng,
                           .digest = digest,
                           .count = t->model->count,
                           .weights = t->model->weights,
                           .m = t->adamw->m,
                           .v = t->adamw->v,
                           .reference = t->reference ? t->reference->weights : NULL,
                           .phase = t->phase,
                           .orm_version = t->orm_version,
                           .orm = t->orm ? t->orm->weights : NULL};
    if (t->value) {
        c.value_units = t->value->head->units;
        c.value_step = t->value->adamw->step;
        c.value = t->value->head->weights;
        c.value_m = t->value->adamw->m;
        c.value_v = t->value->adamw->v;
    }
    *ret = c;
    return ERR_ok;
}

static void copy_state(struct model *model, struct adamw *adamw, const struct model *from_model,
                       const struct adamw *from_adamw)
{
    size_t bytes = model->count * sizeof(float);
    memcpy(model->weights, from_model->weights, bytes);
    memcpy(adamw->m, from_adamw->m, bytes);
    memcpy(adamw->v, from_adamw->v, bytes);
    adamw->step = from_adamw->step;
}

void trainee_keep(struct trainee *t)
{
    copy_state(t->kept_model, t->kept_adamw, t->model, t->adamw);
    if (t->value) value_keep(t->value);
}

void trainee_restore(struct trainee *t)
{
    copy_state(t->model, t->adamw, t->kept_model, t->kept_adamw);
    if (t->value) value_restore(t->value);
}

bool trainee_finite(const struct model *model)
{
    uint32_t bad = 0; /* an exponent of all ones is an infinity or NaN; no early exit, so that the loop uses vectors */
    for (size_t i = 0; i < model->count; i++) {
        uint32_t bits;
        memcpy(&bits, &model->weights[i], sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return bad == 0;
}
