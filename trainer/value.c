#include "trainer/value.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define V_LEAST 1e-7 /* in the logarithms of the loss */

static err_t work_init(struct value_work *w, const struct value *value, size_t max_tokens)
{
    size_t D = value->head->width, U = value->head->units;
    w->hidden = calloc(max_tokens * D, sizeof *w->hidden);
    w->rows = calloc(max_tokens * D, sizeof *w->rows);
    w->active = calloc(max_tokens * U, sizeof *w->active);
    w->numbers = calloc(2 * max_tokens, sizeof *w->numbers);
    w->gradient = calloc(value->head->count, sizeof *w->gradient);
    if (value->config.coefficient > 0) w->dhidden = calloc(max_tokens * D, sizeof *w->dhidden);
    bool good = w->hidden && w->rows && w->active && w->numbers && w->gradient;
    if (good && (w->dhidden || value->config.coefficient <= 0)) return ERR_ok;
    return err_set(ERR_memory, "a value head for %zu tokens", max_tokens);
}

static err_t build(struct value *v, const struct adamw_config *adamw, size_t width, size_t max_tokens)
{
    struct adamw_config own = *adamw;
    own.weight_decay = 0;
    TRY(value_head_new(&v->head, width, v->config.units));
    TRY(value_head_new(&v->kept_head, width, v->config.units));
    TRY(adamw_new(&v->adamw, &own, v->head->count, NULL, 0));
    TRY(adamw_new(&v->kept_adamw, &own, v->head->count, NULL, 0));
    v->work = calloc(v->workers, sizeof *v->work);
    if (!v->work) return err_set(ERR_memory, "a value head");
    for (size_t i = 0; i < v->workers; i++) TRY(work_init(&v->work[i], v, max_tokens));
    return ERR_ok;
}

err_t value_new(struct value **ret, const struct value_config *config, const struct adamw_config *adamw, size_t width,
                size_t workers, size_t max_tokens, uint64_t seed)
{
    struct value *v = calloc(1, sizeof *v);
    if (!v) return err_set(ERR_memory, "a value head");
    v->config = *config;
    v->workers = workers;
    err_t err = build(v, adamw, width, max_tokens);
    if (err != ERR_ok) {
        value_free(&v);
        return err;
    }
    value_head_init(v->head, seed);
    *ret = v;
    return ERR_ok;
}

void value_free(struct value **value)
{
    struct value *v = *value;
    *value = NULL;
    if (!v) return;
    for (size_t i = 0; v->work && i < v->workers; i++) {
        struct value_work *w = &v->work[i];
        free(w->hidden);
        free(w->dhidden);
        free(w->rows);
        free(w->active);
        free(w->numbers);
        free(w->gradient);
    }
    free(v->work);
    value_head_free(&v->head);
    value_head_free(&v->kept_head);
    adamw_free(&v->adamw);
    adamw_free(&v->kept_adamw);
    free(v);
}

static void copy_state(struct value_head *head, struct adamw *adamw, const struct value_head *from,
                       const struct adamw *from_adamw)
{
    size_t bytes = head->count * sizeof *head->weights;
    memcpy(head->weights, from->weights, bytes);
    memcpy(adamw->m, from_adamw->m, bytes);
    memcpy(adamw->v, from_adamw->v, bytes);
    adamw->step = from_adamw->step;
}

void value_keep(struct value *v)
{
    copy_state(v->kept_head, v->kept_adamw, v->head, v->adamw);
}

void value_restore(struct value *v)
{
    copy_state(v->head, v->adamw, v->kept_head, v->kept_adamw);
}

static void add_figures(struct value_sums *sums, const struct value_state *states, size_t count, const float *active,
                        size_t units)
{
    for (size_t i = 0; i < count; i++) {
        double y = (double)states[i].outcome, V = (double)states[i].value, error = y - V;
        /* written so that what is not finite stays so */
        sums->loss -= y * log(V < V_LEAST ? V_LEAST : V) + (1 - y) * log(1 - V < V_LEAST ? V_LEAST : 1 - V);
        sums->outcome += y;
        sums->outcome_square += y * y;
        sums->error += error;
        sums->error_square += error * error;
    }
    size_t positive = 0;
    for (size_t i = 0; i < count * units; i++) positive += active[i] > 0 ? 1 : 0;
    sums->states += (double)count;
    sums->active += (double)positive;
    sums->units += (double)(count * units);
}

void value_forward(struct value *v, size_t worker, struct value_state *states, size_t count, struct value_sums *sums)
{
    struct value_work *w = &v->work[worker];
    size_t D = v->head->width;
    for (size_t i = 0; i < count; i++) memcpy(w->rows + i * D, w->hidden + states[i].target * D, D * sizeof *w->rows);
    value_head_forward(v->head, w->rows, count, w->active, w->numbers);
    for (size_t i = 0; i < count; i++) states[i].value = w->numbers[i];
    if (sums) add_figures(sums, states, count, w->active, v->head->units);
}

const float *value_backward(struct value *v, size_t worker, const struct value_state *states, size_t count, size_t targets)
{
    struct value_work *w = &v->work[worker];
    size_t D = v->head->width;
    float *dz = w->numbers + count, coefficient = (float)v->config.coefficient;
    for (size_t i = 0; i < count; i++) dz[i] = states[i].weight * (states[i].value - states[i].outcome);
    value_head_backward(v->head, w->rows, w->active, count, dz, w->gradient, w->dhidden ? w->rows : NULL);
    if (!w->dhidden) return NULL;
    memset(w->dhidden, 0, targets * D * sizeof *w->dhidden);
    for (size_t i = 0; i < count; i++) {
        float *to = w->dhidden + states[i].target * D;
        for (size_t d = 0; d < D; d++) to[d] = coefficient * w->rows[i * D + d];
    }
    return w->dhidden;
}

void value_zero(struct value *v)
{
    for (size_t i = 0; i < v->workers; i++) memset(v->work[i].gradient, 0, v->head->count * sizeof *v->work[i].gradient);
}

err_t value_step(struct value *v)
{
    float *gradient = v->work[0].gradient;
    double norm = 0;
    for (size_t i = 1; i < v->workers; i++) {
        for (size_t k = 0; k < v->head->count; k++) gradient[k] += v->work[i].gradient[k];
    }
    TRY(adamw_step(v->adamw, (float)v->config.lr, v->head->weights, gradient, NULL, &norm));
    for (size_t k = 0; k < v->head->count; k++) {
        if (!isfinite(v->head->weights[k])) return err_set(ERR_numeric, "a weight of the value head is not finite");
    }
    return ERR_ok;
}

void value_sums_add(struct value_sums *sums, const struct value_sums *more)
{
    sums->states += more->states;
    sums->loss += more->loss;
    sums->active += more->active;
    sums->units += more->units;
    sums->outcome += more->outcome;
    sums->outcome_square += more->outcome_square;
    sums->error += more->error;
    sums->error_square += more->error_square;
}

double value_explained_variance(const struct value_sums *s)
{
    double n = s->states;
    double outcome = n > 0 ? s->outcome_square / n - (s->outcome / n) * (s->outcome / n) : 0;
    if (!(outcome > 1e-12)) return (double)NAN;
    return 1 - (s->error_square / n - (s->error / n) * (s->error / n)) / outcome;
}
