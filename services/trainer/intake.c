#include "services/trainer/intake.h"

#include "rollout/sequence.h"

#include <stdlib.h>
#include <zstd.h>

static err_t kind_of(struct span name, enum intake_kind *ret)
{
    static const char *const names[] = {"warmstart", "update", "end"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!span_is(name, names[i])) continue;
        *ret = (enum intake_kind)i;
        return ERR_ok;
    }
    return err_set(ERR_malformed, "a batch of kind \"%.*s\"; there are warmstart, update and end", SPAN_ARG(name));
}

static err_t copy_members(struct intake *intake, const struct wire_batch *batch)
{
    intake->members = arena_array(&intake->arena, struct wire_batch_member, batch->members_count + 1);
    if (!intake->members) return ERR_memory;
    for (size_t i = 0; i < batch->members_count; i++) {
        struct wire_batch_member *member = &intake->members[i];
        *member = batch->members[i];
        if (member->payload.size == 0) continue;
        uint8_t *copy = arena_take(&intake->arena, member->payload.size, 1);
        if (!copy) return ERR_memory;
        memcpy(copy, member->payload.data, member->payload.size);
        member->payload.data = copy;
    }
    intake->count = batch->members_count;
    return ERR_ok;
}

err_t intake_new(struct intake **ret, const struct wire_batch *batch)
{
    enum intake_kind kind = INTAKE_KIND_end;
    TRY(kind_of(batch->kind, &kind));
    struct intake *intake = calloc(1, sizeof *intake);
    if (!intake) return err_set(ERR_memory, "a batch");
    *intake = (struct intake){.kind = kind, .update = batch->update, .norm_tokens = (double)batch->norm_tokens};
    arena_init(&intake->arena, INTAKE_BATCH_BYTES);
    err_t err = copy_members(intake, batch);
    if (err != ERR_ok)
        intake_free(&intake);
    else
        *ret = intake;
    return err;
}

void intake_free(struct intake **intake)
{
    struct intake *i = *intake;
    *intake = NULL;
    if (!i) return;
    arena_fini(&i->arena);
    free(i);
}

static err_t decompress(const struct wire_batch_member *member, struct buf *raw)
{
    if (member->payload_raw == 0 || member->payload_raw > INTAKE_RAW_BYTES)
        return err_set(ERR_malformed, "a payload of %lu bytes; 1 to %zu are allowed", (unsigned long)member->payload_raw,
                       INTAKE_RAW_BYTES);
    buf_clear(raw);
    TRY(buf_reserve(raw, member->payload_raw));
    size_t size = ZSTD_decompress(raw->data, member->payload_raw, member->payload.data, member->payload.size);
    if (ZSTD_isError(size)) return err_set(ERR_malformed, "zstd: %s", ZSTD_getErrorName(size));
    if (size != member->payload_raw)
        return err_set(ERR_malformed, "%zu bytes came out of its payload, %lu are on record", size,
                       (unsigned long)member->payload_raw);
    raw->size = size;
    return ERR_ok;
}

static uint32_t count_targets(const struct sequence *sequence)
{
    uint32_t targets = 0;
    for (uint32_t t = 0; t < sequence->count; t++) targets += sequence->target[t] ? 1 : 0;
    return targets;
}

static err_t decode_member(struct intake *intake, size_t index, struct buf *raw)
{
    const struct wire_batch_member *member = &intake->members[index];
    struct episode *episode = &intake->episodes[index];
    if (member->action_tokens > SEQUENCE_MAX_TOKENS)
        return err_set(ERR_malformed, "%lu action tokens", (unsigned long)member->action_tokens);
    bool warmstart = intake->kind == INTAKE_KIND_warmstart;
    *episode = (struct episode){.id = member->episode,
                                .group = member->group,
                                .signal = warmstart || member->signal,
                                .action_tokens = (uint32_t)member->action_tokens,
                                .advantage = member->advantage};
    if (!episode->signal) return ERR_ok;
    struct sequence sequence;
    TRY(decompress(member, raw));
    TRY(sequence_decode(buf_span(raw), &intake->arena, &sequence));
    episode->sampled = sequence.sampled;
    episode->count = sequence.count;
    episode->token = sequence.token;
    episode->target = sequence.target;
    episode->logp = sequence.logp;
    episode->version = sequence.version;
    if (warmstart) episode->action_tokens = count_targets(&sequence); /* shown, not sampled: nothing is on record */
    return ERR_ok;
}

err_t intake_decode(struct intake *intake)
{
    AUTO(buf) raw = {0};
    buf_init(&raw, INTAKE_RAW_BYTES);
    intake->episodes = arena_array(&intake->arena, struct episode, intake->count + 1);
    if (!intake->episodes) return ERR_memory;
    for (size_t i = 0; i < intake->count; i++) {
        err_t err = decode_member(intake, i, &raw);
        if (err != ERR_ok) return err_prefix(err, "episode %lu is poisoned", (unsigned long)intake->members[i].episode);
    }
    return ERR_ok;
}
