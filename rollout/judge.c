#include "rollout/judge.h"

#include <math.h>

static err_t letter(const struct tokenizer *tokenizer, const char *text, int32_t *ret)
{
    size_t n = 0;
    int32_t ids[4];
    err_t err = tokenizer_encode(tokenizer, span_text(text), ids, 4, &n);
    if (err != ERR_ok || n != 1) return err_set(ERR_unsupported, "the tokenizer has no token for the verdict \"%s\"", text);
    *ret = ids[0];
    return ERR_ok;
}

err_t judge_init(struct judge *judge, const struct tokenizer *tokenizer)
{
    size_t n = 0;
    *judge = (struct judge){0};
    TRY(tokenizer_encode(tokenizer, span_text(JUDGE_PROMPT), judge->prompt, JUDGE_PROMPT_MOST, &n));
    judge->prompt_count = (uint32_t)n;
    TRY(letter(tokenizer, "Y", &judge->yes));
    return letter(tokenizer, "N", &judge->no);
}

/* The new tokens of segment i, the hint left out. */
static void part(const struct sequence *s, uint32_t i, uint32_t *ret_from, uint32_t *ret_to)
{
    bool cut = s->segments > 1;
    *ret_from = cut ? s->own[i] : 0;
    *ret_to = cut ? s->segment[i + 1] : s->count;
    if (i == 0) *ret_from = s->hint;
}

/* Tokens of the first observation, as far as they begin the episode. */
static uint32_t first_observation(const struct sequence *s)
{
    uint32_t from, to, at;
    part(s, 0, &from, &to);
    for (at = from; at < to && !s->target[at];) at++;
    return at - from;
}

uint32_t judge_layout(const struct judge *judge, const struct sequence *sequence, int32_t *tokens, uint32_t room)
{
    uint32_t parts = sequence->segments > 1 ? sequence->segments : 1, total = 0, from, to, at = 0, n = 0;
    for (uint32_t i = 0; i < parts; i++) {
        part(sequence, i, &from, &to);
        total += to - from;
    }
    if (room <= judge->prompt_count) return 0;
    uint32_t most = room - judge->prompt_count, head = first_observation(sequence);
    if (head > most / 2) head = most / 2;
    uint32_t skip = total > most ? total - most : 0; /* tokens [head, head + skip) */
    for (uint32_t i = 0; i < parts; i++) {
        part(sequence, i, &from, &to);
        for (uint32_t k = from; k < to; k++, at++) {
            if (at < head || at >= head + skip) tokens[n++] = sequence->token[k];
        }
    }
    for (uint32_t i = 0; i < judge->prompt_count; i++) tokens[n++] = judge->prompt[i];
    return n;
}

double judge_score(const struct judge *judge, const float *logits)
{
    return 1 / (1 + exp((double)logits[judge->no] - (double)logits[judge->yes]));
}
