/* A small HTTP/1.1 server on libmicrohttpd inside the libuv loop.
 *
 * Routes are rows: a request is matched by path, then by method (404, 405 with Allow). Before a handler sees it: the Host
 * must be a loopback name with our port (DNS rebinding), an Origin must be ours, a body must be application/json within its
 * limit, counted and declared. A handler answers at once or keeps the request and answers later (web_reply; the connection is
 * suspended meanwhile), or turns it into a stream of events (web_stream). Errors are RFC 9457 problem+json. Loopback only. */
#ifndef PAL_WEB_WEB_H
#define PAL_WEB_WEB_H

#include "services/common/base/buf.h"

#include <uv.h>

#define WEB_BODY_BYTES   ((size_t)512 << 10)
#define WEB_IDS          2
#define WEB_CONNECTIONS  256
#define WEB_STREAM_BYTES ((size_t)1 << 20) /* waiting for one slow subscriber before it is dropped */

struct web;
struct web_request;

typedef void (*web_handler_t)(void *ctx, struct web_request *request);

struct web_route {
    const char *method;
    const char *path; /* "/v1/jobs/{id}/events" */
    web_handler_t handler;
    const char *doc;
};

struct web_config {
    const struct web_route *routes;
    size_t route_count;
    void *ctx;
    uint16_t port; /* 0: any */
};

err_t web_listen(struct web **ret, uv_loop_t *loop, const struct web_config *config) MUST_USE;
void web_free(struct web **web); /* kept requests must have been answered */
uint16_t web_port(const struct web *web);

const char *web_method(const struct web_request *request);
const char *web_path(const struct web_request *request);
/* The index-th {part} of the path; as an id: ERR_not_found when it is no number. */
err_t web_id(const struct web_request *request, size_t index, int64_t *ret) MUST_USE;
const char *web_query(const struct web_request *request, const char *name);  /* NULL when absent */
const char *web_header(const struct web_request *request, const char *name); /* NULL when absent */
struct span web_body(const struct web_request *request);

/* Answers, once. */
void web_reply(struct web_request *request, int status, const char *type, struct span body);
void web_reply_json(struct web_request *request, int status, struct span json);
/* problem+json; extra: further members (", \"errors\": [...]") or "". */
void web_problem(struct web_request *request, int status, const char *detail, const char *extra);
void web_reply_err(struct web_request *request, err_t err);           /* by err.def, with the recorded sentence */
void web_location(struct web_request *request, const char *location); /* before web_reply */

/* Answers with text/event-stream; the request then lives until web_stream_end or until the client goes (closed is called,
 * after which the request must not be used). web_stream_send returns false when the subscriber is too slow and was cut off.
 */
void web_stream(struct web_request *request, void (*closed)(void *ctx, struct web_request *request));
bool web_stream_send(struct web_request *request, struct span text);
void web_stream_end(struct web_request *request);

#endif
