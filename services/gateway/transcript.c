/* An episode's payload as people and programs read it: turns with their text, tokens, log-probs, entropies and versions. */
#include "rollout/segments.h"
#include "services/common/run/payload.h"
#include "services/common/store/store_read.h"
#include "services/gateway/gateway.h"

#include <jansson.h>
#include <stdlib.h>

static json_t *text_of(const struct tokenizer *tokenizer, const int32_t *tokens, size_t count)
{
    AUTO(buf) text = {0};
    if (!tokenizer) return NULL; /* the model's directory is gone: tokens only */
    if (tokenizer_decode(tokenizer, tokens, count, &text) != ERR_ok) return NULL;
    while (text.size && (text.data[text.size - 1] == '\n' || text.data[text.size - 1] == '>')) text.size--;
    return json_stringn(text.data ? (const char *)text.data : "", text.size);
}

/* A turn of the whole episode, tokens [from, to); `repeated` tokens of earlier turns stood before it in its context.
 * {"observation": "...", "action": "...", "tokens": [...], "logp": [...], ...} */
static json_t *turn_json(const struct tokenizer *tokenizer, const struct sequence *s, uint32_t from, uint32_t to,
                         uint32_t repeated)
{
    uint32_t hint = from < s->hint ? s->hint - from : 0, action = from + hint, end = to;
    while (action < to && !s->target[action]) action++;
    while (end > action && !s->target[end - 1]) end--; /* what a chat template puts behind an answer */
    json_t *tokens = json_array(), *logp = json_array(), *entropy = json_array(), *version = json_array();
    for (uint32_t i = from; i < to; i++) (void)json_array_append_new(tokens, json_integer(s->token[i]));
    for (uint32_t i = action; i < end && s->sampled; i++) {
        (void)json_array_append_new(logp, json_real((double)s->logp[i]));
        (void)json_array_append_new(entropy, json_real((double)s->entropy[i]));
        (void)json_array_append_new(version, json_integer(s->version[i]));
    }
    json_t *turn =
        json_pack("{s:o?, s:o?, s:o, s:i, s:i, s:o, s:o, s:o}", "observation",
                  text_of(tokenizer, s->token + from + hint, action - from - hint), "action",
                  text_of(tokenizer, s->token + action, end - action), "tokens", tokens, "action_from", (int)(action - from),
                  "repeated", (int)repeated, "logp", logp, "entropy", entropy, "version", version);
    if (turn && hint > 0) (void)json_object_set_new(turn, "hint", text_of(tokenizer, s->token + from, hint));
    return turn;
}

/* Each turn once, whatever contexts it was seen in. */
static err_t turns_json(const struct tokenizer *tokenizer, const struct sequence *s, struct arena *arena, json_t **ret)
{
    struct sequence whole;
    TRY(segments_join(s, arena, &whole));
    *ret = json_array();
    for (uint32_t from = 0, turn = 0; from < whole.count; turn++) {
        uint32_t to = from, repeated = s->segments > 1 && turn < s->segments ? s->own[turn] - s->segment[turn] : 0;
        while (to < whole.count && whole.turn[to] == whole.turn[from]) to++;
        (void)json_array_append_new(*ret, turn_json(tokenizer, &whole, from, to, repeated));
        from = to;
    }
    return *ret ? ERR_ok : err_set(ERR_memory, "a transcript");
}

/* The job's tokenizer, kept for the next episode of the same job; NULL when it cannot be had any more. */
static err_t tokenizer_of(struct gateway *gateway, struct store *store, int64_t job, const struct tokenizer **ret)
{
    AUTO(arena) arena = {0};
    AUTO(buf) text = {0};
    struct job_spec spec;
    struct job_problems problems;
    *ret = gateway->origin.tokenizer;
    if (gateway->origin_job == job) return ERR_ok;
    TRY(store_read_spec(store, job, &text));
    TRY(job_parse(buf_span(&text), &arena, &spec, &problems));
    spec.rollout.prompt = JOB_PROMPT_RAW; /* how prompts are made does not matter here */
    origin_fini(&gateway->origin);
    gateway->origin_job = 0;
    err_t err = origin_open(&spec, &gateway->origin);
    if (err == ERR_memory) return err;
    if (err == ERR_ok) gateway->origin_job = job;
    *ret = gateway->origin.tokenizer;
    return ERR_ok;
}

static err_t make(struct gateway *gateway, struct store *store, int64_t job, struct span packed, int64_t raw_size,
                  json_t **ret)
{
    AUTO(arena) arena = {0};
    AUTO(buf) raw = {0};
    struct sequence sequence;
    const struct tokenizer *tokenizer = NULL;
    TRY(payload_unpack(packed, (uint64_t)raw_size, &raw)); /* a negative size is past every bound */
    TRY(sequence_decode(buf_span(&raw), &arena, &sequence));
    TRY(tokenizer_of(gateway, store, job, &tokenizer));
    return turns_json(tokenizer, &sequence, &arena, ret);
}

err_t transcript_add(struct gateway *gateway, struct store *store, int64_t job, int64_t episode, struct buf *json)
{
    AUTO(buf) packed = {0};
    int64_t raw_size = 0;
    json_t *turns = NULL;
    err_t err = store_read_payload(store, job, episode, &packed, &raw_size);
    if (err == ERR_ok)
        err = make(gateway, store, job, buf_span(&packed), raw_size, &turns);
    else if (err == ERR_not_found)
        turns = json_null(); /* it failed, or has not ended */
    if (err != ERR_ok && err != ERR_not_found) return err;
    json_t *root = json_loadb((const char *)json->data, json->size, 0, NULL);
    bool good = root && json_object_set_new(root, "transcript", turns) == 0;
    char *text = good ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    if (!text) return err_set(ERR_memory, "a transcript");
    buf_clear(json);
    err = buf_text(json, text);
    free(text);
    return err;
}
