#include "trainer/warmstart.h"

#include "trainer/pass.h"
#include "trainer/schedule.h"

#define RNG_STREAM 8 /* apart from the model's initialisation and the updates */

struct warmstart {
    struct trainee *trainee;
    const struct warmstart_config *config;
    const struct episode *episodes;
    size_t count;
    const atomic_bool *cancel;
    struct rng rng;
    uint32_t *order; /* [count] the shuffle that is being used up */
    size_t next;
    struct loss_sums sums;
    double last_loss, norm_sum, tokens;
};

static uint32_t draw(struct warmstart *w)
{
    if (w->next == w->count) {
        for (size_t i = w->count; i > 1; i--) {
            size_t other = rng_below(&w->rng, (uint32_t)i);
            uint32_t kept = w->order[i - 1];
            w->order[i - 1] = w->order[other];
            w->order[other] = kept;
        }
        w->next = 0;
    }
    return w->order[w->next++];
}

static err_t step(struct warmstart *w, struct lesson **chosen, struct arena *arena, double lr)
{
    struct trainee *t = w->trainee;
    size_t n = w->config->batch < w->count ? w->config->batch : w->count;
    struct loss_norm norm = {0};
    for (size_t i = 0; i < n; i++) {
        chosen[i] = arena_array(arena, struct lesson, 1);
        if (!chosen[i]) return ERR_memory;
        TRY(lesson_make(chosen[i], &w->episodes[draw(w)], arena));
        norm.tokens += chosen[i]->targets;
    }
    for (size_t i = 0; i < n; i++) lesson_weigh(chosen[i], LOSS_AGGREGATION_token_mean, &norm);
    const struct packing_options options = {.version = -1,
                                            .tokens_per_microbatch = w->config->tokens_per_microbatch,
                                            .workers = pool_threads(t->pool),
                                            .temperature = w->config->temperature,
                                            .with_hint = true};
    const struct loss_terms terms = {0};
    struct packing packing;
    const float *gradient = NULL;
    double length = 0, before = w->sums.loss;
    TRY(packing_make(chosen, n, &options, arena, &packing));
    TRY(pass_gradient(t, t->model, LOSS_imitation, &terms, &packing, w->cancel, &gradient, &w->sums, NULL));
    TRY(adamw_step(t->adamw, (float)lr, t->model->weights, gradient, t->pool, &length));
    if (!trainee_finite(t)) return err_set(ERR_numeric, "a weight is not finite after the step");
    w->last_loss = w->sums.loss - before;
    w->norm_sum += length;
    w->tokens += (double)packing.tokens;
    return ERR_ok;
}

static err_t run_steps(struct warmstart *w, struct arena *arena)
{
    const struct schedule schedule = {.kind = SCHEDULE_linear, .peak = w->config->lr, .total = w->config->updates};
    w->order = arena_array(&w->trainee->arena, uint32_t, w->count);
    struct lesson **chosen = arena_array(&w->trainee->arena, struct lesson *, w->config->batch);
    if (!w->order || !chosen) return ERR_memory;
    for (size_t i = 0; i < w->count; i++) w->order[i] = (uint32_t)i;
    w->next = w->count;
    for (size_t i = 0; i < w->config->updates; i++) {
        arena_clear(arena);
        TRY(step(w, chosen, arena, schedule_rate(&schedule, i)));
    }
    return ERR_ok;
}

static err_t check(const struct warmstart *w)
{
    if (w->count == 0) return err_set(ERR_invalid, "a warm start without demonstrations");
    if (w->config->updates == 0 || w->config->batch == 0 || w->config->tokens_per_microbatch == 0)
        return err_set(ERR_invalid, "a warm start needs updates, batch and tokens_per_microbatch of at least 1");
    for (size_t i = 0; i < w->count; i++) {
        if (!w->episodes[i].signal)
            return err_set(ERR_malformed, "episode %lu: a demonstration without tokens", (unsigned long)w->episodes[i].id);
        TRY(episode_check(&w->episodes[i], w->trainee->model->config.vocab, w->trainee->max_tokens));
    }
    return ERR_ok;
}

err_t warmstart_run(struct trainee *trainee, const struct warmstart_config *config, const struct episode *episodes,
                    size_t count, const atomic_bool *cancel, struct diagnostics *ret_figures)
{
    struct warmstart w = {.trainee = trainee, .config = config, .episodes = episodes, .count = count, .cancel = cancel};
    TRY(check(&w));
    rng_init(&w.rng, trainee->seed, RNG_STREAM);
    AUTO(arena) arena = {0};
    arena_init(&arena, trainee->arena.max_bytes);
    trainee_keep(trainee);
    adamw_reset(trainee->adamw);
    err_t err = run_steps(&w, &arena);
    arena_clear(&trainee->arena);
    if (err != ERR_ok) {
        trainee_restore(trainee);
        return err;
    }
    adamw_reset(trainee->adamw);
    struct diagnostics figures;
    diagnostics_clear(&figures);
    figures.lr = config->lr;
    figures.episodes_trained = (double)count;
    diagnostics_from_sums(&figures, &w.sums, (double)config->updates);
    figures.loss = w.last_loss;
    figures.grad_norm = w.norm_sum / (double)config->updates;
    figures.tokens_trained = w.tokens;
    *ret_figures = figures;
    return ERR_ok;
}
