#include "services/env/slots.h"

#include "services/common/base/rng.h"

#include <stdlib.h>

static size_t bucket_of(uint64_t job, uint64_t episode)
{
    return (size_t)(rng_mix(job, episode) % SLOTS_BUCKETS);
}

static struct slot_list *list_of(struct slots *slots, enum slot_state state)
{
    switch (state) {
    case SLOT_STATE_WAITING:
        return &slots->waiting;
    case SLOT_STATE_ENDED:
        return &slots->ended;
    case SLOT_STATE_RESETTING:
    case SLOT_STATE_READY:
    case SLOT_STATE_STEPPING:
        break;
    }
    return &slots->seated;
}

static void unlink_slot(struct slot_list *list, struct slot *slot)
{
    if (slot->prev)
        slot->prev->next = slot->next;
    else
        list->first = slot->next;
    if (slot->next)
        slot->next->prev = slot->prev;
    else
        list->last = slot->prev;
    slot->prev = slot->next = NULL;
    list->count--;
}

static void append(struct slot_list *list, struct slot *slot)
{
    slot->prev = list->last;
    if (list->last)
        list->last->next = slot;
    else
        list->first = slot;
    list->last = slot;
    list->count++;
}

struct slot *slots_find(const struct slots *slots, uint64_t job, uint64_t episode)
{
    struct slot *slot = slots->buckets[bucket_of(job, episode)];
    while (slot && (slot->job != job || slot->episode != episode)) slot = slot->chain;
    return slot;
}

err_t slots_add(struct slots *slots, uint64_t job, uint64_t episode, struct slot **ret)
{
    if (slots->waiting.count + slots->seated.count >= SLOTS_LIVE)
        return err_set(ERR_busy, "the cluster holds %d episodes already", SLOTS_LIVE);
    struct slot *slot = calloc(1, sizeof *slot);
    if (!slot) return err_set(ERR_memory, "a slot");
    size_t bucket = bucket_of(job, episode);
    slot->job = job;
    slot->episode = episode;
    slot->chain = slots->buckets[bucket];
    slots->buckets[bucket] = slot;
    slot->state = SLOT_STATE_WAITING;
    buf_init(&slot->task, 0);
    buf_init(&slot->last.text, 0);
    buf_init(&slot->last.expert, 0);
    buf_init(&slot->last.hint, 0);
    append(&slots->waiting, slot);
    *ret = slot;
    return ERR_ok;
}

void slots_move(struct slots *slots, struct slot *slot, enum slot_state state)
{
    struct slot_list *from = list_of(slots, slot->state), *to = list_of(slots, state);
    slot->state = state;
    if (from != to) {
        unlink_slot(from, slot);
        append(to, slot);
    }
    if (slots->ended.count > SLOTS_ENDED) slots_forget(slots, slots->ended.first);
}

void slots_forget(struct slots *slots, struct slot *slot)
{
    BUG_IF(slot->seat);
    struct slot **link = &slots->buckets[bucket_of(slot->job, slot->episode)];
    while (*link != slot) link = &(*link)->chain;
    *link = slot->chain;
    unlink_slot(list_of(slots, slot->state), slot);
    buf_fini(&slot->task);
    buf_fini(&slot->last.text);
    buf_fini(&slot->last.expert);
    buf_fini(&slot->last.hint);
    free(slot);
}
