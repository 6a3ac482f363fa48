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

static err_t copy_bytes(struct intake *intake, struct span *bytes)
{
    if (bytes->size == 0) return ERR_ok;
    uint8_t *copy = arena_take(&intake->arena, bytes->size, 1);
    if (!copy) return ERR_memory;
    memcpy(copy, bytes->data, bytes->size);
    bytes->data = copy;
    return ERR_ok;
}

static err_t copy_turns(struct intake *intake, struct wire_u64s *turns)
{
    if (turns->n == 0) return ERR_ok;
    uint64_t *copy = arena_array(&intake->arena, uint64_t, turns->n);
    if (!copy) return ERR_memory;
    memcpy(copy, turns->v, turns->n * sizeof *copy);
    turns->v = copy;
    return ERR_ok;
}

static err_t copy_judged(struct intake *intake, const struct wire_batch *batch)
{
    intake->judged = arena_array(&intake->arena, struct wire_judged, batch->judged_count + 1);
    if (!intake->judged) return ERR_memory;
    for (size_t i = 0; i < batch->judged_count; i++) {
        intake->judged[i] = batch->judged[i];
        TRY(copy_bytes(intake, &intake->judged[i].payload));
    }
    intake->case_count = batch->judged_count;
    return ERR_ok;
}

static err_t copy_members(struct intake *intake, const struct wire_batch *batch)
{
    intake->members = arena_array(&intake->arena, struct wire_batch_member, batch->members_count + 1);
    if (!intake->members) return ERR_memory;
    for (size_t i = 0; i < batch->members_count; i++) {
        struct wire_batch_member *member = &intake->members[i];
        *member = batch->members[i];
        TRY(copy_turns(intake, &member->dropped));
        TRY(copy_bytes(intake, &member->payload));
        TRY(copy_bytes(intake, &member->source));
    }
    intake->count = batch->members_count;
    return ERR_ok;
}

err_t intake_new(struct intake **ret, const struct wire_batch *batch)
{
    enum intake_kind kind = INTAKE_KIND_end;
    TRY(kind_of(batch->kind, &kind));
    if (batch->extra_passes > INTAKE_PASSES)
        return err_set(ERR_malformed, "extra_passes: %lu; at most %d", (unsigned long)batch->extra_passes, INTAKE_PASSES);
    struct intake *intake = calloc(1, sizeof *intake);
    if (!intake) return err_set(ERR_memory, "a batch");
    *intake = (struct intake){.kind = kind,
                              .update = batch->update,
                              .norm_tokens = (double)batch->norm_tokens,
                              .extra_passes = (size_t)batch->extra_passes,
                              .discarded = batch->discarded,
                              .phase = (int64_t)batch->phase,
                              .phase_end = batch->phase_end};
    arena_init(&intake->arena, INTAKE_BATCH_BYTES);
    err_t err = copy_members(intake, batch);
    if (err == ERR_ok) err = copy_judged(intake, batch);
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

/* The sequence of a payload. */
static err_t unpack(struct intake *intake, struct span payload, uint64_t raw_size, struct buf *raw, struct sequence *ret)
{
    if (raw_size == 0 || raw_size > INTAKE_RAW_BYTES)
        return err_set(ERR_malformed, "a payload of %lu bytes; 1 to %zu are allowed", (unsigned long)raw_size,
                       INTAKE_RAW_BYTES);
    buf_clear(raw);
    TRY(buf_reserve(raw, raw_size));
    size_t size = ZSTD_decompress(raw->data, raw_size, payload.data, payload.size);
    if (ZSTD_isError(size)) return err_set(ERR_malformed, "zstd: %s", ZSTD_getErrorName(size));
    if (size != raw_size)
        return err_set(ERR_malformed, "%zu bytes came out of its payload, %lu are on record", size, (unsigned long)raw_size);
    raw->size = size;
    return sequence_decode(buf_span(raw), &intake->arena, ret);
}

/* A flag for each turn that is not trained on. */
static err_t drop_turns(struct intake *intake, const struct wire_u64s *turns, struct episode *episode)
{
    if (turns->n == 0) return ERR_ok;
    uint8_t *dropped = arena_array(&intake->arena, uint8_t, episode->turns + 1);
    if (!dropped) return ERR_memory;
    for (size_t i = 0; i < turns->n; i++) {
        if (turns->v[i] >= episode->turns)
            return err_set(ERR_malformed, "turn %lu is dropped, there are %u", (unsigned long)turns->v[i], episode->turns);
        dropped[turns->v[i]] = 1;
    }
    episode->dropped = dropped;
    return ERR_ok;
}

/* What is not on record: targets of a demonstration, turns. */
static void count_actions(struct episode *episode, bool tokens, bool turns)
{
    uint32_t last = UINT32_MAX, targets = 0, many = 0;
    for (uint32_t t = 0; t < episode->count; t++) {
        if (!episode->target[t] || episode_drops(episode, episode->turn[t])) continue;
        targets++;
        many += episode->turn[t] != last ? 1 : 0;
        last = episode->turn[t];
    }
    if (tokens) episode->action_tokens = targets;
    if (turns) episode->action_turns = many;
}

static err_t decode_payload(struct intake *intake, const struct wire_batch_member *member, struct buf *raw,
                            struct episode *episode)
{
    struct sequence sequence;
    TRY(unpack(intake, member->payload, member->payload_raw, raw, &sequence));
    episode->sampled = sequence.sampled;
    episode->count = sequence.count;
    episode->token = sequence.token;
    episode->target = sequence.target;
    episode->logp = sequence.logp;
    episode->version = sequence.version;
    episode->turns = sequence.turns;
    episode->turn = sequence.turn;
    episode->hint = sequence.hint;
    episode->segments = sequence.segments;
    episode->segment = sequence.segment;
    TRY(drop_turns(intake, &member->dropped, episode));
    count_actions(episode, intake->kind == INTAKE_KIND_warmstart, episode->action_turns == 0);
    return ERR_ok;
}

static err_t decode_member(struct intake *intake, size_t index, struct buf *raw)
{
    const struct wire_batch_member *member = &intake->members[index];
    struct episode *episode = &intake->episodes[index];
    if (member->action_tokens > SEQUENCE_MAX_TOKENS || member->turns > SEQUENCE_MAX_TOKENS)
        return err_set(ERR_malformed, "%lu action tokens in %lu turns", (unsigned long)member->action_tokens,
                       (unsigned long)member->turns);
    *episode = (struct episode){.id = member->episode,
                                .group = member->group,
                                .signal = intake->kind == INTAKE_KIND_warmstart || member->signal,
                                .action_tokens = (uint32_t)member->action_tokens,
                                .action_turns = (uint32_t)member->turns,
                                .advantage = member->advantage,
                                .reward = member->reward};
    return member->payload.size == 0 && !episode->signal ? ERR_ok : decode_payload(intake, member, raw, episode);
}

/* What the reward model reads of an episode with a verified outcome. */
static err_t decode_judged(struct intake *intake, size_t index, const struct intake_reader *reader, struct buf *raw)
{
    const struct wire_judged *judged = &intake->judged[index];
    struct sequence sequence;
    TRY(unpack(intake, judged->payload, judged->payload_raw, raw, &sequence));
    int32_t *token = arena_array(&intake->arena, int32_t, reader->room);
    if (!token) return ERR_memory;
    uint32_t count = judge_layout(&reader->judge, &sequence, token, reader->room);
    if (count == 0) return err_set(ERR_malformed, "a verdict prompt does not fit %u tokens", reader->room);
    intake->cases[index] = (struct orm_case){
        .id = judged->episode, .token = token, .count = count, .success = judged->success, .test = judged->test};
    return ERR_ok;
}

err_t intake_decode(struct intake *intake, const struct intake_reader *reader)
{
    AUTO(buf) raw = {0};
    buf_init(&raw, INTAKE_RAW_BYTES);
    intake->episodes = arena_array(&intake->arena, struct episode, intake->count + 1);
    intake->cases = arena_array(&intake->arena, struct orm_case, intake->case_count + 1);
    if (!intake->episodes || !intake->cases) return ERR_memory;
    for (size_t i = 0; i < intake->count; i++) {
        err_t err = decode_member(intake, i, &raw);
        if (err != ERR_ok) return err_prefix(err, "episode %lu is poisoned", (unsigned long)intake->members[i].episode);
    }
    if (intake->case_count > 0 && reader->room == 0)
        return err_set(ERR_malformed, "%zu judged episodes, but the job has no outcome reward model", intake->case_count);
    for (size_t i = 0; i < intake->case_count; i++) {
        err_t err = decode_judged(intake, i, reader, &raw);
        if (err != ERR_ok) return err_prefix(err, "judged episode %lu", (unsigned long)intake->judged[i].episode);
    }
    return ERR_ok;
}

struct update_batch intake_update(const struct intake *intake)
{
    return (struct update_batch){.update = intake->update,
                                 .episodes = intake->episodes,
                                 .count = intake->count,
                                 .norm_tokens = intake->norm_tokens,
                                 .extra_passes = intake->extra_passes,
                                 .discarded = intake->discarded};
}
