#include "services/rollout/outbox.h"

#include <stdlib.h>

void outbox_clear(struct outbox *outbox)
{
    for (size_t i = 0; i < outbox->count; i++) free(outbox->ends[i].bytes);
    free(outbox->ends);
    *outbox = (struct outbox){.resent = outbox->resent};
}

static struct span keep(uint8_t **at, struct span from)
{
    if (from.size) memcpy(*at, from.data, from.size);
    struct span kept = span_of(*at, from.size);
    *at += from.size;
    return kept;
}

err_t outbox_add(struct outbox *outbox, const struct wire_episode_done *done)
{
    if (outbox->count == outbox->room) {
        size_t room = outbox->room ? outbox->room * 2 : 256;
        struct outbox_end *more = realloc(outbox->ends, room * sizeof *more);
        if (!more) return err_set(ERR_memory, "an episode's end");
        outbox->ends = more;
        outbox->room = room;
    }
    size_t score_bytes = done->scores_count * sizeof *done->scores, token_bytes = done->turn_tokens.n * sizeof(float),
           entropy_bytes = done->turn_entropy.n * sizeof(float);
    size_t size = score_bytes + token_bytes + entropy_bytes + done->payload.size + done->error.size + done->outcome.size + 1;
    uint8_t *bytes = malloc(size);
    if (!bytes) return err_set(ERR_memory, "an episode's end");
    struct outbox_end *end = &outbox->ends[outbox->count++];
    *end = (struct outbox_end){.done = *done, .bytes = bytes, .size = size};
    outbox->bytes += size;
    uint8_t *at = bytes; /* what must be aligned comes first */
    struct span scores = keep(&at, span_of(done->scores, score_bytes));
    struct span tokens = keep(&at, span_of(done->turn_tokens.v, token_bytes));
    struct span entropy = keep(&at, span_of(done->turn_entropy.v, entropy_bytes));
    end->done.scores = (const struct wire_counter *)(const void *)scores.data;
    end->done.turn_tokens.v = (const float *)(const void *)tokens.data;
    end->done.turn_entropy.v = (const float *)(const void *)entropy.data;
    end->done.payload = keep(&at, done->payload);
    end->done.error = keep(&at, done->error);
    end->done.outcome = keep(&at, done->outcome);
    return ERR_ok;
}

bool outbox_is_full(const struct outbox *outbox)
{
    return outbox->count >= OUTBOX_MOST || outbox->bytes >= OUTBOX_BYTES;
}

void outbox_acknowledge(struct outbox *outbox, const struct wire_u64s *tokens)
{
    for (size_t i = 0; i < tokens->n; i++) {
        for (size_t k = 0; k < outbox->count; k++) {
            if (outbox->ends[k].done.token != tokens->v[i]) continue;
            free(outbox->ends[k].bytes);
            outbox->bytes -= outbox->ends[k].size;
            outbox->ends[k] = outbox->ends[--outbox->count];
            break;
        }
    }
}

void outbox_forget_sent(struct outbox *outbox)
{
    for (size_t i = 0; i < outbox->count; i++) {
        if (outbox->ends[i].sent_ms) outbox->resent++;
        outbox->ends[i].sent_ms = 0;
    }
}

size_t outbox_due(struct outbox *outbox, uint64_t now_ms, struct wire_episode_done *ret)
{
    size_t n = 0, size = 0;
    for (size_t i = 0; i < outbox->count && n < OUTBOX_SET && size < OUTBOX_SET_BYTES; i++) {
        struct outbox_end *end = &outbox->ends[i];
        if (end->sent_ms && now_ms - end->sent_ms < OUTBOX_RESEND_MS) continue;
        if (end->sent_ms) outbox->resent++;
        end->sent_ms = now_ms ? now_ms : 1;
        ret[n++] = end->done;
        size += end->size;
    }
    return n;
}
