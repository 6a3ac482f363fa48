#include "rollout/runner.h"

#include <stdlib.h>

#define TURNS_MOST   65000
#define ACTION_BYTES 4096
#define PROMPT_BYTES ((size_t)16 << 20)

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
    buf_init(&runner->prompt, PROMPT_BYTES);
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
    buf_fini(&runner->prompt);
    *runner = (struct runner){0};
}

static void end(struct runner *runner, enum outcome outcome, double reward)
{
    runner->state = RUNNER_END;
    runner->outcome = outcome;
    runner->reward = reward;
}

static uint32_t room(const struct runner *runner)
{
    return runner->config.max_context - runner->count;
}

/* Takes n tokens that were written behind the last one. */
static void take(struct runner *runner, size_t n, bool target)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t p = runner->count + (uint32_t)i;
        runner->target[p] = target;
        runner->turns[p] = (uint16_t)runner->turn;
        runner->logp[p] = runner->entropy[p] = 0;
        runner->version[p] = -1;
    }
    runner->count += (uint32_t)n;
}

/* err of writing n tokens; false when the context is full (what does not fit stays out) */
static err_t took(struct runner *runner, err_t err, size_t n, bool target, bool *ret_fits)
{
    *ret_fits = err == ERR_ok;
    if (err == ERR_ok) take(runner, n, target);
    return err == ERR_too_large ? ERR_ok : err;
}

static err_t append(struct runner *runner, struct span text, bool target, bool *ret_fits)
{
    size_t n = 0;
    err_t err = tokenizer_encode(runner->config.tokenizer, text, runner->token + runner->count, room(runner), &n);
    return took(runner, err, n, target, ret_fits);
}

static err_t append_token(struct runner *runner, int32_t id, bool target, bool *ret_fits)
{
    if (room(runner) > 0) runner->token[runner->count] = id;
    return took(runner, room(runner) > 0 ? ERR_ok : ERR_too_large, 1, target, ret_fits);
}

/* Appends a part of a conversation: the prompt as the hint's message or as the next turn. */
static err_t append_chat(struct runner *runner, bool hint, bool *ret_fits)
{
    size_t n = 0;
    const struct chat *chat = runner->config.chat;
    int32_t *to = runner->token + runner->count, last = runner->turn > 0 ? to[-1] : -1;
    struct span text = buf_span(&runner->prompt);
    err_t err = hint ? chat_hint(chat, text, to, room(runner), &n) : chat_turn(chat, last, text, to, room(runner), &n);
    return took(runner, err, n, false, ret_fits);
}

/* The prompt as it is; what every text of this model begins with comes first, where a text begins. */
static err_t append_raw(struct runner *runner, bool begins, bool *ret_fits)
{
    size_t n = 0;
    const int32_t *opening = tokenizer_opening(runner->config.tokenizer, &n);
    *ret_fits = true;
    for (size_t i = 0; i < n && begins && *ret_fits; i++) TRY(append_token(runner, opening[i], false, ret_fits));
    return *ret_fits ? append(runner, buf_span(&runner->prompt), false, ret_fits) : ERR_ok;
}

/* The hint's tokens come before all others: without them the rest is the context as it would be without a hint. */
static err_t begin_hint(struct runner *runner, struct span hint)
{
    bool fits = false;
    TRY(buf_append(&runner->prompt, hint.data, hint.size));
    if (!runner->config.chat) TRY(buf_text(&runner->prompt, "\n"));
    TRY(runner->config.chat ? append_chat(runner, true, &fits) : append_raw(runner, true, &fits));
    runner->hint = runner->count;
    return fits ? ERR_ok
                : err_set(ERR_too_large, "the hint does not fit the context of %u tokens", runner->config.max_context);
}

err_t runner_begin(struct runner *runner, const struct runner_config *config, uint64_t seed, struct span hint)
{
    BUG_IF(config->max_context > runner->config.max_context);
    uint32_t most = runner->config.max_context;
    runner->config = *config;
    runner->config.max_context = most;
    rng_init(&runner->rng, seed, 0x726f6c6cu);
    runner->state = RUNNER_RESET;
    runner->count = runner->hint = runner->fed = runner->steps = runner->turn = runner->action_start = 0;
    runner->reward = 0;
    buf_clear(&runner->action);
    buf_clear(&runner->prompt);
    return hint.size > 0 ? begin_hint(runner, hint) : ERR_ok;
}

/* The expert's action as target tokens, with what ends it. */
static err_t show(struct runner *runner, struct span action)
{
    bool fits = false;
    const struct chat *chat = runner->config.chat;
    runner->action_start = runner->count;
    buf_clear(&runner->action);
    buf_clear(&runner->prompt);
    TRY(buf_append(&runner->action, action.data, action.size));
    TRY(buf_append(&runner->prompt, action.data, action.size));
    if (!chat) TRY(buf_text(&runner->prompt, "\n"));
    TRY(append(runner, buf_span(&runner->prompt), true, &fits));
    if (fits && chat) TRY(append_token(runner, chat_close(chat), true, &fits));
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
    bool last = terminated || runner->steps >= runner->config.max_steps || runner->turn >= TURNS_MOST;
    buf_clear(&runner->prompt);
    TRY(buf_append(&runner->prompt, text.data, text.size));
    if (!last && !runner->config.chat) TRY(buf_text(&runner->prompt, "\n>"));
    TRY(runner->config.chat ? append_chat(runner, false, &fits) : append_raw(runner, runner->turn == 0, &fits));
    if (last || !fits || room(runner) == 0) {
        end(runner, terminated ? OUTCOME_ok : OUTCOME_truncated, reward);
        return ERR_ok;
    }
    if (runner->config.expert) return show(runner, expert);
    runner->action_start = runner->count;
    runner->state = RUNNER_FEED;
    return ERR_ok;
}

/* The action is complete: its text, without the token that ended the turn and from the newline on. */
static err_t finish_action(struct runner *runner, enum tokenizer_end ended)
{
    uint32_t n = runner->count - runner->action_start - (ended == TOKENIZER_END_eos);
    AUTO(buf) text = {0};
    TRY(tokenizer_decode(runner->config.tokenizer, runner->token + runner->action_start, n, &text));
    const uint8_t *newline = text.size > 0 ? memchr(text.data, '\n', text.size) : NULL;
    size_t size = newline ? (size_t)(newline - text.data) : text.size;
    if (size > ACTION_BYTES) { /* a longer text is cut, between characters */
        size = ACTION_BYTES;
        while (size > 0 && (text.data[size] & 0xc0) == 0x80) size--;
    }
    buf_clear(&runner->action);
    for (size_t i = 0; i < size; i++) /* a zero byte is a token like others, but no text that could be sent */
        TRY(text.data[i] ? buf_append(&runner->action, text.data + i, 1) : buf_text(&runner->action, "?"));
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
    enum tokenizer_end ended = tokenizer_end(runner->config.tokenizer, drawn.token);
    if (ended != TOKENIZER_END_none || runner->count - runner->action_start >= runner->config.max_new_tokens)
        return finish_action(runner, ended);
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
