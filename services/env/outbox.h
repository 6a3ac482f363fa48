/* Observations on their way out: collected during a turn of the loop, sent as one message per worker and job.
 *
 * Texts are copied, so an environment may go on at once. What a full queue of the bus refuses is gone here and counted: the
 * slot remembers its answer, and the worker's repeated request gets it. */
#ifndef PAL_SERVICE_ENV_OUTBOX_H
#define PAL_SERVICE_ENV_OUTBOX_H

#include "services/common/bus/bus.h"

#define OUTBOX_BYTES (64u << 20) /* of texts in one turn; then they are sent early */
#define OUTBOX_ITEMS 16384
#define OUTBOX_LIST  1024 /* of a message, see messages.def */

struct outbox_item {
    char peer[BUS_PEER_BYTES];
    uint64_t job;
    bool sent;
    struct wire_observation observation;
};

/* Sends one message; ERR_busy or ERR_unavailable when the peer takes nothing any more. */
typedef err_t (*outbox_send_t)(void *ctx, const char *peer, const struct wire_observations *message);

struct outbox {
    struct arena arena;
    struct outbox_item *items;     /* [OUTBOX_ITEMS] */
    struct wire_observation *list; /* [OUTBOX_LIST] of the message being made */
    size_t count;
    uint64_t lost; /* observations that could not be sent */
    outbox_send_t send;
    void *ctx;
};

err_t outbox_init(struct outbox *outbox, outbox_send_t send, void *ctx) MUST_USE;
void outbox_fini(struct outbox *outbox);
void outbox_add(struct outbox *outbox, const char *peer, uint64_t job, const struct wire_observation *observation);
void outbox_flush(struct outbox *outbox);

#endif
