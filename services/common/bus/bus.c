#include "services/common/bus/bus.h"

#include "services/common/bus/faults.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

/* A frame that the socket would not take yet. */
struct waiting {
    struct waiting *next;
    uint64_t due_ms; /* not before; given up BUS_RETRY_MS later */
    size_t size;
    uint8_t bytes[];
};

struct peer_queue {
    char peer[BUS_PEER_BYTES];
    struct waiting *first, *last;
    size_t bytes;
    bool complained;
};

struct bus {
    uv_loop_t *loop;
    void *context, *socket;
    bool router;
    struct bus_events events;
    struct bus_counters counters;
    uv_poll_t poll;
    uv_prepare_t prepare;
    uv_timer_t retry;
    uv_idle_t spin; /* active while messages may be left after a full turn: keeps the loop from sleeping */
    int open_handles;
    struct peer_queue *queues; /* [queue_count] */
    size_t queue_count;
    struct arena arena; /* decoded messages of this turn */
    zmq_msg_t *frames;  /* [BUS_TURN_MESSAGES], alive until the turn ends */
    struct buf out;
    bool in_turn;
    struct faults faults;
};

static bool readable(struct bus *bus)
{
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(bus->socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN) != 0;
}

static struct peer_queue *queue_of(struct bus *bus, const char *peer, bool make)
{
    for (size_t i = 0; i < bus->queue_count; i++) {
        if (strcmp(bus->queues[i].peer, peer) == 0) return &bus->queues[i];
    }
    if (!make) return NULL;
    for (size_t i = 0; i < bus->queue_count; i++) {
        if (!bus->queues[i].first) { /* an emptied one is taken over */
            bus->queues[i] = (struct peer_queue){0};
            (void)snprintf(bus->queues[i].peer, BUS_PEER_BYTES, "%s", peer);
            return &bus->queues[i];
        }
    }
    if (bus->queue_count == BUS_PEERS) return NULL;
    struct peer_queue *more = realloc(bus->queues, (bus->queue_count + 1) * sizeof *more);
    if (!more) return NULL;
    bus->queues = more;
    more[bus->queue_count] = (struct peer_queue){0};
    (void)snprintf(more[bus->queue_count].peer, BUS_PEER_BYTES, "%s", peer);
    return &more[bus->queue_count++];
}

/* 0 sent, 1 try later */
static int push(struct bus *bus, const char *peer, const void *bytes, size_t size)
{
    if (bus->router && zmq_send(bus->socket, peer, strlen(peer), ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) return 1;
    if (zmq_send(bus->socket, bytes, size, ZMQ_DONTWAIT) < 0) return 1;
    bus->counters.sent++;
    bus->counters.sent_bytes += size;
    return 0;
}

static void drop_first(struct bus *bus, struct peer_queue *queue)
{
    struct waiting *w = queue->first;
    queue->first = w->next;
    if (!queue->first) queue->last = NULL;
    queue->bytes -= w->size;
    bus->counters.waiting--;
    free(w);
}

static void flush(struct bus *bus)
{
    uint64_t now = uv_now(bus->loop);
    for (size_t i = 0; i < bus->queue_count; i++) {
        struct peer_queue *queue = &bus->queues[i];
        while (queue->first && now >= queue->first->due_ms) {
            if (push(bus, queue->peer, queue->first->bytes, queue->first->size) != 0) {
                if (now - queue->first->due_ms < BUS_RETRY_MS) break;
                bus->counters.given_up++;
            }
            drop_first(bus, queue);
        }
    }
    if (bus->counters.waiting == 0) (void)uv_timer_stop(&bus->retry);
}

static void on_retry(uv_timer_t *timer)
{
    flush(timer->data);
}

static err_t enqueue(struct bus *bus, const char *peer, struct span frame, uint64_t delay_ms)
{
    struct peer_queue *queue = queue_of(bus, peer, true);
    if (!queue || queue->bytes + frame.size > BUS_QUEUE_BYTES) {
        bus->counters.given_up++;
        return err_set(ERR_busy, "the queue of peer %s is full", peer);
    }
    struct waiting *w = malloc(sizeof *w + frame.size);
    if (!w) return err_set(ERR_memory, "a waiting message");
    *w = (struct waiting){.due_ms = uv_now(bus->loop) + delay_ms, .size = frame.size};
    memcpy(w->bytes, frame.data, frame.size);
    if (queue->last)
        queue->last->next = w;
    else
        queue->first = w;
    queue->last = w;
    queue->bytes += frame.size;
    bus->counters.waiting++;
    if (!uv_is_active((uv_handle_t *)&bus->retry)) (void)uv_timer_start(&bus->retry, on_retry, 5, 5);
    return ERR_ok;
}

/* What lies in bus->out. */
static err_t send_frame(struct bus *bus, const char *peer, uint64_t delay_ms)
{
    struct peer_queue *queue = bus->counters.waiting ? queue_of(bus, peer, false) : NULL;
    bool behind = queue && queue->first; /* order is kept */
    if (!behind && !delay_ms && push(bus, peer, bus->out.data, bus->out.size) == 0) return ERR_ok;
    return enqueue(bus, peer, buf_span(&bus->out), delay_ms);
}

static err_t send_with_faults(struct bus *bus, const char *peer)
{
    struct fault fault = faults_draw(&bus->faults);
    bus->counters.faults += fault.drop || fault.duplicate || fault.delay_ms;
    if (fault.drop) return ERR_ok;
    TRY(send_frame(bus, peer, fault.delay_ms));
    return fault.duplicate ? send_frame(bus, peer, 0) : ERR_ok;
}

err_t bus_send(struct bus *bus, const char *peer, enum wire_id id, const void *message)
{
    if (!peer) peer = "";
    buf_clear(&bus->out);
    TRY(wire_encode(id, message, &bus->out));
    return bus->faults.on ? send_with_faults(bus, peer) : send_frame(bus, peer, 0);
}

/* Receives one message; false when there is none. The frame stays in *frame. */
static bool receive(struct bus *bus, char *peer, zmq_msg_t *frame, bool *ret_whole)
{
    peer[0] = 0;
    (void)zmq_msg_init(frame);
    if (zmq_msg_recv(frame, bus->socket, ZMQ_DONTWAIT) < 0) return false;
    if (bus->router) {
        size_t n = zmq_msg_size(frame);
        if (n >= BUS_PEER_BYTES) n = BUS_PEER_BYTES - 1;
        memcpy(peer, zmq_msg_data(frame), n);
        peer[n] = 0;
        if (!zmq_msg_more(frame)) return *ret_whole = false, true;
        (void)zmq_msg_close(frame);
        (void)zmq_msg_init(frame);
        if (zmq_msg_recv(frame, bus->socket, ZMQ_DONTWAIT) < 0) return *ret_whole = false, true;
    }
    *ret_whole = !zmq_msg_more(frame);
    for (bool more = !*ret_whole; more;) { /* parts that no message of ours has */
        zmq_msg_t rest;
        (void)zmq_msg_init(&rest);
        more = zmq_msg_recv(&rest, bus->socket, ZMQ_DONTWAIT) >= 0 && zmq_msg_more(&rest);
        (void)zmq_msg_close(&rest);
    }
    return true;
}

static void complain(struct bus *bus, const char *peer, const char *why)
{
    bus->counters.bad++;
    struct peer_queue *queue = queue_of(bus, peer, true);
    if (queue && queue->complained) return;
    if (queue) queue->complained = true;
    if (bus->events.on_bad) bus->events.on_bad(bus->events.ctx, peer, why);
}

static void turn(struct bus *bus)
{
    if (bus->in_turn) return;
    bus->in_turn = true;
    size_t held = 0, size = 0;
    char peer[BUS_PEER_BYTES];
    bool whole = false;
    while (held < BUS_TURN_MESSAGES && size < BUS_TURN_BYTES && receive(bus, peer, &bus->frames[held], &whole)) {
        zmq_msg_t *frame = &bus->frames[held++];
        struct span bytes = span_of(zmq_msg_data(frame), zmq_msg_size(frame));
        size += bytes.size;
        enum wire_id id = 0;
        const void *message = NULL;
        if (!whole)
            complain(bus, peer, "not one frame");
        else if (wire_decode(bytes, &bus->arena, &id, &message) != ERR_ok)
            complain(bus, peer, err_text());
        else {
            bus->counters.received++;
            bus->counters.received_bytes += bytes.size;
            bus->events.on_message(bus->events.ctx, peer, id, message);
        }
    }
    if (held && bus->events.on_turn) bus->events.on_turn(bus->events.ctx);
    for (size_t i = 0; i < held; i++) (void)zmq_msg_close(&bus->frames[i]);
    arena_clear(&bus->arena);
    bus->in_turn = false;
}

/* ZMQ_FD is edge-triggered: ZMQ_EVENTS is read again after every wake and before every sleep of the loop. */
static void on_spin(uv_idle_t *idle)
{
    struct bus *bus = idle->data;
    (void)uv_idle_stop(idle);
    turn(bus);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    turn(poll->data);
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct bus *bus = prepare->data;
    if (readable(bus)) (void)uv_idle_start(&bus->spin, on_spin);
}

static void destroy(struct bus *bus)
{
    if (bus->socket) (void)zmq_close(bus->socket);
    if (bus->context) (void)zmq_ctx_term(bus->context);
    for (size_t i = 0; i < bus->queue_count; i++) {
        while (bus->queues[i].first) drop_first(bus, &bus->queues[i]);
    }
    free(bus->queues);
    free(bus->frames);
    arena_fini(&bus->arena);
    buf_fini(&bus->out);
    free(bus);
}

static void on_closed(uv_handle_t *handle)
{
    struct bus *bus = handle->data;
    if (--bus->open_handles == 0) destroy(bus);
}

void bus_free(struct bus **bus)
{
    struct bus *b = *bus;
    *bus = NULL;
    if (!b) return;
    BUG_IF(b->in_turn);
    uv_close((uv_handle_t *)&b->poll, on_closed);
    uv_close((uv_handle_t *)&b->prepare, on_closed);
    uv_close((uv_handle_t *)&b->retry, on_closed);
    uv_close((uv_handle_t *)&b->spin, on_closed);
}

static bool endpoint_allowed(const char *endpoint)
{
    return strncmp(endpoint, "ipc://", 6) == 0 || strncmp(endpoint, "tcp://127.", 10) == 0 ||
           strncmp(endpoint, "tcp://localhost:", 16) == 0;
}

static bool set_int(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

static err_t open_socket(struct bus *bus, const char *endpoint, const char *identity)
{
    bus->context = zmq_ctx_new();
    if (!bus->context) return err_set(ERR_memory, "a ZeroMQ context");
    bus->socket = zmq_socket(bus->context, bus->router ? ZMQ_ROUTER : ZMQ_DEALER);
    if (!bus->socket) return err_set(ERR_memory, "a ZeroMQ socket: %s", zmq_strerror(errno));
    int64_t max_size = (int64_t)WIRE_MAX_BYTES;
    bool good = set_int(bus->socket, ZMQ_LINGER, 0) && set_int(bus->socket, ZMQ_SNDHWM, 4096) &&
                set_int(bus->socket, ZMQ_RCVHWM, 4096) &&
                zmq_setsockopt(bus->socket, ZMQ_MAXMSGSIZE, &max_size, sizeof max_size) == 0;
    if (bus->router) {
        good = good && set_int(bus->socket, ZMQ_ROUTER_MANDATORY, 1) && set_int(bus->socket, ZMQ_ROUTER_HANDOVER, 1);
    } else {
        good = good && set_int(bus->socket, ZMQ_RECONNECT_IVL, 50) && set_int(bus->socket, ZMQ_RECONNECT_IVL_MAX, 1000) &&
               zmq_setsockopt(bus->socket, ZMQ_ROUTING_ID, identity, strlen(identity)) == 0;
    }
    if (!good) return err_set(ERR_io, "a ZeroMQ socket option: %s", zmq_strerror(errno));
    if ((bus->router ? zmq_bind : zmq_connect)(bus->socket, endpoint) != 0)
        return err_set(ERR_unavailable, "%s: %s", endpoint, zmq_strerror(errno));
    return ERR_ok;
}

static err_t make(struct bus **ret, uv_loop_t *loop, const char *endpoint, const char *identity, struct bus_events events)
{
    if (!endpoint_allowed(endpoint))
        return err_set(ERR_refused, "%s: plain tcp is for loopback only; use ipc:// or tcp://127.0.0.1", endpoint);
    if (identity && (strlen(identity) >= BUS_PEER_BYTES || !identity[0]))
        return err_set(ERR_invalid, "identity %s", identity);
    struct bus *bus = calloc(1, sizeof *bus);
    if (!bus) return err_set(ERR_memory, "a bus link");
    *bus = (struct bus){.loop = loop, .router = !identity, .events = events};
    arena_init(&bus->arena, WIRE_MAX_BYTES);
    buf_init(&bus->out, WIRE_MAX_BYTES);
    bus->frames = calloc(BUS_TURN_MESSAGES, sizeof *bus->frames);
    /* an identity ends in a random incarnation: its service's name comes before */
    char name[BUS_PEER_BYTES] = "listener";
    if (identity) (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(identity, "-"), identity);
    err_t err = faults_init(&bus->faults, getenv(FAULTS_VARIABLE), name);
    if (err == ERR_ok) err = bus->frames ? open_socket(bus, endpoint, identity) : err_set(ERR_memory, "a bus link");
    int fd = -1;
    size_t size = sizeof fd;
    if (err == ERR_ok && zmq_getsockopt(bus->socket, ZMQ_FD, &fd, &size) != 0) err = err_set(ERR_io, "ZMQ_FD");
    if (err == ERR_ok && uv_poll_init(loop, &bus->poll, fd) != 0) err = err_set(ERR_io, "polling a ZeroMQ socket");
    if (err != ERR_ok) {
        destroy(bus);
        return err;
    }
    (void)uv_prepare_init(loop, &bus->prepare);
    (void)uv_timer_init(loop, &bus->retry);
    (void)uv_idle_init(loop, &bus->spin);
    bus->poll.data = bus->prepare.data = bus->retry.data = bus->spin.data = bus;
    bus->open_handles = 4;
    (void)uv_poll_start(&bus->poll, UV_READABLE, on_poll);
    (void)uv_prepare_start(&bus->prepare, on_prepare);
    *ret = bus;
    return ERR_ok;
}

err_t bus_listen(struct bus **ret, uv_loop_t *loop, const char *endpoint, struct bus_events events)
{
    return make(ret, loop, endpoint, NULL, events);
}

err_t bus_connect(struct bus **ret, uv_loop_t *loop, const char *endpoint, const char *identity, struct bus_events events)
{
    return make(ret, loop, endpoint, identity, events);
}

const struct bus_counters *bus_stats(const struct bus *bus)
{
    return &bus->counters;
}
