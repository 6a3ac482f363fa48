#include "trainer/imitation.h"

#include "trainer/pass.h"
#include "trainer/schedule.h"

struct imitation {
    struct trainee *trainee;
    struct model *model;
    struct adamw *adamw;
    const struct imitation_config *config;
    const struct episode *episodes;
    size_t count;
    const atomic_bool *cancel;
    struct rng rng;
    uint32_t *order; /* [count] the shuffle that is being used up */
    size_t next;
    struct imitation_result result;
};

static uint32_t draw(struct imitation *m)
{
    if (m->next == m->count) {
        for (size_t i = m->count; i > 1; i--) {
            size_t other = rng_below(&m->rng, (uint32_t)i);
            uint32_t kept = m->order[i - 1];
            m->order[i - 1] = m->order[other];
            m->order[other] = kept;
        }
        m->next = 0;
    }
    return m->order[m->next++];
}

static err_t step(struct imitation *m, struct lesson **chosen, struct arena *arena, double lr)
{
    struct trainee *t = m->trainee;
    size_t n = m->config->batch < m->count ? m->config->batch : m->count;
    struct loss_norm norm = {0};
    for (size_t i = 0; i < n; i++) {
        chosen[i] = arena_array(arena, struct lesson, 1);
        if (!chosen[i]) return ERR_memory;
        TRY(lesson_make(chosen[i], &m->episodes[draw(m)], arena));
        norm.tokens += chosen[i]->targets;
    }
    for (size_t i = 0; i < n; i++) lesson_weigh(chosen[i], LOSS_AGGREGATION_token_mean, &norm);
    const struct packing_options options = {.version = -1,
                                            .tokens_per_microbatch = m->config->tokens_per_microbatch,
                                            .workers = pool_threads(t->pool),
                                            .temperature = m->config->temperature,
                                            .with_hint = true};
    const struct loss_terms terms = {0};
    struct packing packing;
    const float *gradient = NULL;
    double length = 0, before = m->result.sums.loss;
    TRY(packing_make(chosen, n, &options, arena, &packing));
    TRY(pass_gradient(t, m->model, LOSS_imitation, &terms, &packing, m->cancel, &gradient, &m->result.sums, NULL));
    TRY(adamw_step(m->adamw, (float)lr, m->model->weights, gradient, t->pool, &length));
    if (!trainee_finite(m->model)) return err_set(ERR_numeric, "a weight is not finite after the step");
    m->result.last_loss = m->result.sums.loss - before;
    m->result.norm += length / (double)m->config->updates;
    m->result.tokens += (double)packing.tokens;
    return ERR_ok;
}

static err_t run_steps(struct imitation *m, struct arena *arena)
{
    size_t updates = m->config->updates, late = (updates + 9) / 10;
    const struct schedule schedule = {.kind = SCHEDULE_linear, .peak = m->config->lr, .total = updates};
    m->order = arena_array(&m->trainee->arena, uint32_t, m->count);
    struct lesson **chosen = arena_array(&m->trainee->arena, struct lesson *, m->config->batch);
    if (!m->order || !chosen) return ERR_memory;
    for (size_t i = 0; i < m->count; i++) m->order[i] = (uint32_t)i;
    m->next = m->count;
    for (size_t i = 0; i < updates; i++) {
        arena_clear(arena);
        TRY(step(m, chosen, arena, schedule_rate(&schedule, i)));
        if (i + late >= updates) m->result.late_loss += m->result.last_loss / (double)late;
    }
    return ERR_ok;
}

static err_t check(const struct imitation *m)
{
    if (m->count == 0) return err_set(ERR_invalid, "nothing to imitate: there are no episodes");
    if (m->config->updates == 0 || m->config->batch == 0 || m->config->tokens_per_microbatch == 0)
        return err_set(ERR_invalid, "imitation needs updates, batch and tokens_per_microbatch of at least 1");
    for (size_t i = 0; i < m->count; i++) {
        if (!m->episodes[i].signal)
            return err_set(ERR_malformed, "episode %lu: a demonstration without tokens", (unsigned long)m->episodes[i].id);
        TRY(episode_check(&m->episodes[i], m->model->config.vocab, m->trainee->max_tokens));
    }
    return ERR_ok;
}

err_t imitation_run(struct trainee *trainee, struct model *model, struct adamw *adamw, const struct imitation_config *config,
                    const struct episode *episodes, size_t count, const atomic_bool *cancel, struct imitation_result *ret)
{
    struct imitation m = {.trainee = trainee,
                          .model = model,
                          .adamw = adamw,
                          .config = config,
                          .episodes = episodes,
                          .count = count,
                          .cancel = cancel};
    TRY(check(&m));
    rng_init(&m.rng, trainee->seed, config->stream);
    AUTO(arena) arena = {0};
    arena_init(&arena, trainee->arena.max_bytes);
    adamw_reset(adamw);
    err_t err = run_steps(&m, &arena);
    arena_clear(&trainee->arena);
    *ret = m.result;
    return err;
}
