#include "trainer/update.h"

#include "trainer/pass.h"

/* a group's episodes: consecutive entries of `order` */
struct group_slice {
    uint32_t first;
    uint32_t count;
};

struct update {
    struct trainee *trainee;
    const struct update_config *config;
    const struct update_batch *batch;
    const atomic_bool *cancel;
    uint32_t *order; /* [episodes] indices, group after group */
    struct group_slice *groups;
    size_t group_count;
    float **prox;      /* [episodes] of its targets, or NULL where nothing is scored */
    float **reference; /* [episodes] likewise */
    double all_tokens; /* action tokens of all episodes */
    struct loss_sums sums;
    double steps, norm_sum, tokens;
};

const char *update_outcome_name(enum update_outcome outcome)
{
    switch (outcome) {
    case UPDATE_OUTCOME_applied:
        return "applied";
    case UPDATE_OUTCOME_skipped:
        return "skipped";
    }
    return "?";
}

static err_t check(const struct update *u, size_t *ret_signals)
{
    const struct update_batch *b = u->batch;
    TRY(loss_terms_check(&u->config->terms));
    if (u->config->minibatches == 0 || u->config->epochs == 0 || u->config->tokens_per_microbatch == 0)
        return err_set(ERR_invalid, "an update needs minibatches, epochs and tokens_per_microbatch of at least 1");
    size_t signals = 0;
    for (size_t i = 0; i < b->count; i++) {
        TRY(episode_check(&b->episodes[i], u->trainee->model->config.vocab, u->trainee->max_tokens));
        signals += b->episodes[i].signal ? 1 : 0;
    }
    if (signals > 0 && !(b->norm_tokens >= 1))
        return err_set(ERR_malformed, "norm_tokens: %g, though %zu episodes have targets", b->norm_tokens, signals);
    *ret_signals = signals;
    return ERR_ok;
}

/* Groups in the order of their first episode, whatever the order of the members. */
static err_t find_groups(struct update *u)
{
    size_t n = u->batch->count;
    const struct episode *e = u->batch->episodes;
    struct arena *arena = &u->trainee->arena;
    u->order = arena_array(arena, uint32_t, n);
    u->groups = arena_array(arena, struct group_slice, n);
    uint32_t *of = arena_array(arena, uint32_t, n); /* group of each episode */
    if (!u->order || !u->groups || !of) return ERR_memory;
    uint32_t *leader = arena_array(arena, uint32_t, n);
    if (!leader) return ERR_memory;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t g =
            u->group_count > 0 && e[leader[u->group_count - 1]].group == e[i].group ? (uint32_t)u->group_count - 1 : 0;
        while (g < u->group_count && e[leader[g]].group != e[i].group) g++;
        if (g == u->group_count) leader[u->group_count++] = i;
        of[i] = g;
        u->groups[g].count++;
        u->all_tokens += e[i].action_tokens;
    }
    for (size_t g = 1; g < u->group_count; g++) u->groups[g].first = u->groups[g - 1].first + u->groups[g - 1].count;
    for (size_t g = 0; g < u->group_count; g++) u->groups[g].count = 0;
    for (uint32_t i = 0; i < n; i++) u->order[u->groups[of[i]].first + u->groups[of[i]].count++] = i;
    return ERR_ok;
}

/* What the loss needs of the episodes order[from .. from + count): those with signal. */
static err_t choose(const struct update *u, uint32_t from, uint32_t count, struct packing_episode **ret, size_t *ret_count)
{
    double tokens = 0;
    size_t n = 0;
    struct packing_episode *chosen = arena_array(&u->trainee->arena, struct packing_episode, count);
    if (!chosen) return ERR_memory;
    for (uint32_t i = from; i < from + count; i++) tokens += u->batch->episodes[u->order[i]].action_tokens;
    /* a part's denominator is its share of the update's */
    double norm = u->all_tokens > 0 ? u->batch->norm_tokens * tokens / u->all_tokens : u->batch->norm_tokens;
    for (uint32_t i = from; i < from + count; i++) {
        uint32_t at = u->order[i];
        const struct episode *e = &u->batch->episodes[at];
        if (!e->signal) continue;
        chosen[n++] = (struct packing_episode){e, loss_weight(u->config->aggregation, norm, count, e->action_tokens),
                                               u->prox ? u->prox[at] : NULL, u->reference ? u->reference[at] : NULL};
    }
    *ret = chosen;
    *ret_count = n;
    return ERR_ok;
}

static struct packing_options packing_options(const struct update *u)
{
    /* against theta that moves from step to step, behave is not compared */
    bool compared = u->prox || (u->config->minibatches == 1 && u->config->epochs == 1);
    return (struct packing_options){.version = compared ? u->trainee->version : -1,
                                    .tokens_per_microbatch = u->config->tokens_per_microbatch,
                                    .workers = pool_threads(u->trainee->pool),
                                    .temperature = u->config->temperature};
}

/* The log-probs of all targets under one model, episode by episode. */
static err_t score(struct update *u, const struct model *model, float ***ret)
{
    size_t n = u->batch->count, chosen_count = 0;
    struct arena *arena = &u->trainee->arena;
    float **by_episode = arena_array(arena, float *, n);
    uint32_t *at = arena_array(arena, uint32_t, n); /* batch index of each chosen episode */
    struct packing_episode *chosen = NULL;
    if (!by_episode || !at) return ERR_memory;
    TRY(choose(u, 0, (uint32_t)n, &chosen, &chosen_count));
    for (size_t i = 0, c = 0; i < n; i++) {
        if (u->batch->episodes[u->order[i]].signal) at[c++] = u->order[i];
    }
    const struct packing_options options = packing_options(u);
    struct packing packing;
    TRY(packing_make(chosen, chosen_count, &options, arena, &packing));
    TRY(pass_score(u->trainee, model, &packing, u->cancel));
    for (size_t b = 0; b < packing.count; b++) {
        float *theta = packing.microbatches[b].theta;
        for (size_t s = 0; s < packing.microbatches[b].batch.sequences; s++) {
            uint32_t index = packing.microbatches[b].index[s];
            by_episode[at[index]] = theta;
            theta += chosen[index].episode->action_tokens;
        }
    }
    *ret = by_episode;
    return ERR_ok;
}

/* prox and reference, where one forward does not give them */
static err_t score_all(struct update *u)
{
    float **prox = NULL, **reference = NULL;
    bool one_step = u->config->minibatches == 1 && u->config->epochs == 1;
    if (!one_step && !u->config->terms.behave_ratio) TRY(score(u, u->trainee->model, &prox));
    if (u->config->terms.kl > 0) {
        if (!u->trainee->reference)
            return err_set(ERR_invalid, "kl: %g, but there is no reference policy", u->config->terms.kl);
        TRY(score(u, u->trainee->reference, &reference));
    }
    u->prox = prox;
    u->reference = reference;
    return ERR_ok;
}

/* One optimizer step over some groups. */
static err_t step(struct update *u, uint32_t from, uint32_t count, double lr)
{
    struct trainee *t = u->trainee;
    struct packing_episode *chosen = NULL;
    size_t chosen_count = 0;
    TRY(choose(u, from, count, &chosen, &chosen_count));
    if (chosen_count == 0) return ERR_ok;
    const struct packing_options options = packing_options(u);
    struct packing packing;
    TRY(packing_make(chosen, chosen_count, &options, &t->arena, &packing));
    const float *gradient = NULL;
    double norm = 0;
    TRY(pass_gradient(t, u->config->loss, &u->config->terms, &packing, u->cancel, &gradient, &u->sums));
    TRY(adamw_step(t->adamw, (float)lr, t->model->weights, gradient, t->pool, &norm));
    if (!trainee_finite(t)) return err_set(ERR_numeric, "a weight is not finite after the step");
    u->steps += 1;
    u->norm_sum += norm;
    u->tokens += (double)packing.tokens;
    return ERR_ok;
}

/* Fisher-Yates over the groups, then their episodes laid out again in that order. */
static err_t shuffle_groups(struct update *u)
{
    struct arena *arena = &u->trainee->arena;
    uint32_t *order = arena_array(arena, uint32_t, u->batch->count);
    if (!order) return ERR_memory;
    for (size_t g = u->group_count; g > 1; g--) {
        size_t other = rng_below(&u->trainee->rng, (uint32_t)g);
        struct group_slice kept = u->groups[g - 1];
        u->groups[g - 1] = u->groups[other];
        u->groups[other] = kept;
    }
    uint32_t at = 0;
    for (size_t g = 0; g < u->group_count; g++) {
        memcpy(order + at, u->order + u->groups[g].first, u->groups[g].count * sizeof *order);
        u->groups[g].first = at;
        at += u->groups[g].count;
    }
    u->order = order;
    return ERR_ok;
}

static err_t run_steps(struct update *u, double lr)
{
    size_t parts = u->config->minibatches;
    for (size_t epoch = 0; epoch < u->config->epochs; epoch++) {
        if (parts > 1) TRY(shuffle_groups(u));
        for (size_t part = 0; part < parts; part++) {
            size_t first = u->group_count * part / parts, end = u->group_count * (part + 1) / parts;
            uint32_t count = 0;
            for (size_t g = first; g < end; g++) count += u->groups[g].count;
            if (count > 0) TRY(step(u, u->groups[first].first, count, lr));
        }
    }
    return ERR_ok;
}

static err_t apply(struct update *u, double lr)
{
    TRY(find_groups(u));
    TRY(score_all(u));
    return run_steps(u, lr);
}

err_t update_run(struct trainee *trainee, const struct update_config *config, const struct update_batch *batch,
                 const atomic_bool *cancel, enum update_outcome *ret_outcome, struct diagnostics *ret_figures)
{
    struct update u = {.trainee = trainee, .config = config, .batch = batch, .cancel = cancel};
    size_t signals = 0;
    BUG_IF(batch->update < 1);
    TRY(check(&u, &signals));
    double lr = schedule_rate(&config->schedule, (uint64_t)batch->update - 1);
    struct diagnostics figures = {.lr = lr, .norm_tokens = batch->norm_tokens, .episodes_trained = (double)signals};
    if (signals > 0) {
        struct rng rng = trainee->rng;
        trainee_keep(trainee);
        err_t err = apply(&u, lr);
        arena_clear(&trainee->arena);
        if (err != ERR_ok) {
            trainee_restore(trainee);
            trainee->rng = rng;
            return err;
        }
        diagnostics_from_sums(&figures, &u.sums, u.steps);
        figures.grad_norm = u.norm_sum / u.steps;
        figures.tokens_trained = u.tokens;
        trainee->version = batch->update;
    }
    trainee->update = batch->update;
    *ret_outcome = signals > 0 ? UPDATE_OUTCOME_applied : UPDATE_OUTCOME_skipped;
    *ret_figures = figures;
    return ERR_ok;
}
