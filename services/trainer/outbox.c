#include "services/trainer/outbox.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void send_entry(struct outbox *outbox, struct outbox_entry *entry)
{
    entry->sent_ms = uv_now(&outbox->service->loop);
    if (entry->what == WIRE_update_done)
        service_tell(outbox->service, entry->what, &entry->update);
    else
        service_tell(outbox->service, entry->what, &entry->checkpoint);
}

static void forget(struct outbox *outbox, size_t index)
{
    free(outbox->entries[index]);
    outbox->count--;
    for (size_t i = index; i < outbox->count; i++) outbox->entries[i] = outbox->entries[i + 1];
}

void outbox_clear(struct outbox *outbox)
{
    while (outbox->count > 0) forget(outbox, outbox->count - 1);
}

/* NULL after err_set */
static struct outbox_entry *add(struct outbox *outbox, enum wire_id what)
{
    struct outbox_entry *entry = outbox->count < OUTBOX_ENTRIES ? calloc(1, sizeof *entry) : NULL;
    if (!entry) {
        (void)err_set(ERR_busy, "%zu messages wait for the data manager", outbox->count);
        return NULL;
    }
    entry->what = what;
    outbox->entries[outbox->count++] = entry;
    return entry;
}

/* A digest as the entry keeps it. */
static struct span keep_digest(struct digest *kept, struct span hex)
{
    (void)snprintf(kept->hex, sizeof kept->hex, "%.*s", SPAN_ARG(hex));
    return span_text(kept->hex);
}

err_t outbox_update_done(struct outbox *outbox, const struct wire_update_done *message, const struct diagnostics *figures)
{
    struct outbox_entry *entry = add(outbox, WIRE_update_done);
    if (!entry) return ERR_busy;
    entry->update = *message;
    entry->update.digest = keep_digest(&entry->digest, message->digest);
    size_t count = 0;
    for (size_t i = 0; figures && i < DIAGNOSTICS_COUNT; i++) {
        enum diagnostics_figure figure = (enum diagnostics_figure)i;
        double value = diagnostics_value(figures, figure);
        if (!isnan(value)) entry->metrics[count++] = (struct wire_counter){span_text(diagnostics_name(figure)), value};
    }
    entry->update.metrics = entry->metrics;
    entry->update.metrics_count = count;
    send_entry(outbox, entry);
    return ERR_ok;
}

err_t outbox_checkpoint(struct outbox *outbox, const struct wire_checkpoint_committed *message)
{
    struct outbox_entry *entry = add(outbox, WIRE_checkpoint_committed);
    if (!entry) return ERR_busy;
    entry->checkpoint = *message;
    (void)snprintf(entry->path, sizeof entry->path, "%.*s", SPAN_ARG(message->path));
    entry->checkpoint.path = span_text(entry->path);
    entry->checkpoint.digest = keep_digest(&entry->digest, message->digest);
    entry->checkpoint.sha256 = keep_digest(&entry->sha256, message->sha256);
    send_entry(outbox, entry);
    return ERR_ok;
}

bool outbox_ack(struct outbox *outbox, const struct wire_trainer_ack *ack)
{
    for (size_t i = 0; i < outbox->count; i++) {
        const struct outbox_entry *entry = outbox->entries[i];
        bool done = entry->what == WIRE_update_done;
        int64_t update = done ? entry->update.update : entry->checkpoint.update;
        int64_t lineage = done ? entry->update.lineage : entry->checkpoint.lineage;
        if ((uint64_t)entry->what != ack->what || update != ack->update || lineage != ack->lineage) continue;
        forget(outbox, i);
        return true;
    }
    return false;
}

bool outbox_holds(const struct outbox *outbox, enum wire_id what)
{
    for (size_t i = 0; i < outbox->count; i++) {
        if (outbox->entries[i]->what == what) return true;
    }
    return false;
}

void outbox_resend(struct outbox *outbox, bool everything)
{
    uint64_t now = uv_now(&outbox->service->loop);
    for (size_t i = 0; i < outbox->count; i++) {
        if (!everything && now - outbox->entries[i]->sent_ms < OUTBOX_RESEND_MS) continue;
        send_entry(outbox, outbox->entries[i]);
        outbox->resent++;
    }
}
