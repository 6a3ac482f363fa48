#include "rollout/runner.h"

#include <stdlib.h>

#define PROMPT_BYTES ((size_t)16 << 20)

static bool grow(void *array, uint32_t count, size_t size)
{
    void **at = array;
    void *more = realloc(*at, (size_t)count * size);
    if (more) *at = more;
    return more != NULL;
}

/* Room for this many tokens. */
static err_t reserve(struct runner *runner, uint32_t count)
{
    if (count <= runner->room) return ERR_ok;
    if (count < 2 * runner->room) count = 2 * runner->room;
    if (!grow(&runner->token, count, sizeof *runner->token) || !grow(&runner->target, count, sizeof *runner->target) ||
        !grow(&runner->turns, count, sizeof *runner->turns) || !grow(&runner->logp, count, sizeof *runner->logp) ||
        !grow(&runner->entropy, count, sizeof *runner->entropy) || !grow(&runner->version, count, sizeof *runner->version))
        return err_set(ERR_memory, "an episode of %u tokens", count);
    runner->room = count;
    return ERR_ok;
}

err_t runner_init(struct runner *runner, uint32_t max_context)
{
    *runner = (struct runner){.config.max_context = max_context};
    buf_init(&runner->action, RUNNER_ACTION_BYTES);
    buf_init(&runner->prompt, PROMPT_BYTES);
    runner->context = calloc(max_context, sizeof *runner->context);
    err_t err = runner->context ? reserve(runner, max_context) : err_set(ERR_memory, "an episode of %u tokens", max_context);
    if (err != ERR_ok) runner_fini(runner);
    return err;
}

void runner_fini(struct runner *runner)
{
    free(runner->token);
    free(runner->target);
    free(runner->turns);
    free(runner->logp);
    free(runner->entropy);
    free(runner->version);
    free(runner->context);
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

/* Tokens that the turn's context has at least: without the earlier turns that it may repeat. */
static uint32_t least_context(const struct runner *runner)
{
    if (!runner->config.step || runner->turn == 0) return runner->count;
    return runner->prefix + runner->count - runner->begin[runner->turn];
}

/* Tokens of the context under way. */
static uint32_t seen(const struct runner *runner)
{
    return runner->config.step ? runner->context_count : runner->count;
}

/* Tokens that are still free for what is appended now: to the prompt of a turn, or to its action. */
static uint32_t room(const struct runner *runner)
{
    uint32_t own = runner->count - runner->action_start; /* shown tokens that are not in the context yet */
    bool acts = runner->state == RUNNER_FEED && runner->config.step;
    return runner->config.max_context - (acts ? runner->context_count + own : least_context(runner));
}

static void put(struct runner *runner, int32_t token, bool target, uint32_t turn)
{
    uint32_t p = runner->count++;
    runner->token[p] = token;
    runner->target[p] = target;
    runner->turns[p] = (uint16_t)turn;
    runner->logp[p] = runner->entropy[p] = 0;
    runner->version[p] = -1;
}

/* err of writing n tokens behind the last one; false when the context is full (what does not fit stays out) */
static err_t took(struct runner *runner, err_t err, size_t n, bool target, bool *ret_fits)
{
    *ret_fits = err == ERR_ok;
    for (size_t i = 0; i < n && err == ERR_ok; i++) put(runner, runner->token[runner->count], target, runner->turn);
    return err == ERR_too_large ? ERR_ok : err;
}

static err_t append(struct runner *runner, struct span text, bool target, bool *ret_fits)
{
    size_t n = 0;
    TRY(reserve(runner, runner->count + room(runner)));
    err_t err = tokenizer_encode(runner->config.tokenizer, text, runner->token + runner->count, room(runner), &n);
    return took(runner, err, n, target, ret_fits);
}

static err_t append_token(struct runner *runner, int32_t id, bool target, bool *ret_fits)
{
    TRY(reserve(runner, runner->count + 1));
    if (room(runner) > 0) runner->token[runner->count] = id;
    return took(runner, room(runner) > 0 ? ERR_ok : ERR_too_large, 1, target, ret_fits);
}

/* The hint as a message of its own. */
static err_t append_chat_hint(struct runner *runner, bool *ret_fits)
{
    size_t n = 0;
    TRY(reserve(runner, runner->count + room(runner)));
    err_t err = chat_hint(runner->config.chat, buf_span(&runner->prompt), runner->token + runner->count, room(runner), &n);
    return took(runner, err, n, false, ret_fits);
}

/* The prompt as the next message. */
static err_t append_chat(struct runner *runner, bool *ret_fits)
{
    size_t n = 0;
    TRY(reserve(runner, runner->count + room(runner)));
    err_t err = chat_message(runner->config.chat, buf_span(&runner->prompt), runner->token + runner->count, room(runner), &n);
    return took(runner, err, n, false, ret_fits);
}

/* The prompt as it is. */
static err_t append_raw(struct runner *runner, bool *ret_fits)
{
    return append(runner, buf_span(&runner->prompt), false, ret_fits);
}

/* What every text of this model begins with. */
static err_t open_raw(struct runner *runner, bool *ret_fits)
{
    size_t n = 0;
    const int32_t *opening = tokenizer_opening(runner->config.tokenizer, &n);
    *ret_fits = true;
    for (size_t i = 0; i < n && *ret_fits; i++) TRY(append_token(runner, opening[i], false, ret_fits));
    return ERR_ok;
}

/* What stands between the last turn and the next: it belongs to the last one, so that a context may begin with any turn. At
 * the beginning what every context begins with. */
static err_t close_turn(struct runner *runner, bool *ret_fits)
{
    const struct chat *chat = runner->config.chat;
    size_t n = 0;
    *ret_fits = true;
    if (!chat) return runner->count > runner->hint ? ERR_ok : open_raw(runner, ret_fits);
    TRY(reserve(runner, runner->count + room(runner)));
    int32_t *to = runner->token + runner->count, last = runner->count > runner->hint ? to[-1] : -1;
    err_t err = chat_between(chat, last, to, room(runner), &n);
    return took(runner, err, n, false, ret_fits);
}

/* The hint's tokens come before all others: without them the rest is the context as it would be without a hint. */
static err_t begin_hint(struct runner *runner, struct span hint)
{
    bool fits = false;
    TRY(buf_append(&runner->prompt, hint.data, hint.size));
    if (!runner->config.chat) TRY(buf_text(&runner->prompt, "\n"));
    if (runner->config.chat) {
        TRY(append_chat_hint(runner, &fits));
    } else {
        TRY(open_raw(runner, &fits));
        if (fits) TRY(append_raw(runner, &fits));
    }
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
    runner->prefix = runner->context_count = runner->cut = 0;
    runner->reward = 0;
    buf_clear(&runner->action);
    buf_clear(&runner->prompt);
    return hint.size > 0 ? begin_hint(runner, hint) : ERR_ok;
}

/* The prompt of a turn is there: which earlier turns its context repeats, and the context itself. */
static void look_back(struct runner *runner)
{
    const struct runner_config *c = &runner->config;
    uint32_t turn = runner->turn, least = least_context(runner) + c->max_new_tokens, from = runner->begin[turn];
    uint32_t spare = c->max_context > least ? c->max_context - least : 0;
    if (turn == 0) from = runner->prefix;
    for (uint32_t k = 1; k <= c->history && k <= turn; k++) {
        uint32_t start = k == turn ? runner->prefix : runner->begin[turn - k];
        if (runner->begin[turn] - start > spare) break;
        from = start;
    }
    runner->window[turn] = from;
    if (turn == 0 || runner->window[turn - 1] != from) { /* else what is there already begins the same */
        memcpy(runner->context, runner->token, runner->prefix * sizeof *runner->token);
        runner->context_count = runner->prefix;
        runner->fed = 0;
    }
    uint32_t there = from + runner->context_count - runner->prefix;
    memcpy(runner->context + runner->context_count, runner->token + there, (runner->count - there) * sizeof *runner->token);
    runner->context_count += runner->count - there;
}

/* The shown action as target tokens, with what ends it. */
static err_t show(struct runner *runner, struct span action)
{
    bool fits = false;
    const struct chat *chat = runner->config.chat;
    buf_clear(&runner->action);
    buf_clear(&runner->prompt);
    TRY(buf_append(&runner->action, action.data, action.size));
    TRY(buf_append(&runner->prompt, action.data, action.size));
    if (!chat) TRY(buf_text(&runner->prompt, "\n"));
    TRY(append(runner, buf_span(&runner->prompt), true, &fits));
    if (fits && chat) TRY(append_token(runner, chat_close(chat), true, &fits));
    if (!fits) {
        end(runner, OUTCOME_truncated, runner->reward);
        return ERR_ok;
    }
    for (uint32_t i = runner->action_start; i < runner->count && runner->config.step; i++)
        runner->context[runner->context_count++] = runner->token[i];
    runner->state = RUNNER_ACT;
    return ERR_ok;
}

/* A turn begins: where it does, and whether there may be a further action. */
static err_t next_turn(struct runner *runner, bool *ret_more, bool *ret_fits)
{
    TRY(close_turn(runner, ret_fits));
    if (runner->state == RUNNER_ACT) {
        runner->steps++;
        runner->turn++;
        runner->cut += runner->context_count;
    } else {
        runner->prefix = runner->count;
    }
    runner->begin[runner->turn] = runner->window[runner->turn] = runner->turn ? runner->count : 0;
    bool room_left = !runner->config.step || runner->cut <= SEQUENCE_MAX_TOKENS - 2 * runner->config.max_context;
    *ret_more = room_left && runner->steps < runner->config.max_steps && runner->turn + 1 < RUNNER_TURNS_MOST;
    return ERR_ok;
}

err_t runner_observe(struct runner *runner, struct span text, double reward, bool terminated, struct span action)
{
    BUG_IF(runner->state != RUNNER_RESET && runner->state != RUNNER_ACT);
    bool fits = false, more = false;
    runner->reward = reward;
    TRY(next_turn(runner, &more, &fits));
    bool last = terminated || !more;
    buf_clear(&runner->prompt);
    TRY(buf_append(&runner->prompt, text.data, text.size));
    if (!last && !runner->config.chat) TRY(buf_text(&runner->prompt, "\n>"));
    if (fits) TRY(runner->config.chat ? append_chat(runner, &fits) : append_raw(runner, &fits));
    if (last || !fits || room(runner) == 0) {
        end(runner, terminated ? OUTCOME_ok : OUTCOME_truncated, reward);
        return ERR_ok;
    }
    if (runner->config.step) look_back(runner);
    runner->action_start = runner->count;
    runner->state = RUNNER_FEED;
    return runner->config.shown ? show(runner, action) : ERR_ok;
}

uint32_t runner_context(const struct runner *runner, const int32_t **ret)
{
    *ret = runner->config.step ? runner->context : runner->token;
    return seen(runner);
}

/* The action is complete: its text, without the token that ended the turn and from the newline on. */
static err_t finish_action(struct runner *runner, enum tokenizer_end ended)
{
    uint32_t n = runner->count - runner->action_start - (ended == TOKENIZER_END_eos);
    AUTO(buf) text = {0};
    TRY(tokenizer_decode(runner->config.tokenizer, runner->token + runner->action_start, n, &text));
    const uint8_t *newline = text.size > 0 ? memchr(text.data, '\n', text.size) : NULL;
    size_t size = newline ? (size_t)(newline - text.data) : text.size;
    if (size > RUNNER_ACTION_BYTES) { /* a longer text is cut, between characters */
        size = RUNNER_ACTION_BYTES;
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
    runner->fed = seen(runner);
    TRY(sampler_draw(logits, vocab, runner->config.temperature, &runner->rng, scratch, &drawn));
    TRY(reserve(runner, runner->count + 1));
    uint32_t p = runner->count;
    put(runner, drawn.token, true, runner->turn);
    if (runner->config.step) runner->context[runner->context_count++] = drawn.token;
    runner->logp[p] = drawn.logp;
    runner->entropy[p] = drawn.entropy;
    runner->version[p] = version;
    enum tokenizer_end ended = tokenizer_end(runner->config.tokenizer, drawn.token);
    if (ended != TOKENIZER_END_none || runner->count - runner->action_start >= runner->config.max_new_tokens)
        return finish_action(runner, ended);
    if (seen(runner) == runner->config.max_context) end(runner, OUTCOME_truncated, runner->reward);
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
                             .sampled = !runner->config.shown,
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
