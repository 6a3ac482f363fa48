#include "services/common/handout/handout.h"

#include "curation/phase.h"
#include "services/common/store/store_episode.h"
#include "services/common/store/store_phase.h"

bool handout_reads(const struct job_spec *spec, bool signal, bool first)
{
    bool value =
        spec->trainer.loss == JOB_LOSS_PPO || spec->trainer.loss == JOB_LOSS_WEBRL || spec->webrl.on || spec->replay_ratio.on;
    return signal || value || (first && spec->curriculum.kind == JOB_CURRICULUM_GAIN_RL);
}

struct span handout_source(const char *source)
{
    return span_text(strcmp(source, "fresh") == 0 || strcmp(source, "demonstration") == 0 ? "" : source);
}

void handout_member(const struct store_batch *batch, size_t i, const struct store_member *kept, struct wire_batch_member *ret)
{
    *ret = (struct wire_batch_member){
        .episode = (uint64_t)batch->episodes[i],
        .group = (uint64_t)batch->member_group[i],
        .advantage = batch->advantage[i],
        .signal = kept->signal,
        .action_tokens = (uint64_t)kept->action_tokens,
        .pass = (uint64_t)batch->pass[i],
        .source = handout_source(batch->source[i]),
        .reward = kept->reward,
        .turns = kept->turns ? 0 : (uint64_t)kept->steps, /* as far as they were told */
    };
    for (size_t t = 0; t < kept->turns; t++) ret->turns += kept->turn_tokens[t] > 0;
    if (!batch->dropped || batch->dropped[i].n == 0) return;
    ret->dropped = (struct wire_u64s){batch->dropped[i].v, batch->dropped[i].n};
    for (size_t k = 0; k < batch->dropped[i].n; k++) {
        uint64_t turn = batch->dropped[i].v[k];
        if (turn < kept->turns) ret->action_tokens -= (uint64_t)kept->turn_tokens[turn];
    }
    ret->turns -= batch->dropped[i].n;
}

err_t handout_payloads(struct store *store, int64_t job, const struct job_spec *spec, struct wire_batch_member *members,
                       size_t count, struct arena *arena)
{
    int64_t *missing = arena_array(arena, int64_t, count + 1);
    size_t *place = arena_array(arena, size_t, count + 1), n = 0;
    struct store_payload *payloads = arena_array(arena, struct store_payload, count + 1);
    if (!missing || !place || !payloads) return ERR_memory;
    for (size_t i = 0; i < count; i++) {
        bool first = i == 0 || members[i].group != members[i - 1].group;
        if (members[i].payload.size > 0 || !handout_reads(spec, members[i].signal, first)) continue;
        place[n] = i;
        missing[n++] = (int64_t)members[i].episode;
    }
    if (n == 0) return ERR_ok;
    TRY(store_payload_read(store, job, missing, n, arena, payloads));
    for (size_t i = 0; i < n; i++) {
        members[place[i]].payload = payloads[i].bytes;
        members[place[i]].payload_raw = (uint64_t)payloads[i].raw_size;
    }
    return ERR_ok;
}

err_t handout_members(struct store *store, int64_t job, const struct job_spec *spec, const struct store_batch *batch,
                      struct arena *arena, struct wire_batch_member **ret, struct store_member **ret_kept)
{
    size_t count = batch->episode_count;
    struct store_member *kept = NULL;
    TRY(store_batch_members(store, job, batch, arena, &kept));
    struct wire_batch_member *members = arena_array(arena, struct wire_batch_member, count + 1);
    if (!members) return ERR_memory;
    for (size_t i = 0; i < count; i++) handout_member(batch, i, &kept[i], &members[i]);
    TRY(handout_payloads(store, job, spec, members, count, arena));
    *ret = members;
    *ret_kept = kept;
    return ERR_ok;
}

err_t handout_judged(struct store *store, int64_t job, const struct job_spec *spec, const struct store_batch *batch,
                     struct arena *arena, struct wire_judged **ret)
{
    size_t count = batch->judged_count;
    struct store_outcome *outcomes = NULL;
    *ret = NULL;
    if (count == 0) return ERR_ok;
    struct store_payload *payloads = arena_array(arena, struct store_payload, count);
    struct wire_judged *judged = arena_array(arena, struct wire_judged, count);
    if (!payloads || !judged) return ERR_memory;
    TRY(store_phase_outcomes(store, job, batch->judged, count, arena, &outcomes));
    TRY(store_payload_read(store, job, batch->judged, count, arena, payloads));
    for (size_t i = 0; i < count; i++)
        judged[i] = (struct wire_judged){.episode = (uint64_t)batch->judged[i],
                                         .success = outcomes[i].reward >= 0.5,
                                         .test = phase_tests((uint64_t)spec->seed, outcomes[i].task),
                                         .payload = payloads[i].bytes,
                                         .payload_raw = (uint64_t)payloads[i].raw_size};
    *ret = judged;
    return ERR_ok;
}

struct wire_batch handout_message(int64_t job, const struct store_batch *batch, const struct wire_batch_member *members,
                                  const struct wire_judged *judged)
{
    return (struct wire_batch){.job = (uint64_t)job,
                               .lineage = batch->lineage,
                               .update = batch->update,
                               .kind = span_text(batch->kind),
                               .norm_tokens = (uint64_t)batch->norm_tokens,
                               .groups = batch->group_count,
                               .no_signal_groups = (uint64_t)batch->no_signal_groups,
                               .discarded = batch->passes == 0,
                               .extra_passes = batch->passes > 0 ? (uint64_t)batch->passes - 1 : 0,
                               .phase = (uint64_t)batch->phase,
                               .phase_end = batch->phase_end,
                               .judged = judged,
                               .judged_count = batch->judged_count,
                               .members = members,
                               .members_count = batch->episode_count};
}
