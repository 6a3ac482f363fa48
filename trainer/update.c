#include "trainer/update_impl.h"

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
        const struct episode *e = &b->episodes[i];
        TRY(episode_check(e, u->trainee->model->config.vocab, u->trainee->max_tokens));
        if (u->config->aggregation == LOSS_AGGREGATION_step_mean && e->action_tokens > 0 && e->action_turns == 0)
            return err_set(ERR_malformed, "episode %lu: step_mean needs its number of turns", (unsigned long)e->id);
        signals += e->signal ? 1 : 0;
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

/* The episode as it is trained on: a hint that is left in is no hint any more. */
static err_t as_trained(const struct update *u, const struct episode **episode)
{
    if ((*episode)->hint == 0 || u->config->hint != UPDATE_HINT_left) return ERR_ok;
    struct episode *whole = arena_array(&u->trainee->arena, struct episode, 1);
    if (!whole) return ERR_memory;
    *whole = **episode;
    whole->hint = 0;
    *episode = whole;
    return ERR_ok;
}

/* A lesson for each episode that has tokens and something to learn from. */
static err_t make_lessons(struct update *u)
{
    u->lessons = arena_array(&u->trainee->arena, struct lesson, u->batch->count);
    if (!u->lessons) return ERR_memory;
    for (size_t i = 0; i < u->batch->count; i++) {
        const struct episode *e = &u->batch->episodes[i];
        bool left_out = e->hint > 0 && u->config->hint_positive && !(e->advantage > 0), policy = e->signal && !left_out;
        bool silent = e->count == 0 || (e->action_tokens == 0 && !e->dropped); /* cut off before its first action */
        if (silent || (!policy && !u->trainee->value)) continue;
        TRY(as_trained(u, &e));
        TRY(lesson_make(&u->lessons[i], e, &u->trainee->arena));
        u->lessons[i].policy = policy;
        u->lessons[i].hinted =
            e->hint > 0 && e->sampled && u->config->hint == UPDATE_HINT_ratio && u->config->loss != LOSS_webrl;
    }
    return ERR_ok;
}

struct packing_options update_packing(const struct update *u)
{
    return (struct packing_options){.version = u->trainee->version,
                                    .moves = !update_is_one_step(u),
                                    .tokens_per_microbatch = u->config->tokens_per_microbatch,
                                    .workers = pool_threads(u->trainee->pool),
                                    .temperature = u->config->temperature};
}

/* the lessons of an optimizer step */
struct part {
    struct lesson **policy; /* all that go forward and backward */
    struct lesson **values; /* those that only the value head, detached, learns from */
    size_t policy_count, values_count;
    double states;
};

static err_t choose(const struct update *u, uint32_t from, uint32_t count, struct part *ret)
{
    const struct update_batch *b = u->batch;
    const struct value *value = u->trainee->value;
    struct part part = {.policy = arena_array(&u->trainee->arena, struct lesson *, count),
                        .values = arena_array(&u->trainee->arena, struct lesson *, count)};
    if (!part.policy || !part.values) return ERR_memory;
    struct loss_norm norm = {.sequences = count};
    for (uint32_t i = from; i < from + count; i++) {
        norm.tokens += b->episodes[u->order[i]].action_tokens;
        norm.turns += b->episodes[u->order[i]].action_turns;
    }
    /* a part's denominator is its share of the update's */
    norm.tokens = u->all_tokens > 0 ? b->norm_tokens * norm.tokens / u->all_tokens : b->norm_tokens;
    for (uint32_t i = from; i < from + count; i++) {
        struct lesson *l = &u->lessons[u->order[i]];
        if (!l->episode) continue;
        lesson_weigh(l, u->config->aggregation, &norm);
        for (uint32_t t = 0; value && t < l->episode->turns; t++) part.states += l->turn_size[t] > 0 ? 1 : 0;
        if (l->policy || value->config.coefficient > 0)
            part.policy[part.policy_count++] = l;
        else
            part.values[part.values_count++] = l;
    }
    *ret = part;
    return ERR_ok;
}

/* The policy's gradient and its optimizer's step; none where nothing is trained on. */
static err_t step_policy(struct update *u, const struct part *part, const struct packing_options *options, double lr)
{
    struct trainee *t = u->trainee;
    struct packing packing;
    const float *gradient = NULL;
    double norm = 0;
    if (part->policy_count == 0) return ERR_ok;
    TRY(packing_make(part->policy, part->policy_count, options, &t->arena, &packing));
    if (packing.count == 0) return ERR_ok;
    TRY(pass_gradient(t, t->model, u->config->loss, &u->config->terms, &packing, u->cancel, &gradient, &u->sums, &u->values));
    if (packing.live == 0) return ERR_ok;
    TRY(adamw_step(t->adamw, (float)lr, t->model->weights, gradient, t->pool, &norm));
    if (!trainee_finite(t->model)) return err_set(ERR_numeric, "a weight is not finite after the step");
    u->steps += 1;
    u->norm_sum += norm;
    u->tokens += (double)packing.tokens;
    return ERR_ok;
}

/* One optimizer step over some groups. */
static err_t step(struct update *u, uint32_t from, uint32_t count, double lr)
{
    struct trainee *t = u->trainee;
    struct packing_options options = update_packing(u);
    struct part part;
    TRY(choose(u, from, count, &part));
    if (part.states > 0) {
        options.state_weight = (float)(1 / part.states);
        value_zero(t->value);
    }
    if (part.values_count > 0) { /* first: the policy's weights are still those that everything else sees */
        struct packing packing;
        TRY(packing_make(part.values, part.values_count, &options, &t->arena, &packing));
        TRY(pass_values(t, &packing, u->cancel, &u->values));
    }
    TRY(step_policy(u, &part, &options, lr));
    return part.states > 0 ? value_step(t->value) : ERR_ok;
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
    size_t parts = u->config->minibatches, passes = u->config->epochs + u->batch->extra_passes;
    for (size_t pass = 0; pass < passes; pass++) {
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
    TRY(make_lessons(u));
    TRY(update_score(u));
    return run_steps(u, lr);
}

/* Everything of the update, or nothing: *ret_applied false when no step was made. */
static err_t try_apply(struct update *u, double lr, bool *ret_applied)
{
    struct trainee *t = u->trainee;
    struct rng rng = t->rng;
    trainee_keep(t);
    err_t err = apply(u, lr);
    arena_clear(&t->arena);
    *ret_applied = err == ERR_ok && u->steps > 0;
    if (*ret_applied) return ERR_ok;
    trainee_restore(t);
    t->rng = rng;
    return err;
}

err_t update_run(struct trainee *trainee, const struct update_config *config, const struct update_batch *batch,
                 const atomic_bool *cancel, enum update_outcome *ret_outcome, struct diagnostics *ret_figures)
{
    struct update u = {.trainee = trainee, .config = config, .batch = batch, .cancel = cancel};
    struct diagnostics figures;
    size_t signals = 0;
    bool applied = false;
    BUG_IF(batch->update < 1);
    diagnostics_clear(&figures);
    figures.lr = schedule_rate(&config->schedule, (uint64_t)batch->update - 1);
    if (!batch->discarded) {
        TRY(check(&u, &signals));
        if (signals > 0) TRY(try_apply(&u, figures.lr, &applied));
    }
    if (applied) {
        diagnostics_from_sums(&figures, &u.sums, u.steps);
        diagnostics_from_values(&figures, &u.values);
        figures.grad_norm = u.norm_sum / u.steps;
        figures.tokens_trained = u.tokens;
        figures.passes = (double)(config->epochs + batch->extra_passes);
        trainee->version = batch->update;
    }
    figures.norm_tokens = batch->norm_tokens;
    figures.episodes_trained = (double)signals;
    trainee->update = batch->update;
    *ret_outcome = applied ? UPDATE_OUTCOME_applied : UPDATE_OUTCOME_skipped;
    *ret_figures = figures;
    return ERR_ok;
}
