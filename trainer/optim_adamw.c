#include "trainer/optim_adamw.h"

#include "trainer/model/layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PIECE 16384 /* parameters */
#define LANES 8     /* partial sums in double, so that the loop can use vectors without reordering by the compiler */

static err_t check(const struct adamw_config *c, size_t count, const struct adamw_range *decayed, size_t decayed_count)
{
    if (!(c->beta1 >= 0 && c->beta1 < 1)) return err_set(ERR_invalid, "beta1: %g is not in [0, 1)", (double)c->beta1);
    if (!(c->beta2 >= 0 && c->beta2 < 1)) return err_set(ERR_invalid, "beta2: %g is not in [0, 1)", (double)c->beta2);
    if (!(c->eps > 0) || !isfinite(c->eps)) return err_set(ERR_invalid, "eps: %g is not above 0", (double)c->eps);
    if (!(c->weight_decay >= 0) || !isfinite(c->weight_decay))
        return err_set(ERR_invalid, "weight_decay: %g is below 0", (double)c->weight_decay);
    if (!(c->clip >= 0)) return err_set(ERR_invalid, "clip: %g is below 0", (double)c->clip);
    if (count == 0) return err_set(ERR_invalid, "an optimizer of no parameters");
    size_t end = 0;
    for (size_t i = 0; i < decayed_count; i++) {
        if (decayed[i].offset < end || decayed[i].count > count || decayed[i].offset > count - decayed[i].count)
            return err_set(ERR_invalid, "decayed range %zu is not ascending within %zu parameters", i, count);
        end = decayed[i].offset + decayed[i].count;
    }
    return ERR_ok;
}

static size_t pieces(size_t count)
{
    return (count + PIECE - 1) / PIECE;
}

err_t adamw_new(struct adamw **ret, const struct adamw_config *config, size_t count, const struct adamw_range *decayed,
                size_t decayed_count)
{
    TRY(check(config, count, decayed, decayed_count));
    struct adamw *a = calloc(1, sizeof *a);
    if (!a) return err_set(ERR_memory, "an optimizer");
    *a = (struct adamw){.config = *config, .count = count, .decayed_count = decayed_count};
    a->m = calloc(count, sizeof *a->m);
    a->v = calloc(count, sizeof *a->v);
    a->partial = calloc(pieces(count), sizeof *a->partial);
    a->decayed = calloc(decayed_count + 1, sizeof *a->decayed);
    if (!a->m || !a->v || !a->partial || !a->decayed) {
        adamw_free(&a);
        return err_set(ERR_memory, "an optimizer of %zu parameters", count);
    }
    if (decayed_count > 0) memcpy(a->decayed, decayed, decayed_count * sizeof *decayed);
    *ret = a;
    return ERR_ok;
}

err_t adamw_new_model(struct adamw **ret, const struct adamw_config *config, const struct model_config *model)
{
    size_t count = 0;
    struct tensor t;
    for (struct tensor_iter iter = {0}; tensor_next(model, &iter, &t);) count++;
    struct adamw_range *decayed = calloc(count, sizeof *decayed);
    if (!decayed) return err_set(ERR_memory, "an optimizer");
    count = 0;
    for (struct tensor_iter iter = {0}; tensor_next(model, &iter, &t);) {
        if (t.kind == TENSOR_KIND_norm || t.kind == TENSOR_KIND_bias) continue;
        decayed[count++] = (struct adamw_range){t.offset, t.rows * t.cols};
    }
    err_t err = adamw_new(ret, config, model_parameters(model), decayed, count);
    free(decayed);
    return err;
}

void adamw_free(struct adamw **adamw)
{
    struct adamw *a = *adamw;
    *adamw = NULL;
    if (!a) return;
    free(a->decayed);
    free(a->partial);
    free(a->v);
    free(a->m);
    free(a);
}

void adamw_reset(struct adamw *adamw)
{
    adamw->step = 0;
    memset(adamw->m, 0, adamw->count * sizeof *adamw->m);
    memset(adamw->v, 0, adamw->count * sizeof *adamw->v);
}

/* what the pieces of one step share */
struct step {
    struct adamw *a;
    float *weights;
    const float *gradient;
    float scale;    /* of the gradient, by the clip */
    float rate;     /* lr / (1 - b1^t) */
    float unbias_v; /* 1 / sqrt(1 - b2^t) */
    float decay;    /* lr weight_decay */
};

static size_t piece_end(const struct adamw *a, size_t index)
{
    return a->count - index * PIECE < PIECE ? a->count : (index + 1) * PIECE;
}

static void square_piece(void *ctx, size_t index, size_t worker)
{
    const struct step *s = ctx;
    (void)worker;
    double sum[LANES] = {0};
    size_t i = index * PIECE, end = piece_end(s->a, index);
    for (; i + LANES <= end; i += LANES) {
        for (size_t j = 0; j < LANES; j++) sum[j] += (double)s->gradient[i + j] * (double)s->gradient[i + j];
    }
    for (; i < end; i++) sum[0] += (double)s->gradient[i] * (double)s->gradient[i];
    for (size_t j = 1; j < LANES; j++) sum[0] += sum[j];
    s->a->partial[index] = sum[0];
}

/* decay is decoupled from the moments: it may go first, w (1 - lr wd) - ... */
static void decay_piece(const struct step *s, size_t from, size_t end)
{
    for (size_t r = 0; r < s->a->decayed_count; r++) {
        const struct adamw_range *range = &s->a->decayed[r];
        size_t low = range->offset > from ? range->offset : from;
        size_t high = range->offset + range->count < end ? range->offset + range->count : end;
        for (size_t i = low; i < high; i++) s->weights[i] -= s->decay * s->weights[i];
    }
}

static void step_piece(void *ctx, size_t index, size_t worker)
{
    const struct step *s = ctx;
    (void)worker;
    const struct adamw_config *c = &s->a->config;
    size_t from = index * PIECE, count = piece_end(s->a, index) - from;
    if (s->decay > 0) decay_piece(s, from, from + count);
    float *restrict w = s->weights + from, *restrict m = s->a->m + from, *restrict v = s->a->v + from;
    const float *restrict gradient = s->gradient + from;
    for (size_t i = 0; i < count; i++) {
        float g = gradient[i] * s->scale;
        m[i] = c->beta1 * m[i] + (1.0f - c->beta1) * g;
        v[i] = c->beta2 * v[i] + (1.0f - c->beta2) * g * g;
        w[i] -= s->rate * m[i] / (sqrtf(v[i]) * s->unbias_v + c->eps);
    }
}

static void run(struct pool *pool, size_t count, pool_work_t work, void *ctx)
{
    if (pool)
        pool_run(pool, count, false, work, ctx);
    else
        for (size_t i = 0; i < count; i++) work(ctx, i, 0);
}

err_t adamw_step(struct adamw *adamw, float lr, float *weights, const float *gradient, struct pool *pool, double *ret_norm)
{
    if (!isfinite(lr)) return err_set(ERR_numeric, "learning rate %g", (double)lr);
    struct step step = {.a = adamw, .weights = weights, .gradient = gradient, .scale = 1.0f};
    run(pool, pieces(adamw->count), square_piece, &step);
    double norm = 0;
    for (size_t i = 0; i < pieces(adamw->count); i++) norm += adamw->partial[i];
    norm = sqrt(norm);
    if (!isfinite(norm)) return err_set(ERR_numeric, "the gradient's norm is %g", norm);
    const struct adamw_config *c = &adamw->config;
    adamw->step++;
    double t = (double)adamw->step;
    if (c->clip > 0 && norm > (double)c->clip) step.scale = (float)((double)c->clip / norm);
    step.rate = (float)((double)lr / (1.0 - pow((double)c->beta1, t)));
    step.unbias_v = (float)(1.0 / sqrt(1.0 - pow((double)c->beta2, t)));
    step.decay = lr * c->weight_decay;
    run(pool, pieces(adamw->count), step_piece, &step);
    *ret_norm = norm;
    return ERR_ok;
}
