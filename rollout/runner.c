#include "rollout/runner.h"

#include <stdlib.h>

#define TURNS_MOST   65000
#define ACTION_BYTES 4096

err_t runner_init(struct runner *runner, uint32_t max_context)
{
    *runner = (struct runner){.config.max_context = max_context};
    size_t n = max_context;
    runner->token = calloc(n, sizeof *runner->token);
    runner->target = calloc(n, sizeof *runner->target);
    runner->turns = calloc(n, sizeof *runner->turns);
    runner->logp = calloc(n, sizeof *runner->logp);
    runner->entropy = calloc(n, sizeof *runner->entropy);
    runner->version = calloc(n, sizeof *runner->version);
    buf_init(&runner->action, ACTION_BYTES);
    if (runner->token && runner->target && runner->turns && runner->logp && runner->entropy && runner->version) return ERR_ok;
    runner_fini(runner);
    return err_set(ERR_memory, "an episode of %u tokens", max_context);
}

void runner_fini(struct runner *runner)
{
    free(runner->token);
    free(runner->target);
    free(runner->turns);
    free(runner->logp);
    free(runner->entropy);
    free(runner->version);
    buf_fini(&runner->action);
    *runner = (struct runner){0};
}

static void end(struct runner *runner, enum outcome outcome, double reward)
{
    runner->state = RUNNER_END;
    runner->outcome = outcome;
    runner->reward = reward;
}

/* Appends text as tokens; false when the context is full (what fits stays out). */
static err_t append(struct runner *runner, struct span text, bool target, bool *ret_fits)
{
    size_t room = runner->config.max_context - runner->count, n = 0;
    int32_t *at = runner->token + runner->count;
    err_t err = tokenizer_encode(runner->config.tokenizer, text, at, room, &n);
    *ret_fits = err == ERR_ok;
    if (err == ERR_too_large) return ERR_ok;
    TRY(err);
    for (size_t i = 0; i < n; i++) {
        uint32_t p = runner->count + (uint32_t)i;
        runner->target[p] = target;
        runner->turns[p] = (uint16_t)runner->turn;
        runner->logp[p] = runner->entropy[p] = 0;
        runner->version[p] = -1;
    }
    runner->count += (uint32_t)n;
    return ERR_ok;
}

err_t runner_begin(struct runner *runner, const struct runner_config *config, uint64_t seed, struct span hint)
{
    BUG_IF(config->max_context > runner->config.max_context);
    uint32_t room = runner->config.max_context;
    runner->config = *config;
    runner->config.max_context = room;
    rng_init(&runner->rng, seed, 0x726f6c6cu);
    runner->state = RUNNER_RESET;
    runner->count = runner->hint = runner->fed = runner->steps = runner->turn = runner->action_start = 0;
    runner->reward = 0;
    buf_clear(&runner->action);
    if (hint.size == 0) return ERR_ok;
    bool fits = false;
    TRY(append(runner, hint, false, &fits));
    if (fits) TRY(append(runner, span_text("\n"), false, &fits));
    runner->hint = runner->count;
    return fits ? ERR_ok : err_set(ERR_too_large, "the hint does not fit the context of %u tokens", room);
}

/* The expert's action as target tokens, its newline included. */
static err_t show(struct runner *runner, struct span action)
{
    bool fits = false;
    runner->action_start = runner->count;
    buf_clear(&runner->action);
    TRY(buf_append(&runner->action, action.data, action.size));
    TRY(append(runner, action, true, &fits));
    if (fits) TRY(append(runner, span_text("\n"), true, &fits));
    if (fits)
        runner->state = RUNNER_ACT;
    else
        end(runner, OUTCOME_truncated, runner->reward);
    return ERR_ok;
}

err_t runner_observe(struct runner *runner, struct span text, double reward, bool terminated, struct span expert)
{
    BUG_IF(runner->state != RUNNER_RESET && runner->state != RUNNER_ACT);
    bool fits = false;
    if (runner->state == RUNNER_ACT) {
        runner->steps++;
        runner->turn++;
    }
    runner->reward = reward;
    TRY(append(runner, text, false, &fits));
    bool over = !fits || terminated || runner->steps >= runner->config.max_steps || runner->turn >= TURNS_MOST;
    if (over) {
        end(runner, terminated ? OUTCOME_ok : OUTCOME_truncated, reward);
        return ERR_ok;
    }
    TRY(append(runner, span_text("\n>"), false, &fits));
    if (!fits || runner->count == runner->config.max_context) {
        end(runner, OUTCOME_truncated, reward);
        return ERR_ok;
    }
    if (runner->config.expert) return show(runner, expert);
    runner->action_start = runner->count;
    runner->state = RUNNER_FEED;
    return ERR_ok;
}

/* The action is complete: its text, without the newline. */
static err_t finish_action(struct runner *runner, bool newline)
{
    uint32_t n = runner->count - runner->action_start - newline;
    buf_clear(&runner->action);
    err_t err = tokenizer_decode(runner->config.tokenizer, runner->token + runner->action_start, n, &runner->action);
    if (err != ERR_ok && err != ERR_too_large) return err; /* a text past ACTION_BYTES is cut */
    runner->state = RUNNER_ACT;
    return ERR_ok;
}

err_t runner_token(struct runner *runner, const float *logits, size_t vocab, float *scratch, int32_t version)
{
    BUG_IF(runner->state != RUNNER_FEED);
    struct sampled drawn;
    runner->fed = runner->count;
    TRY(sampler_draw(logits, vocab, runner->config.temperature, &runner->rng, scratch, &drawn));
    uint32_t p = runner->count++;
    runner->token[p] = drawn.token;
    runner->target[p] = 1;
    runner->turns[p] = (uint16_t)runner->turn;
    runner->logp[p] = drawn.logp;
    runner->entropy[p] = drawn.entropy;
    runner->version[p] = version;
    bool newline = drawn.token == tokenizer_newline(runner->config.tokenizer);
    if (newline || runner->count - runner->action_start >= runner->config.max_new_tokens)
        return finish_action(runner, newline);
    if (runner->count == runner->config.max_context) end(runner, OUTCOME_truncated, runner->reward);
    return ERR_ok;
}

void runner_refeed(struct runner *runner)
{
    runner->fed = 0;
}

bool runner_at_turn(const struct runner *runner)
{
    return runner->state == RUNNER_FEED && runner->count == runner->action_start;
}

struct sequence runner_sequence(const struct runner *runner)
{
    uint32_t turns = runner->count ? (uint32_t)runner->turns[runner->count - 1] + 1 : 0;
    return (struct sequence){.count = runner->count,
                             .turns = turns,
                             .token = runner->token,
                             .target = runner->target,
                             .turn = runner->turns,
                             .logp = runner->logp,
                             .entropy = runner->entropy,
                             .version = runner->version,
                             .sampled = !runner->config.expert,
                             .hint = runner->hint};
}

size_t runner_turns(const struct runner *runner, float *entropy, float *tokens, size_t room)
{
    size_t turns = runner->count ? (size_t)runner->turns[runner->count - 1] + 1 : 0, n = 0;
    if (turns > room) turns = room;
    for (uint32_t i = 0; n < turns; n++) {
        float sum = 0, drawn = 0;
        for (; i < runner->count && runner->turns[i] == n; i++) {
            if (!runner->target[i]) continue;
            sum += runner->entropy[i];
            drawn += 1;
        }
        entropy[n] = drawn > 0 ? sum / drawn : 0;
        tokens[n] = drawn;
    }
    return turns;
}
