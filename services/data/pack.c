/* The members of a batch as they travel: from the groups in memory, or from the ledger when it is handed out again. */
#include "curation/admission.h"
#include "services/common/store/store_batch.h"
#include "services/common/store/store_episode.h"
#include "services/data/data.h"

/* A batch in the making: its row, and its members. */
struct packing {
    const struct plan *plan;
    struct store_batch *batch;
    struct wire_batch_member *members;
};

/* Does the trainer read it? The policy learns from members with signal, a value head from all, GAIN-RL looks at one prompt
 * of each group. */
static bool is_read(const struct job_spec *spec, bool signal, bool first)
{
    bool value = judge_by_value(spec) || spec->webrl.on || spec->replay_ratio.on;
    return signal || value || (first && spec->curriculum.kind == JOB_CURRICULUM_GAIN_RL);
}

/* What is fresh, or shown for the warm start, needs no word. */
static struct span source_of(const char *source)
{
    return span_text(strcmp(source, "fresh") == 0 || strcmp(source, "demonstration") == 0 ? "" : source);
}

static int64_t age_of(const struct plan *plan, int64_t version_min)
{
    return version_min < 0 ? 0 : admission_age(plan->version, version_min);
}

static void pack_slot(struct packing *p, const struct group *of, const struct slot *slot, bool first)
{
    bool signal = p->batch->update == 0 || of->signal;
    size_t n = p->batch->episode_count++;
    p->batch->episodes[n] = slot->episode;
    p->batch->advantage[n] = slot->advantage;
    p->batch->source[n] = p->batch->update == 0 ? "demonstration" : slot->hinted ? "hinted" : "fresh";
    p->batch->member_group[n] = of->id;
    p->batch->norm_tokens += slot->action_tokens;
    p->members[n] = (struct wire_batch_member){
        .episode = (uint64_t)slot->episode,
        .group = (uint64_t)of->id,
        .advantage = slot->advantage,
        .signal = signal,
        .action_tokens = (uint64_t)slot->action_tokens,
        .age = age_of(p->plan, slot->version_min),
        .payload_raw = (uint64_t)slot->payload_raw,
        .source = source_of(p->batch->source[n]),
        .reward = slot->reward,
        .turns = slot->turns,
    };
    if (is_read(&p->plan->spec, signal, first)) p->members[n].payload = slot->payload;
}

static void pack_group(struct packing *p, const struct group *group)
{
    const struct group *const both[] = {group, group->plain};
    bool first = true;
    for (size_t g = 0; g < 2 && both[g]; g++) {
        for (size_t i = 0; i < both[g]->size; i++) {
            if (!both[g]->slots[i].member) continue;
            pack_slot(p, group, &both[g]->slots[i], first);
            first = false;
        }
    }
}

err_t pack_groups(struct data *data, int64_t update, struct group **groups, size_t count, struct store_batch *ret,
                  struct wire_batch_member **ret_members)
{
    struct plan *plan = data->plan;
    size_t most = 1;
    for (size_t g = 0; g < count; g++) most += groups[g]->size + (groups[g]->plain ? groups[g]->plain->size : 0);
    *ret = (struct store_batch){.lineage = plan->lineage,
                                .update = update,
                                .kind = update == 0 ? "warmstart" : "update",
                                .groups = arena_array(&data->arena, int64_t, count + 1),
                                .group_count = count,
                                .episodes = arena_array(&data->arena, int64_t, most),
                                .pass = arena_array(&data->arena, int64_t, most),
                                .advantage = arena_array(&data->arena, double, most),
                                .source = arena_array(&data->arena, const char *, most),
                                .member_group = arena_array(&data->arena, int64_t, most),
                                .passes = 1};
    struct packing p = {plan, ret, arena_array(&data->arena, struct wire_batch_member, most)};
    if (!ret->groups || !ret->episodes || !ret->pass || !ret->advantage || !ret->source || !ret->member_group || !p.members)
        return ERR_memory;
    for (size_t g = 0; g < count; g++) {
        ret->groups[g] = groups[g]->id;
        ret->no_signal_groups += update > 0 && !groups[g]->signal;
        pack_group(&p, groups[g]);
    }
    *ret_members = p.members;
    return ERR_ok;
}

/* Turns with sampled tokens, as far as they were told. */
static uint64_t turns_of(const struct store_member *member)
{
    uint64_t turns = 0;
    for (size_t i = 0; i < member->turns; i++) turns += member->turn_tokens[i] > 0;
    return member->turns ? turns : (uint64_t)member->steps;
}

err_t pack_stored(struct data *data, const struct store_batch *batch, struct wire_batch_member **ret)
{
    const struct plan *plan = data->plan;
    size_t count = batch->episode_count;
    struct store_member *kept = NULL;
    TRY(store_batch_members(data->store, plan->job, batch, &data->arena, &kept));
    struct wire_batch_member *members = arena_array(&data->arena, struct wire_batch_member, count + 1);
    if (!members) return ERR_memory;
    for (size_t i = 0; i < count; i++) {
        members[i] = (struct wire_batch_member){
            .episode = (uint64_t)batch->episodes[i],
            .group = (uint64_t)batch->member_group[i],
            .advantage = batch->advantage[i],
            .signal = kept[i].signal,
            .action_tokens = (uint64_t)kept[i].action_tokens,
            .pass = (uint64_t)batch->pass[i],
            .age = age_of(plan, kept[i].version_min),
            .source = source_of(batch->source[i]),
            .reward = kept[i].reward,
            .turns = turns_of(&kept[i]),
        };
    }
    TRY(pack_payloads(data, members, count));
    *ret = members;
    return ERR_ok;
}

/* Payloads that memory did not keep come from the ledger; those of the groups' memory are copied, since it goes before the
 * message is sent. */
err_t pack_payloads(struct data *data, struct wire_batch_member *members, size_t count)
{
    int64_t *missing = arena_array(&data->arena, int64_t, count + 1);
    size_t *place = arena_array(&data->arena, size_t, count + 1), n = 0;
    if (!missing || !place) return ERR_memory;
    for (size_t i = 0; i < count; i++) {
        bool first = i == 0 || members[i].group != members[i - 1].group;
        struct span *payload = &members[i].payload;
        if (payload->size) {
            uint8_t *copy = arena_take(&data->arena, payload->size, 1);
            if (!copy) return ERR_memory;
            memcpy(copy, payload->data, payload->size);
            payload->data = copy;
        } else if (is_read(&data->plan->spec, members[i].signal, first)) {
            place[n] = i;
            missing[n++] = (int64_t)members[i].episode;
        }
    }
    if (n == 0) return ERR_ok;
    struct store_payload *payloads = arena_array(&data->arena, struct store_payload, n);
    if (!payloads) return ERR_memory;
    TRY(store_payload_read(data->store, data->plan->job, missing, n, &data->arena, payloads));
    for (size_t i = 0; i < n; i++) {
        members[place[i]].payload = payloads[i].bytes;
        members[place[i]].payload_raw = (uint64_t)payloads[i].raw_size;
    }
    return ERR_ok;
}
