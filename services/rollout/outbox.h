/* Ends of episodes that the data manager has not committed yet: sent in sets, sent again until acknowledged. */
#ifndef PAL_ROLLOUT_SERVICE_OUTBOX_H
#define PAL_ROLLOUT_SERVICE_OUTBOX_H

#include "services/common/wire/wire.h"

#define OUTBOX_MOST      4096                /* past this no lease is asked for, */
#define OUTBOX_BYTES     ((size_t)256 << 20) /* nor past this */
#define OUTBOX_RESEND_MS 3000
#define OUTBOX_SET       256                /* ends in one message, */
#define OUTBOX_SET_BYTES ((size_t)16 << 20) /* or until it is about so large */

struct outbox_end {
    struct wire_episode_done done; /* its bytes are owned by `bytes` */
    uint8_t *bytes;
    size_t size;
    uint64_t sent_ms; /* 0: not yet */
};

struct outbox {
    uint64_t job;
    struct outbox_end *ends; /* [count] */
    size_t count, room, bytes;
    uint64_t resent;
};

void outbox_clear(struct outbox *outbox);
/* Copies what the end borrows, except the names of its scores, which are literals. */
err_t outbox_add(struct outbox *outbox, const struct wire_episode_done *done) MUST_USE;
/* Nothing is committed: who fills it shall play no more. */
bool outbox_is_full(const struct outbox *outbox);
void outbox_acknowledge(struct outbox *outbox, const struct wire_u64s *tokens);
void outbox_forget_sent(struct outbox *outbox); /* all are due again */
/* The next set of due ends, marked as sent now; 0 when none is due. ret holds OUTBOX_SET. */
size_t outbox_due(struct outbox *outbox, uint64_t now_ms, struct wire_episode_done *ret);

#endif
