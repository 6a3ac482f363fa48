#include "services/env/outbox.h"

#include "services/common/run/log.h"

#include <stdio.h>
#include <stdlib.h>

err_t outbox_init(struct outbox *outbox, outbox_send_t send, void *ctx)
{
    *outbox = (struct outbox){.send = send, .ctx = ctx};
    arena_init(&outbox->arena, OUTBOX_BYTES);
    outbox->items = calloc(OUTBOX_ITEMS, sizeof *outbox->items);
    outbox->list = calloc(OUTBOX_LIST, sizeof *outbox->list);
    if (outbox->items && outbox->list) return ERR_ok;
    outbox_fini(outbox);
    return err_set(ERR_memory, "the outbox");
}

void outbox_fini(struct outbox *outbox)
{
    arena_fini(&outbox->arena);
    free(outbox->items);
    free(outbox->list);
    *outbox = (struct outbox){0};
}

static bool keep(struct outbox *outbox, struct span *text)
{
    if (text->size == 0) return true;
    uint8_t *copy = arena_array(&outbox->arena, uint8_t, text->size);
    if (!copy) return false;
    memcpy(copy, text->data, text->size);
    text->data = copy;
    return true;
}

static bool put(struct outbox *outbox, const char *peer, uint64_t job, const struct wire_observation *observation)
{
    if (outbox->count == OUTBOX_ITEMS) return false;
    struct outbox_item *item = &outbox->items[outbox->count];
    *item = (struct outbox_item){.job = job, .observation = *observation};
    (void)snprintf(item->peer, sizeof item->peer, "%s", peer);
    struct wire_observation *o = &item->observation;
    if (!keep(outbox, &o->text) || !keep(outbox, &o->error) || !keep(outbox, &o->detail) || !keep(outbox, &o->expert) ||
        !keep(outbox, &o->hint))
        return false;
    outbox->count++;
    return true;
}

void outbox_add(struct outbox *outbox, const char *peer, uint64_t job, const struct wire_observation *observation)
{
    if (put(outbox, peer, job, observation)) return;
    outbox_flush(outbox);
    if (!put(outbox, peer, job, observation)) outbox->lost++;
}

/* Sends what is for the same worker and job as items[first], in their order; returns how many. */
static size_t send_from(struct outbox *outbox, size_t first)
{
    const struct outbox_item *head = &outbox->items[first];
    struct wire_observations message = {.job = head->job, .items = outbox->list};
    for (size_t i = first; i < outbox->count && message.items_count < OUTBOX_LIST; i++) {
        struct outbox_item *item = &outbox->items[i];
        if (item->sent || item->job != head->job || strcmp(item->peer, head->peer) != 0) continue;
        item->sent = true;
        outbox->list[message.items_count++] = item->observation;
    }
    err_t err = outbox->send(outbox->ctx, head->peer, &message);
    if (err == ERR_ok) return message.items_count;
    log_err(LOG_LEVEL_WARN, err, "answering a worker");
    outbox->lost += message.items_count;
    return message.items_count;
}

void outbox_flush(struct outbox *outbox)
{
    for (size_t i = 0, sent = 0; i < outbox->count && sent < outbox->count; i++) {
        if (!outbox->items[i].sent) sent += send_from(outbox, i);
    }
    outbox->count = 0;
    arena_clear(&outbox->arena);
}
