#include "tests/support/proxy.h"

#include "services/common/base/buf.h"
#include "services/common/store/store.h"

#include <check.h>
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RAN  32 /* statements of a transaction that are remembered */
#define NAME 48

/* One connection: client is our side of the program's, server the one that we made for it. */
struct proxy_link {
    struct proxy *proxy;
    uv_pipe_t client, server;
    uv_connect_t connecting;
    uv_timer_t slow;
    struct buf from; /* what came from the client and is not passed on yet */
    char ran[RAN][NAME];
    size_t ran_count;
    bool started; /* the first message has no type byte */
    bool connected;
    bool held; /* nothing is passed on until the timer says so */
    bool lose; /* the next answer ends it */
    bool gone;
    int handles;
};

struct chunk {
    uv_write_t request;
    char bytes[];
};

static void on_link_closed(uv_handle_t *handle)
{
    struct proxy_link *link = handle->data;
    if (--link->handles > 0) return;
    buf_fini(&link->from);
    free(link);
}

static void drop(struct proxy_link *link)
{
    if (link->gone) return;
    link->gone = true;
    for (size_t i = 0; i < PROXY_LINKS; i++) {
        if (link->proxy->links[i] == link) link->proxy->links[i] = NULL;
    }
    uv_close((uv_handle_t *)&link->client, on_link_closed);
    uv_close((uv_handle_t *)&link->server, on_link_closed);
    uv_close((uv_handle_t *)&link->slow, on_link_closed);
}

static void on_written(uv_write_t *request, int status)
{
    (void)status;
    free(request->data);
}

static void pass(struct proxy_link *link, uv_pipe_t *to, const void *bytes, size_t size)
{
    struct chunk *chunk = malloc(sizeof *chunk + size);
    ck_assert_ptr_nonnull(chunk);
    memcpy(chunk->bytes, bytes, size);
    chunk->request.data = chunk;
    uv_buf_t buf = uv_buf_init(chunk->bytes, (unsigned)size);
    if (uv_write(&chunk->request, (uv_stream_t *)to, &buf, 1, on_written) == 0) return;
    free(chunk);
    drop(link);
}

/* ---- what the client says ---- */

static bool ran(const struct proxy_link *link, const char *statement)
{
    for (size_t i = 0; i < link->ran_count; i++) {
        if (strcmp(link->ran[i], statement) == 0) return true;
    }
    return false;
}

static struct proxy_fault *due(struct proxy_link *link)
{
    struct proxy *proxy = link->proxy;
    for (size_t i = 0; i < proxy->fault_count; i++) {
        struct proxy_fault *fault = &proxy->faults[i];
        if (!fault->fired && ran(link, fault->statement)) return fault;
    }
    return NULL;
}

/* Bind: a portal's name, then the statement's. */
static void note_bind(struct proxy_link *link, const char *body, size_t size)
{
    size_t portal = strnlen(body, size);
    if (portal + 1 >= size || link->ran_count == RAN) return;
    (void)snprintf(link->ran[link->ran_count++], NAME, "%.*s", NAME - 1, body + portal + 1);
}

static void on_slow(uv_timer_t *timer);

/* false: it is not passed on (now, or at all). */
static bool look(struct proxy_link *link, char type, const char *body, size_t size)
{
    if (type == 'B') note_bind(link, body, size);
    if (type != 'Q') return true;
    if (strncmp(body, "BEGIN", 5) == 0) link->ran_count = 0;
    if (strcmp(body, "COMMIT") != 0) return true;
    link->proxy->commits++;
    struct proxy_fault *fault = due(link);
    if (!fault) return true;
    fault->fired = true;
    if (fault->kind == PROXY_LOSE_BEFORE) {
        drop(link);
    } else if (fault->kind == PROXY_LOSE_AFTER) {
        for (; fault; fault = due(link)) fault->fired = true; /* it does not come again */
        link->lose = true;
        return true;
    } else {
        link->held = true;
        (void)uv_timer_start(&link->slow, on_slow, link->proxy->slow_ms, 0);
    }
    return false;
}

/* Passes whole messages on. */
static void pump(struct proxy_link *link)
{
    size_t at = 0;
    while (!link->gone && !link->held && link->connected) {
        size_t head = link->started ? 1 : 0, left = link->from.size - at;
        uint32_t size = 0;
        if (left < head + 4) break;
        memcpy(&size, link->from.data + at + head, 4);
        size = be32toh(size);
        if (left < head + size) break;
        const char *message = (const char *)link->from.data + at;
        if (link->started && !look(link, message[0], message + 5, size - 4)) break;
        pass(link, &link->server, message, head + size);
        link->started = true;
        at += head + size;
    }
    if (at > 0 && !link->gone) {
        memmove(link->from.data, link->from.data + at, link->from.size - at);
        link->from.size -= at;
    }
}

static void on_slow(uv_timer_t *timer)
{
    struct proxy_link *link = timer->data;
    link->held = false;
    pump(link);
}

/* ---- streams ---- */

static void take(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    (void)handle;
    *ret = uv_buf_init(malloc(suggested), (unsigned)suggested);
}

static void on_client(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct proxy_link *link = stream->data;
    if (n > 0) ck_assert_int_eq(buf_append(&link->from, buf->base, (size_t)n), ERR_ok);
    free(buf->base);
    if (n < 0)
        drop(link);
    else
        pump(link);
}

static void on_server(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct proxy_link *link = stream->data;
    if (n < 0 || (n > 0 && link->lose))
        drop(link);
    else if (n > 0)
        pass(link, &link->client, buf->base, (size_t)n);
    free(buf->base);
}

static void on_connected(uv_connect_t *request, int status)
{
    struct proxy_link *link = request->data;
    if (link->gone) return;
    if (status != 0) {
        drop(link);
        return;
    }
    link->connected = true;
    (void)uv_read_start((uv_stream_t *)&link->server, take, on_server);
    pump(link);
}

static void on_knock(uv_stream_t *door, int status)
{
    struct proxy *proxy = door->data;
    struct proxy_link *link = calloc(1, sizeof *link);
    size_t i = 0;
    ck_assert_ptr_nonnull(link);
    link->proxy = proxy;
    link->handles = 3;
    buf_init(&link->from, (size_t)512 << 20);
    (void)uv_pipe_init(proxy->loop, &link->client, 0);
    (void)uv_pipe_init(proxy->loop, &link->server, 0);
    (void)uv_timer_init(proxy->loop, &link->slow);
    link->client.data = link->server.data = link->slow.data = link->connecting.data = link;
    while (i < PROXY_LINKS && proxy->links[i]) i++;
    if (status < 0 || uv_accept(door, (uv_stream_t *)&link->client) != 0 || proxy->shut || i == PROXY_LINKS) {
        drop(link);
        return;
    }
    proxy->links[i] = link;
    proxy->connects++;
    (void)uv_read_start((uv_stream_t *)&link->client, take, on_client);
    uv_pipe_connect(&link->connecting, &link->server, proxy->server, on_connected);
}

/* ---- life ---- */

void proxy_open(struct proxy *proxy, uv_loop_t *loop, const char *dir, const char *server_dir)
{
    char door[PROXY_TEXT];
    *proxy = (struct proxy){.loop = loop};
    (void)snprintf(door, sizeof door, "%s/.s.PGSQL.%d", dir, STORE_PORT);
    (void)snprintf(proxy->server, sizeof proxy->server, "%s/.s.PGSQL.%d", server_dir, STORE_PORT);
    ck_assert_int_eq(uv_pipe_init(loop, &proxy->door, 0), 0);
    proxy->door.data = proxy;
    ck_assert_int_eq(uv_pipe_bind(&proxy->door, door), 0);
    ck_assert_int_eq(uv_listen((uv_stream_t *)&proxy->door, 16, on_knock), 0);
}

void proxy_fault(struct proxy *proxy, const char *statement, enum proxy_kind kind)
{
    ck_assert_uint_lt(proxy->fault_count, PROXY_FAULTS);
    proxy->faults[proxy->fault_count++] = (struct proxy_fault){.statement = statement, .kind = kind};
}

size_t proxy_waiting(const struct proxy *proxy)
{
    size_t waiting = 0;
    for (size_t i = 0; i < proxy->fault_count; i++) waiting += !proxy->faults[i].fired;
    return waiting;
}

void proxy_cut(struct proxy *proxy)
{
    for (size_t i = 0; i < PROXY_LINKS; i++) {
        if (proxy->links[i]) drop(proxy->links[i]);
    }
}

void proxy_close(struct proxy *proxy)
{
    proxy_cut(proxy);
    uv_close((uv_handle_t *)&proxy->door, NULL);
}
