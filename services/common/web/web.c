#include "services/common/web/web.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define IDLE_SECONDS 60

struct web {
    uv_loop_t *loop;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer;
    uv_prepare_t prepare;
    int open_handles;
    struct web_config config;
    uint16_t port;
    bool resumed; /* connections were resumed since the daemon last ran: it does not wake by itself for them */
};

struct web_request {
    struct web *web;
    struct MHD_Connection *connection;
    const char *method;
    char *path;
    char *ids[WEB_IDS];
    struct buf body;
    const struct web_route *route;
    int refused; /* status decided before the body was complete */
    const char *refused_detail;
    char allow[128];
    char location[256];
    struct MHD_Response *response;
    int status;
    bool begun, handled, suspended, queued;
    /* stream */
    bool streams, ending;
    struct buf waiting;
    size_t sent;
    void (*closed)(void *ctx, struct web_request *request);
};

const char *web_method(const struct web_request *request)
{
    return request->method;
}

const char *web_path(const struct web_request *request)
{
    return request->path;
}

err_t web_id(const struct web_request *request, size_t index, int64_t *ret)
{
    const char *text = index < WEB_IDS ? request->ids[index] : NULL;
    char *end = NULL;
    long long value = text ? strtoll(text, &end, 10) : -1;
    if (!text || end == text || *end || value < 0) return err_set(ERR_not_found, "'%.64s' is no id", text ? text : "");
    *ret = value;
    return ERR_ok;
}

const char *web_query(const struct web_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
}

const char *web_header(const struct web_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

struct span web_body(const struct web_request *request)
{
    return buf_span(&request->body);
}

void web_location(struct web_request *request, const char *location)
{
    (void)snprintf(request->location, sizeof request->location, "%s", location);
}

/* ---- answers ---- */

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    (void)MHD_add_response_header(response, name, value);
}

static void wake(struct web_request *request)
{
    request->suspended = false;
    request->web->resumed = true;
    MHD_resume_connection(request->connection);
}

/* Hands the response to the connection, waking it when it sleeps. */
static void give(struct web_request *request, int status, struct MHD_Response *response)
{
    BUG_IF(request->response || !response);
    request->response = response;
    request->status = status;
    add_header(response, "X-Content-Type-Options", "nosniff");
    add_header(response, "Cache-Control", "no-store");
    if (request->location[0]) add_header(response, "Location", request->location);
    if (request->allow[0]) add_header(response, "Allow", request->allow);
    if (!request->suspended) return; /* still inside the handler: queued by its caller */
    wake(request);
}

void web_reply(struct web_request *request, int status, const char *type, struct span body)
{
    void *copy = (void *)(uintptr_t)body.data; /* MHD copies it */
    struct MHD_Response *response = MHD_create_response_from_buffer(body.size, copy, MHD_RESPMEM_MUST_COPY);
    if (!response) return;
    add_header(response, "Content-Type", type);
    give(request, status, response);
}

void web_reply_json(struct web_request *request, int status, struct span json)
{
    web_reply(request, status, "application/json", json);
}

static const char *title_of(int status)
{
    switch (status) {
    case 400:
        return "Bad Request";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 413:
        return "Content Too Large";
    case 415:
        return "Unsupported Media Type";
    case 422:
        return "Unprocessable Content";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    default:
        return "Error";
    }
}

void web_problem(struct web_request *request, int status, const char *detail, const char *extra)
{
    AUTO(buf) out = {0};
    json_t *text = json_string(detail);
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
    json_decref(text);
    err_t err = buf_printf(&out, "{\"type\": \"about:blank\", \"title\": \"%s\", \"status\": %d, \"detail\": %s%s}",
                           title_of(status), status, quoted ? quoted : "\"\"", extra);
    free(quoted);
    web_reply(request, status, "application/problem+json", err == ERR_ok ? buf_span(&out) : span_text("{}"));
}

void web_reply_err(struct web_request *request, err_t err)
{
    web_problem(request, err_http(err), err_text(), "");
}

/* ---- streams ---- */

static ssize_t stream_read(void *cls, uint64_t position, char *to, size_t max)
{
    (void)position;
    struct web_request *request = cls;
    size_t left = request->waiting.size - request->sent;
    if (left == 0 && request->ending) return MHD_CONTENT_READER_END_OF_STREAM;
    if (left == 0) {
        request->suspended = true;
        MHD_suspend_connection(request->connection);
        return 0;
    }
    size_t n = left < max ? left : max;
    memcpy(to, request->waiting.data + request->sent, n);
    request->sent += n;
    if (request->sent == request->waiting.size) {
        buf_clear(&request->waiting);
        request->sent = 0;
    }
    return (ssize_t)n;
}

void web_stream(struct web_request *request, void (*closed)(void *ctx, struct web_request *request))
{
    request->streams = true;
    request->closed = closed;
    buf_init(&request->waiting, WEB_STREAM_BYTES);
    struct MHD_Response *response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, stream_read, request, NULL);
    if (!response) return;
    add_header(response, "Content-Type", "text/event-stream");
    give(request, 200, response);
}

static void wake_stream(struct web_request *request)
{
    if (request->suspended) wake(request);
}

bool web_stream_send(struct web_request *request, struct span text)
{
    bool fits = buf_append(&request->waiting, text.data, text.size) == ERR_ok;
    if (!fits) request->ending = true;
    wake_stream(request);
    return fits;
}

void web_stream_end(struct web_request *request)
{
    request->closed = NULL;
    request->ending = true;
    wake_stream(request);
}

/* ---- matching ---- */

/* Fills ids from a path that fits the pattern. */
static bool fits(struct web_request *request, const char *pattern)
{
    const char *p = request->path;
    size_t ids = 0;
    for (size_t i = 0; i < WEB_IDS; i++) {
        free(request->ids[i]);
        request->ids[i] = NULL;
    }
    while (*pattern) {
        if (*pattern != '{') {
            if (*pattern++ != *p++) return false;
            continue;
        }
        size_t length = strcspn(p, "/");
        if (length == 0 || ids == WEB_IDS) return false;
        request->ids[ids++] = strndup(p, length);
        p += length;
        pattern = strchr(pattern, '}') + 1;
    }
    return *p == 0;
}

static void match(struct web_request *request)
{
    const struct web_config *config = &request->web->config;
    bool path = false;
    for (size_t i = 0; i < config->route_count; i++) {
        const struct web_route *route = &config->routes[i];
        if (!fits(request, route->path)) continue;
        if (strcmp(route->method, request->method) == 0 ||
            (strcmp(request->method, "HEAD") == 0 && strcmp(route->method, "GET") == 0)) {
            request->route = route;
            request->allow[0] = 0;
            return;
        }
        path = true;
        size_t n = strlen(request->allow);
        (void)snprintf(request->allow + n, sizeof request->allow - n, "%s%s", n ? ", " : "", route->method);
    }
    request->refused = path ? 405 : 404;
    request->refused_detail =
        path ? "the resource does not take this method" : "there is no such resource; see /openapi.json";
}

/* "127.0.0.1:7878", "localhost:7878", "[::1]:7878": what a browser that was not tricked sends */
static bool is_ours(const char *host, uint16_t port)
{
    static const char *const names[] = {"127.0.0.1", "localhost", "[::1]"};
    char want[64];
    for (size_t i = 0; host && i < 3; i++) {
        (void)snprintf(want, sizeof want, "%s:%u", names[i], port);
        if (strcasecmp(host, want) == 0) return true;
    }
    return false;
}

static void guard(struct web_request *request)
{
    const char *host = web_header(request, "Host"), *origin = web_header(request, "Origin");
    bool foreign = origin && (strncmp(origin, "http://", 7) != 0 || !is_ours(origin + 7, request->web->port));
    if (!is_ours(host, request->web->port) || foreign) {
        request->refused = 403;
        request->refused_detail =
            foreign ? "requests from other origins are refused" : "the Host header is not this server's loopback address";
        return;
    }
    match(request);
    if (request->refused || strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0) return;
    const char *length = web_header(request, "Content-Length"), *type = web_header(request, "Content-Type");
    unsigned long long declared = length ? strtoull(length, NULL, 10) : 0;
    bool has_body = declared > 0 || web_header(request, "Transfer-Encoding");
    if (declared > WEB_BODY_BYTES) {
        request->refused = 413;
        request->refused_detail = "the body is past the limit of 524288 bytes";
    } else if (has_body && (!type || strncasecmp(type, "application/json", 16) != 0)) {
        request->refused = 415;
        request->refused_detail = "the body must be application/json";
    }
}

/* ---- libmicrohttpd's callbacks ---- */

static enum MHD_Result queue_response(struct web_request *request)
{
    request->queued = true;
    return MHD_queue_response(request->connection, (unsigned)request->status, request->response);
}

static enum MHD_Result handle(struct web_request *request)
{
    request->handled = true;
    if (request->refused)
        web_problem(request, request->refused, request->refused_detail, "");
    else
        request->route->handler(request->web->config.ctx, request);
    if (request->response) return queue_response(request);
    request->suspended = true;
    MHD_suspend_connection(request->connection);
    return MHD_YES;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                                 const char *version, const char *data, size_t *size, void **con_cls)
{
    (void)version;
    (void)url;
    struct web *web = cls;
    struct web_request *request = *con_cls;
    (void)web;
    request->connection = connection;
    request->method = method;
    if (!request->begun) {
        request->begun = true;
        guard(request);
        return MHD_YES;
    }
    if (*size) {
        if (!request->refused && buf_append(&request->body, data, *size) != ERR_ok) {
            request->refused = 413;
            request->refused_detail = "the body is past the limit of 524288 bytes";
        }
        *size = 0;
        return MHD_YES;
    }
    if (!request->handled) return handle(request);
    if (request->response && !request->queued) return queue_response(request);
    return MHD_YES;
}

/* the first call of a request: the path before libmicrohttpd takes escapes out would also come here, but ids are digits */
static void *on_begin(void *cls, const char *uri, struct MHD_Connection *connection)
{
    struct web_request *request = calloc(1, sizeof *request);
    if (!request) return NULL;
    request->web = cls;
    request->connection = connection;
    request->path = strndup(uri, strcspn(uri, "?"));
    buf_init(&request->body, WEB_BODY_BYTES);
    return request;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **con_cls, enum MHD_RequestTerminationCode code)
{
    (void)connection;
    (void)code;
    struct web *web = cls;
    struct web_request *request = *con_cls;
    *con_cls = NULL;
    if (!request) return;
    if (request->closed) request->closed(web->config.ctx, request);
    if (request->response) MHD_destroy_response(request->response);
    for (size_t i = 0; i < WEB_IDS; i++) free(request->ids[i]);
    free(request->path);
    buf_fini(&request->body);
    buf_fini(&request->waiting);
    free(request);
}

/* ---- the loop ---- */

static void on_timer(uv_timer_t *timer)
{
    struct web *web = timer->data;
    (void)MHD_run(web->daemon);
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct web *web = poll->data;
    (void)MHD_run(web->daemon);
}

/* before the loop sleeps: resumed connections and timeouts are looked after in time */
static void on_prepare(uv_prepare_t *prepare)
{
    struct web *web = prepare->data;
    MHD_UNSIGNED_LONG_LONG ms = 0;
    if (web->resumed) {
        web->resumed = false;
        (void)uv_timer_start(&web->timer, on_timer, 0, 0);
    } else if (MHD_get_timeout(web->daemon, &ms) == MHD_YES)
        (void)uv_timer_start(&web->timer, on_timer, (uint64_t)ms, 0);
    else
        (void)uv_timer_stop(&web->timer);
}

static void destroy(struct web *web)
{
    if (web->daemon) MHD_stop_daemon(web->daemon);
    free(web);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct web *web = handle->data;
    if (--web->open_handles == 0) destroy(web);
}

static err_t start(struct web *web)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(web->config.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    web->daemon =
        MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, web->config.port, NULL, NULL, on_access, web,
                         MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_URI_LOG_CALLBACK, on_begin, web,
                         MHD_OPTION_NOTIFY_COMPLETED, on_completed, web, MHD_OPTION_CONNECTION_LIMIT,
                         (unsigned)WEB_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS, MHD_OPTION_END);
    if (!web->daemon)
        return err_set(ERR_unavailable, "port %u of 127.0.0.1 is taken; choose another with --port, or --port 0 for any",
                       web->config.port);
    const union MHD_DaemonInfo *port = MHD_get_daemon_info(web->daemon, MHD_DAEMON_INFO_BIND_PORT);
    const union MHD_DaemonInfo *fd = MHD_get_daemon_info(web->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!port || !fd) return err_set(ERR_io, "libmicrohttpd tells neither port nor descriptor");
    web->port = port->port;
    if (uv_poll_init(web->loop, &web->poll, fd->epoll_fd) != 0) return err_set(ERR_io, "polling the HTTP server");
    (void)uv_timer_init(web->loop, &web->timer);
    (void)uv_prepare_init(web->loop, &web->prepare);
    web->poll.data = web->timer.data = web->prepare.data = web;
    web->open_handles = 3;
    (void)uv_poll_start(&web->poll, UV_READABLE, on_ready);
    (void)uv_prepare_start(&web->prepare, on_prepare);
    return ERR_ok;
}

err_t web_listen(struct web **ret, uv_loop_t *loop, const struct web_config *config)
{
    struct web *web = calloc(1, sizeof *web);
    if (!web) return err_set(ERR_memory, "the HTTP server");
    *web = (struct web){.loop = loop, .config = *config};
    err_t err = start(web);
    if (err != ERR_ok) {
        destroy(web);
        return err;
    }
    *ret = web;
    return ERR_ok;
}

void web_free(struct web **web)
{
    struct web *w = *web;
    *web = NULL;
    if (!w) return;
    uv_close((uv_handle_t *)&w->poll, on_handle_closed);
    uv_close((uv_handle_t *)&w->timer, on_handle_closed);
    uv_close((uv_handle_t *)&w->prepare, on_handle_closed);
}

uint16_t web_port(const struct web *web)
{
    return web->port;
}
