/* The bus: ZeroMQ ROUTER/DEALER sockets inside a libuv loop, speaking wire messages.
 *
 * A link is one socket. A listener (ROUTER) hears many peers, each known by the identity it connected with; a connector
 * (DEALER) hears one listener. Per loop turn at most BUS_TURN_MESSAGES messages of about BUS_TURN_BYTES are handed to
 * on_message, then on_turn is called once; everything handed over lives until on_turn returns, so a service may collect a
 * turn's messages and answer them together. Sending never blocks and never drops silently: what the socket does not take now
 * waits in a bounded queue per peer, retried for BUS_RETRY_MS; what is refused or given up is counted. Bad frames are
 * counted, reported once per peer through on_bad, and ignored. Only this folder includes ZeroMQ. */
#ifndef PAL_BUS_BUS_H
#define PAL_BUS_BUS_H

#include "services/common/wire/wire.h"

#include <uv.h>

#define BUS_TURN_MESSAGES 256
#define BUS_TURN_BYTES    ((size_t)32 << 20) /* past this a turn takes no further message */
#define BUS_PEER_BYTES    64                 /* longest identity, terminator included */
#define BUS_PEERS         1024               /* most peers of a listener that may have a waiting queue */
#define BUS_QUEUE_BYTES   (64u << 20)        /* most bytes waiting for one peer */
#define BUS_RETRY_MS      10000

struct bus;

struct bus_events {
    void *ctx;
    /* peer: the sender's identity on a listener, "" on a connector */
    void (*on_message)(void *ctx, const char *peer, enum wire_id id, const void *message);
    void (*on_turn)(void *ctx);                                   /* may be NULL */
    void (*on_bad)(void *ctx, const char *peer, const char *why); /* may be NULL */
};

struct bus_counters {
    uint64_t received, received_bytes;
    uint64_t sent, sent_bytes;
    uint64_t bad;      /* frames refused */
    uint64_t given_up; /* messages that could not be delivered in time or found their queue full */
    uint64_t waiting;  /* in queues now */
    uint64_t faults;   /* messages dropped, repeated or held back on purpose (faults.h) */
};

/* endpoint: ipc:///path or tcp://127.0.0.1:port. ERR_refused for plain tcp on an address that is not loopback. */
err_t bus_listen(struct bus **ret, uv_loop_t *loop, const char *endpoint, struct bus_events events) MUST_USE;
err_t bus_connect(struct bus **ret, uv_loop_t *loop, const char *endpoint, const char *identity,
                  struct bus_events events) MUST_USE;
/* Stops its handles; memory goes when the loop has run their close callbacks. */
void bus_free(struct bus **bus);

/* peer NULL or "" on a connector. ERR_busy when the peer's queue is full, ERR_too_large for an oversize field. */
err_t bus_send(struct bus *bus, const char *peer, enum wire_id id, const void *message) MUST_USE;
const struct bus_counters *bus_stats(const struct bus *bus);

#endif
