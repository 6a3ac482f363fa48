/* What the data manager has not acknowledged yet: ends of updates and committed checkpoints, sent again until it has.
 *
 * Entries own their texts. The box holds OUTBOX_ENTRIES; while it is full the trainer starts nothing new. */
#ifndef PAL_SERVICES_TRAINER_OUTBOX_H
#define PAL_SERVICES_TRAINER_OUTBOX_H

#include "services/common/base/digest.h"
#include "services/common/run/service.h"
#include "trainer/diagnostics.h"

#define OUTBOX_ENTRIES    64
#define OUTBOX_PATH_BYTES 1024
#define OUTBOX_RESEND_MS  3000

struct outbox_entry {
    enum wire_id what; /* WIRE_update_done or WIRE_checkpoint_committed */
    uint64_t sent_ms;
    struct wire_update_done update;
    struct wire_checkpoint_committed checkpoint;
    struct wire_counter metrics[DIAGNOSTICS_COUNT];
    struct digest digest, sha256;
    char path[OUTBOX_PATH_BYTES];
};

struct outbox {
    struct service *service; /* borrowed */
    struct outbox_entry *entries[OUTBOX_ENTRIES];
    size_t count;
    uint64_t resent;
};

void outbox_clear(struct outbox *outbox);
static inline bool outbox_full(const struct outbox *outbox)
{
    return outbox->count + 2 > OUTBOX_ENTRIES; /* an update may leave two entries */
}

/* Copies the message and all it borrows, and sends it. outcome is a constant text. figures NULL: none. ERR_busy when it is
 * full.
 */
err_t outbox_update_done(struct outbox *outbox, const struct wire_update_done *message,
                         const struct diagnostics *figures) MUST_USE;
err_t outbox_checkpoint(struct outbox *outbox, const struct wire_checkpoint_committed *message) MUST_USE;

/* Forgets what an acknowledgement names; false when there was none such. */
bool outbox_ack(struct outbox *outbox, const struct wire_trainer_ack *ack);
bool outbox_holds(const struct outbox *outbox, enum wire_id what);

/* Sends what is older than OUTBOX_RESEND_MS again, or everything. */
void outbox_resend(struct outbox *outbox, bool everything);

#endif
