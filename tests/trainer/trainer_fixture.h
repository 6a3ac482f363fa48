/* What the trainer's tests share: a tiny trainee and episodes over it. */
#ifndef PAL_TESTS_TRAINER_FIXTURE_H
#define PAL_TESTS_TRAINER_FIXTURE_H

#include "trainer/trainee.h"
#include "trainer/update.h"

#define FIXTURE_TOKENS 48 /* longest episode */

static const struct model_config FIXTURE_MODEL = {.vocab = 13,
                                                  .vocab_padded = 16,
                                                  .layers = 2,
                                                  .width = 16,
                                                  .heads = 2,
                                                  .kv_heads = 1,
                                                  .head_dim = 8,
                                                  .ff = 24,
                                                  .max_positions = 64,
                                                  .rope_theta = 10000,
                                                  .rms_eps = 1e-5f,
                                                  .tied = true};

/* a trainee of seed 3 whose weights are not so small that all gradients vanish */
static inline struct trainee *fixture_trainee(struct pool *pool)
{
    const struct trainee_config config = {.model = FIXTURE_MODEL, .adamw = ADAMW_DEFAULTS, .max_tokens = 1024, .seed = 3};
    struct trainee *trainee = NULL;
    BUG_IF(trainee_new(&trainee, &config, pool) != ERR_ok || !trainee);
    return trainee;
}

static inline struct update_config fixture_update(void)
{
    return (struct update_config){
        .terms = {.clip_low = 0.2, .clip_high = 0.28, .importance = LOSS_IMPORTANCE_tis, .cap = 1, .entropy = 0.003},
        .minibatches = 1,
        .epochs = 1,
        .tokens_per_microbatch = 128,
        .temperature = 1,
        .schedule = {.kind = SCHEDULE_constant, .peak = 1e-3, .total = 100}};
}

/* an episode's arrays */
struct fixture_tokens {
    int32_t token[FIXTURE_TOKENS];
    uint8_t target[FIXTURE_TOKENS];
    float logp[FIXTURE_TOKENS];
    int32_t version[FIXTURE_TOKENS];
    uint16_t turn[FIXTURE_TOKENS];
};

/* Groups of four episodes of random tokens and lengths; the targets come in two turns, advantages are random. */
static inline double fixture_episodes(struct rng *rng, struct fixture_tokens *tokens, struct episode *episodes, size_t count)
{
    double norm = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t n = 12 + rng_below(rng, FIXTURE_TOKENS - 12), targets = 0;
        struct fixture_tokens *t = &tokens[i];
        for (uint32_t k = 0; k < n; k++) {
            t->token[k] = (int32_t)(1 + rng_below(rng, 12));
            t->target[k] = (k >= 5 && k < 8) || (k >= 9 && k < n - 2);
            t->turn[k] = k >= 8;
            t->logp[k] = t->target[k] ? -0.1f - (float)(2 * rng_unit(rng)) : 0;
            targets += t->target[k];
        }
        episodes[i] = (struct episode){.id = 100 + i,
                                       .group = 50 + i / 4,
                                       .signal = true,
                                       .sampled = true,
                                       .count = n,
                                       .action_tokens = targets,
                                       .token = t->token,
                                       .target = t->target,
                                       .logp = t->logp,
                                       .turns = 2,
                                       .turn = t->turn,
                                       .action_turns = 2,
                                       .reward = i % 2 ? 1 : 0,
                                       .advantage = rng_normal(rng)};
        norm += targets;
    }
    return norm;
}

#endif
