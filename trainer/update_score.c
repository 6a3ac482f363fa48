/* Before an update's first step: what the learner and the reference say of its targets, and what the value head makes of it.
 */
#include "trainer/returns.h"
#include "trainer/update_impl.h"

/* one pass over some of the lessons */
struct scoring {
    const struct model *model;
    bool with_hint;
    bool prox, reference, values; /* what is kept */
};

static bool wants_prox(const struct update *u, const struct lesson *l)
{
    if (!l->policy || u->config->loss == LOSS_webrl) return false;
    if (l->hinted) return true;
    return !update_is_one_step(u) && !(u->config->terms.behave_ratio && lesson_recorded(l));
}

static bool is_wanted(const struct update *u, const struct scoring *s, const struct lesson *l)
{
    if (!l->episode) return false;
    return s->values || (s->prox && wants_prox(u, l) && l->hinted == s->with_hint) || (s->reference && l->policy);
}

static err_t take_arrays(const struct update *u, const struct scoring *s, struct lesson *l)
{
    struct arena *arena = &u->trainee->arena;
    if (s->values) l->value = arena_array(arena, float, l->episode->turns);
    if (s->reference) l->reference = arena_array(arena, float, l->targets + 1);
    bool prox = s->prox && wants_prox(u, l) && l->hinted == s->with_hint;
    if (prox) l->prox = arena_array(arena, float, l->targets + 1);
    bool good = (!s->values || l->value) && (!s->reference || l->reference) && (!prox || l->prox);
    return good ? ERR_ok : ERR_memory;
}

static void keep(const struct scoring *s, const struct microbatch *m)
{
    for (size_t i = 0; i < m->batch.sequences; i++) {
        struct lesson *l = m->lesson[i];
        bool prox = s->prox && l->prox && l->hinted == s->with_hint;
        for (size_t t = m->first[i]; t < m->first[i + 1]; t++) {
            if (prox) l->prox[m->place[t]] = m->theta[t];
            if (s->reference) l->reference[m->place[t]] = m->theta[t];
        }
    }
    for (size_t i = 0, sequence = 0; s->values && i < m->states; i++) {
        while (m->state[i].target >= m->first[sequence + 1]) sequence++;
        m->lesson[sequence]->value[m->state[i].turn] = m->state[i].value;
    }
}

static err_t score(struct update *u, const struct scoring *s)
{
    struct arena *arena = &u->trainee->arena;
    struct lesson **wanted = arena_array(arena, struct lesson *, u->batch->count + 1);
    size_t n = 0;
    if (!wanted) return ERR_memory;
    for (size_t i = 0; i < u->batch->count; i++) {
        struct lesson *l = &u->lessons[u->order[i]];
        if (is_wanted(u, s, l)) wanted[n++] = l;
    }
    if (n == 0) return ERR_ok;
    struct packing_options options = update_packing(u);
    options.with_hint = s->with_hint;
    options.state_weight = s->values ? 1 : 0;
    struct packing packing;
    TRY(packing_make(wanted, n, &options, arena, &packing));
    TRY(pass_score(u->trainee, s->model, &packing, u->cancel));
    for (size_t i = 0; i < n; i++) TRY(take_arrays(u, s, wanted[i]));
    for (size_t b = 0; b < packing.count; b++) keep(s, &packing.microbatches[b]);
    return ERR_ok;
}

static double in_unit(double reward)
{
    return reward < 0 ? 0 : reward > 1 ? 1 : reward;
}

/* The value head learns the outcome unless the loss says otherwise. */
static err_t set_outcomes(struct update *u)
{
    for (size_t i = 0; u->trainee->value && i < u->batch->count; i++) {
        struct lesson *l = &u->lessons[i];
        if (!l->episode) continue;
        l->outcome = arena_array(&u->trainee->arena, float, l->episode->turns);
        if (!l->outcome) return ERR_memory;
        for (uint32_t t = 0; t < l->episode->turns; t++) l->outcome[t] = (float)in_unit(l->episode->reward);
    }
    return ERR_ok;
}

/* Advantages of the turns that have targets, from their values. */
static void advantages_from_values(const struct update *u, struct lesson *l, float *value, float *advantage, float *target)
{
    const struct update_config *c = u->config;
    double reward = in_unit(l->episode->reward);
    size_t n = 0;
    for (uint32_t t = 0; t < l->episode->turns; t++) {
        if (l->turn_size[t] > 0) value[n++] = l->value[t];
    }
    if (c->loss == LOSS_ppo)
        returns_gae(value, n, reward, c->discount, c->lambda, advantage, target);
    else if (c->terms.regression.released)
        returns_webrl_released(value, n, reward, advantage);
    else
        returns_webrl(value, n, reward, c->mix, advantage);
    n = 0;
    for (uint32_t t = 0; t < l->episode->turns; t++) {
        if (l->turn_size[t] == 0) continue;
        l->advantage[t] = advantage[n];
        if (c->loss == LOSS_ppo) l->outcome[t] = target[n];
        n++;
    }
}

static err_t value_advantages(struct update *u)
{
    uint32_t most = 1;
    for (size_t i = 0; i < u->batch->count; i++) {
        if (u->lessons[i].episode && u->lessons[i].episode->turns > most) most = u->lessons[i].episode->turns;
    }
    float *numbers = arena_array(&u->trainee->arena, float, 3 * (size_t)most);
    if (!numbers) return ERR_memory;
    for (size_t i = 0; i < u->batch->count; i++) {
        struct lesson *l = &u->lessons[i];
        if (l->episode) advantages_from_values(u, l, numbers, numbers + most, numbers + 2 * (size_t)most);
    }
    return ERR_ok;
}

err_t update_score(struct update *u)
{
    const struct update_config *c = u->config;
    bool by_value = c->loss == LOSS_ppo || c->loss == LOSS_webrl, held = c->terms.kl > 0 || c->loss == LOSS_webrl;
    if (by_value && !u->trainee->value)
        return err_set(ERR_invalid, "loss %s needs a value head, and there is none", loss_name(c->loss));
    if (held && !u->trainee->reference)
        return err_set(ERR_invalid, "%s needs a reference policy, and there is none", c->terms.kl > 0 ? "kl" : "loss webrl");
    const struct scoring plain = {.model = u->trainee->model, .prox = true, .values = by_value},
                         hinted = {.model = u->trainee->model, .with_hint = true, .prox = true},
                         reference = {.model = u->trainee->reference, .reference = true};
    TRY(set_outcomes(u));
    TRY(score(u, &plain));
    TRY(score(u, &hinted));
    if (held) TRY(score(u, &reference));
    return by_value ? value_advantages(u) : ERR_ok;
}
