/* The members of a batch as they travel: from the groups in memory, or from the ledger when it is handed out again. */
#include "curation/admission.h"
#include "services/common/handout/handout.h"
#include "services/data/data.h"

/* A batch in the making: its row, and its members. */
struct packing {
    struct data *data;
    const struct plan *plan;
    struct store_batch *batch;
    struct wire_batch_member *members;
};

static int64_t age_of(const struct plan *plan, int64_t version_min)
{
    return version_min < 0 ? 0 : admission_age(plan->version, version_min);
}

/* Turns that are not trained on: neither they nor their tokens count. */
static err_t drop_turns(struct packing *p, size_t n, const struct slot *slot)
{
    struct store_turns *turns = &p->batch->dropped[n];
    turns->v = arena_array(&p->data->arena, uint64_t, slot->turn_count + 1);
    if (!turns->v) return ERR_memory;
    for (size_t t = 0; t < slot->turn_count; t++) {
        if (!slot->turn[t].dropped) continue;
        turns->v[turns->n++] = t;
        p->members[n].action_tokens -= (uint64_t)slot->turn[t].tokens;
        p->members[n].turns--;
    }
    p->members[n].dropped = (struct wire_u64s){turns->v, turns->n};
    return ERR_ok;
}

static err_t pack_slot(struct packing *p, const struct group *of, const struct slot *slot, bool first)
{
    bool signal = p->batch->update == 0 || of->signal;
    size_t n = p->batch->episode_count++;
    p->batch->episodes[n] = slot->episode;
    p->batch->advantage[n] = slot->advantage;
    p->batch->source[n] = p->batch->update == 0 ? "demonstration" : slot->hinted ? "hinted" : "fresh";
    p->batch->member_group[n] = of->id;
    p->members[n] = (struct wire_batch_member){
        .episode = (uint64_t)slot->episode,
        .group = (uint64_t)of->id,
        .advantage = slot->advantage,
        .signal = signal,
        .action_tokens = (uint64_t)slot->action_tokens,
        .age = age_of(p->plan, slot->version_min),
        .payload_raw = (uint64_t)slot->payload_raw,
        .source = handout_source(p->batch->source[n]),
        .reward = slot->reward,
        .turns = slot->turns,
    };
    if (handout_reads(&p->plan->spec, signal, first)) p->members[n].payload = slot->payload;
    if (slot->turn) TRY(drop_turns(p, n, slot));
    p->batch->norm_tokens += (int64_t)p->members[n].action_tokens;
    return ERR_ok;
}

/* What there is to say of it comes from the ledger. */
static void pack_pool(struct packing *p, const struct group *of)
{
    size_t n = p->batch->episode_count++;
    p->batch->episodes[n] = of->pool;
    p->batch->advantage[n] = of->pool_advantage;
    p->batch->source[n] = "pool";
    p->batch->member_group[n] = of->id;
}

static err_t pack_group(struct packing *p, const struct group *group)
{
    const struct group *const both[] = {group, group->plain};
    bool first = true;
    for (size_t g = 0; g < 2 && both[g]; g++) {
        for (size_t i = 0; i < both[g]->size; i++) {
            if (!both[g]->slots[i].member) continue;
            TRY(pack_slot(p, group, &both[g]->slots[i], first));
            first = false;
        }
    }
    if (group->pool >= 0) pack_pool(p, group);
    return ERR_ok;
}

err_t pack_groups(struct data *data, int64_t update, struct group **groups, size_t count, struct store_batch *ret,
                  struct wire_batch_member **ret_members)
{
    struct plan *plan = data->plan;
    size_t most = 1;
    for (size_t g = 0; g < count; g++) most += groups[g]->size + (groups[g]->plain ? groups[g]->plain->size : 0) + 1;
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
                                .dropped = arena_array(&data->arena, struct store_turns, most),
                                .passes = 1};
    struct packing p = {data, plan, ret, arena_array(&data->arena, struct wire_batch_member, most)};
    if (!ret->groups || !ret->episodes || !ret->pass || !ret->advantage || !ret->source || !ret->member_group ||
        !ret->dropped || !p.members)
        return ERR_memory;
    for (size_t g = 0; g < count; g++) {
        ret->groups[g] = groups[g]->id;
        ret->no_signal_groups += update > 0 && !groups[g]->signal;
        TRY(pack_group(&p, groups[g]));
    }
    *ret_members = p.members;
    return ERR_ok;
}

/* First pass of each pooled member: past those of earlier batches, and past what this one does with the same episode. */
static err_t take_passes(struct data *data, const size_t *place, const struct store_batch *pooled, struct store_batch *batch)
{
    int64_t passes = batch->passes > 1 ? batch->passes : 1;
    int64_t *next = arena_array(&data->arena, int64_t, pooled->episode_count + 1);
    if (!next) return ERR_memory;
    TRY(store_batch_passes(data->store, data->plan->job, pooled->episodes, pooled->episode_count, next));
    for (size_t i = 0; i < pooled->episode_count; i++) {
        for (size_t k = 0; k < batch->episode_count; k++) {
            bool taken = strcmp(batch->source[k], "pool") != 0 || k < place[i];
            if (!taken || batch->episodes[k] != pooled->episodes[i]) continue;
            if (next[i] < batch->pass[k] + passes) next[i] = batch->pass[k] + passes;
        }
        batch->pass[place[i]] = next[i];
    }
    return ERR_ok;
}

err_t pack_pooled(struct data *data, struct store_batch *batch, struct wire_batch_member *members)
{
    struct store_batch pooled = {.episodes = arena_array(&data->arena, int64_t, batch->episode_count + 1),
                                 .member_group = arena_array(&data->arena, int64_t, batch->episode_count + 1)};
    size_t *place = arena_array(&data->arena, size_t, batch->episode_count + 1);
    struct store_member *kept = NULL;
    if (!pooled.episodes || !pooled.member_group || !place) return ERR_memory;
    for (size_t i = 0; i < batch->episode_count; i++) {
        if (strcmp(batch->source[i], "pool") != 0) continue;
        place[pooled.episode_count] = i;
        pooled.member_group[pooled.episode_count] = batch->member_group[i];
        pooled.episodes[pooled.episode_count++] = batch->episodes[i];
    }
    if (pooled.episode_count == 0) return ERR_ok;
    TRY(take_passes(data, place, &pooled, batch));
    TRY(store_batch_members(data->store, data->plan->job, &pooled, &data->arena, &kept));
    for (size_t i = 0; i < pooled.episode_count; i++) {
        handout_member(batch, place[i], &kept[i], &members[place[i]]);
        members[place[i]].age = age_of(data->plan, kept[i].version_min);
        batch->norm_tokens += kept[i].action_tokens;
    }
    return ERR_ok;
}

err_t pack_stored(struct data *data, const struct store_batch *batch, struct wire_batch_member **ret)
{
    const struct plan *plan = data->plan;
    struct store_member *kept = NULL;
    TRY(handout_members(data->store, plan->job, &plan->spec, batch, &data->arena, ret, &kept));
    for (size_t i = 0; i < batch->episode_count; i++) (*ret)[i].age = age_of(plan, kept[i].version_min);
    return ERR_ok;
}

/* Payloads that memory did not keep come from the ledger; those of the groups' memory are copied, since it goes before the
 * message is sent. */
err_t pack_payloads(struct data *data, struct wire_batch_member *members, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct span *payload = &members[i].payload;
        if (payload->size == 0) continue;
        uint8_t *copy = arena_take(&data->arena, payload->size, 1);
        if (!copy) return ERR_memory;
        memcpy(copy, payload->data, payload->size);
        payload->data = copy;
    }
    return handout_payloads(data->store, data->plan->job, &data->plan->spec, members, count, &data->arena);
}
