/* The environments of env/, played in this process: every call is answered before it returns. */
#include "env/env.h"
#include "services/env/provider.h"

#include <stdlib.h>

struct provider {
    const struct env_class *env;
};

struct seat {
    const struct env_class *env;
    void *state; /* env->state_bytes, 64-byte aligned */
    provider_done_t done;
    void *ctx;
    bool expert;
    bool hint; /* with the next answer */
    double noise;
    struct rng rng;
    struct env_obs obs;
};

static err_t builtin_open(const struct provider_setup *setup, struct provider **ret)
{
    const struct env_class *env = env_find(setup->name);
    if (!env) return err_set(ERR_not_found, "there is no built-in environment %s", setup->name);
    struct provider *provider = calloc(1, sizeof *provider);
    if (!provider) return err_set(ERR_memory, "a provider");
    provider->env = env;
    *ret = provider;
    return ERR_ok;
}

static void builtin_close(struct provider **provider)
{
    free(*provider);
    *provider = NULL;
}

static err_t builtin_enter(struct provider *provider, provider_done_t done, void *ctx, struct seat **ret, bool *ret_fresh)
{
    struct seat *seat = calloc(1, sizeof *seat);
    size_t size = (provider->env->state_bytes + 63) & ~(size_t)63;
    void *state = aligned_alloc(64, size);
    if (!seat || !state) {
        free(seat);
        free(state);
        return err_set(ERR_memory, "a seat");
    }
    memset(state, 0, size);
    *seat = (struct seat){.env = provider->env, .state = state, .done = done, .ctx = ctx};
    *ret = seat;
    *ret_fresh = false;
    return ERR_ok;
}

static void answer(struct seat *seat, err_t err)
{
    char action[ENV_ACTION_BYTES] = "", hint[ENV_HINT_BYTES] = "";
    struct provider_answer answer = {.outcome = OUTCOME_env_error};
    if (err != ERR_ok) {
        answer.detail = span_text(err_text());
    } else {
        answer = (struct provider_answer){
            .outcome = OUTCOME_ok,
            .text = span_text(seat->obs.text),
            .reward = seat->obs.reward,
            .terminated = seat->obs.terminated,
        };
        if (seat->expert && !seat->obs.terminated) seat->env->expert(seat->state, seat->noise, &seat->rng, action);
        if (seat->hint) seat->env->hint(seat->state, hint);
        answer.expert = span_text(action);
        answer.hint = span_text(hint);
    }
    seat->hint = false;
    seat->done(seat->ctx, &answer); /* the seat may be gone now */
}

static void builtin_reset(struct seat *seat, const struct provider_reset *reset)
{
    seat->expert = reset->expert;
    seat->hint = reset->hint;
    seat->noise = reset->noise;
    rng_init(&seat->rng, reset->noise_seed, 5);
    answer(seat, seat->env->reset(seat->state, reset->task_text, reset->episode_seed, &seat->obs));
}

static void builtin_step(struct seat *seat, struct span action)
{
    if (action.size >= ENV_ACTION_BYTES) action.size = ENV_ACTION_BYTES - 1;
    answer(seat, seat->env->step(seat->state, action, &seat->obs));
}

static void builtin_leave(struct seat **seat)
{
    if (*seat) free((*seat)->state);
    free(*seat);
    *seat = NULL;
}

const struct provider_class provider_builtin = {
    .name = "builtin",
    .open = builtin_open,
    .close = builtin_close,
    .enter = builtin_enter,
    .reset = builtin_reset,
    .step = builtin_step,
    .leave = builtin_leave,
};
