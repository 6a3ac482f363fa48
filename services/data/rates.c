#include "services/data/rates.h"

#include "services/common/base/rng.h"
#include "services/common/store/store_record.h"
#include "services/data/data.h"

#include <math.h>
#include <stdlib.h>

static bool is_band(const struct plan *plan)
{
    return plan->spec.curriculum.kind == JOB_CURRICULUM_SUCCESS_BAND;
}

static bool is_adcl(const struct plan *plan)
{
    return plan->spec.curriculum.kind == JOB_CURRICULUM_ADCL;
}

void rates_free(struct rates *rates)
{
    for (size_t e = 0; e < JOB_ENVIRONMENTS; e++) {
        free(rates->order[e]);
        free(rates->place[e]);
        free(rates->taken[e]);
    }
    *rates = (struct rates){.inversions = (double)NAN};
}

/* ---- the first order ---- */

struct placed {
    int64_t level;
    uint64_t shuffled, task;
};

static int by_level(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    if (x->level != y->level) return x->level < y->level ? -1 : 1;
    return (x->shuffled > y->shuffled) - (x->shuffled < y->shuffled);
}

static err_t order_tasks(struct data *data, size_t e)
{
    struct plan *plan = data->plan;
    size_t n = plan->train_count[e];
    struct placed *placed = arena_array(&data->arena, struct placed, n + 1);
    plan->rates.order[e] = calloc(n + 1, sizeof *plan->rates.order[e]);
    plan->rates.place[e] = calloc(n + 1, sizeof *plan->rates.place[e]);
    plan->rates.taken[e] = calloc(n + 1, sizeof *plan->rates.taken[e]);
    if (!placed || !plan->rates.order[e] || !plan->rates.place[e] || !plan->rates.taken[e])
        return err_set(ERR_memory, "the order of %zu tasks", n);
    for (size_t i = 0; i < n; i++)
        placed[i] = (struct placed){plan->tasks[plan->train[e][i]].level,
                                    curriculum_permute(rng_mix((uint64_t)plan->spec.seed, e), n, i), i};
    qsort(placed, n, sizeof *placed, by_level);
    for (size_t i = 0; i < n; i++) {
        plan->rates.order[e][i] = placed[i].task;
        plan->rates.place[e][placed[i].task] = i;
    }
    return ERR_ok;
}

/* What the batch under way has had: the newest draws since it began. */
static err_t load_taken(struct data *data, size_t e)
{
    struct plan *plan = data->plan;
    struct curriculum_batch batch = curriculum_batch(&plan->draws[e], (uint64_t)plan->spec.curriculum.batch);
    int64_t count = (int64_t)(plan->draws[e].drawn % plan->draws[e].tasks - batch.from), *tasks = NULL;
    size_t n = 0;
    if (count == 0) return ERR_ok;
    TRY(store_record_drawn_newest(data->store, plan->job, (int64_t)e, count, &data->arena, &tasks, &n));
    for (uint64_t k = batch.from; k < batch.to; k++) {
        int64_t id = plan->tasks[plan->train[e][plan->rates.order[e][k]]].id;
        for (size_t i = 0; i < n; i++) plan->rates.taken[e][k] |= tasks[i] == id;
    }
    return ERR_ok;
}

err_t rates_load(struct data *data)
{
    struct plan *plan = data->plan;
    rates_free(&plan->rates);
    for (size_t e = 0; is_adcl(plan) && e < plan->spec.environment_count; e++) {
        TRY(order_tasks(data, e));
        if (plan->draws[e].tasks > 0) TRY(load_taken(data, e));
    }
    return ERR_ok;
}

/* ---- drawing ---- */

static bool may_draw(void *ctx, size_t environment, uint64_t task)
{
    const struct rates_draw *draw = ctx;
    return grant_may_draw(draw->plan, environment, task);
}

static double success(void *ctx, size_t environment, uint64_t task)
{
    const struct rates_draw *draw = ctx;
    const struct plan *plan = draw->plan;
    size_t known = 0;
    double rate =
        record_success(&plan->tasks[plan->train[environment][task]].record, (size_t)plan->spec.curriculum.window, &known);
    return known ? rate : (double)NAN;
}

static bool is_taken(void *ctx, size_t environment, uint64_t task)
{
    const struct rates_draw *draw = ctx;
    const struct plan *plan = draw->plan;
    if (is_adcl(plan)) return plan->rates.taken[environment][plan->rates.place[environment][task]];
    for (const struct group *g = plan->groups; g; g = g->next) {
        if (plan_is_for_update(g->source) && g->update_for == draw->update && g->task == plan->train[environment][task])
            return true;
    }
    return false;
}

void rates_curriculum(struct plan *plan, int64_t update, struct rates_draw *ret, struct curriculum *curriculum)
{
    const struct job_curriculum *spec = &plan->spec.curriculum;
    if (!is_band(plan) && !is_adcl(plan)) return;
    *ret = (struct rates_draw){.plan = plan,
                               .update = update,
                               .rates = {.success = success,
                                         .taken = is_taken,
                                         .low = spec->low,
                                         .high = spec->high,
                                         .outside = spec->outside,
                                         .batch = (uint64_t)spec->batch}};
    for (size_t e = 0; e < plan->spec.environment_count; e++) ret->rates.order[e] = plan->rates.order[e];
    curriculum->rates = &ret->rates;
    curriculum->may_draw = may_draw;
    curriculum->ctx = ret;
}

/* A batch begins: how far the success of now is from the first order. */
static err_t begin_batch(struct data *data, int64_t update, size_t e, struct curriculum_batch batch)
{
    struct plan *plan = data->plan;
    struct rates_draw draw = {.plan = plan, .update = update};
    double *rates = arena_array(&data->arena, double, batch.to - batch.from + 1), known = 0;
    if (!rates) return ERR_memory;
    for (uint64_t k = batch.from; k < batch.to; k++) {
        rates[k - batch.from] = success(&draw, e, plan->rates.order[e][k]);
        known += !isnan(rates[k - batch.from]);
    }
    plan->rates.inversions = curriculum_inversions(rates, batch.to - batch.from);
    const struct method_number inputs[] = {{"environment", (double)e},
                                           {"pass", (double)(plan->draws[e].drawn / plan->draws[e].tasks)},
                                           {"from", (double)batch.from},
                                           {"tasks", (double)(batch.to - batch.from)},
                                           {"known", known},
                                           {"inversion_rate", plan->rates.inversions}};
    return finish_decide(data, "update", update, "adcl", "sorted",
                         method_json(&data->arena, inputs, sizeof inputs / sizeof *inputs));
}

err_t rates_drawn(struct data *data, int64_t update, const struct curriculum_draw *draw)
{
    struct plan *plan = data->plan;
    size_t e = draw->environment;
    if (!is_adcl(plan)) return ERR_ok;
    uint64_t size = (uint64_t)plan->spec.curriculum.batch, place = plan->rates.place[e][draw->task];
    struct curriculum_batch batch = curriculum_batch(&plan->draws[e], size);
    if (batch.begins) TRY(begin_batch(data, update, e, batch));
    plan->rates.taken[e][place] = place >= batch.from && place < batch.to;
    struct curriculum_environment after = plan->draws[e];
    after.drawn++;
    if (curriculum_batch(&after, size).begins) memset(plan->rates.taken[e], 0, plan->draws[e].tasks);
    return ERR_ok;
}
