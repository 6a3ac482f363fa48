/* The gateway: REST, events, Prometheus. No training state of its own: it reads the ledger through a read-only role and asks
 * the data manager over the bus; every such question has a deadline. */
#ifndef PAL_GATEWAY_GATEWAY_H
#define PAL_GATEWAY_GATEWAY_H

#include "services/common/origin/origin.h"
#include "services/common/run/service.h"
#include "services/common/store/store.h"
#include "services/common/web/web.h"

#include <jansson.h>

#define GATEWAY_PORT         7878
#define GATEWAY_ASK_MS       2000 /* status */
#define GATEWAY_SUBMIT_MS    5000
#define GATEWAY_PENDING      256 /* questions under way */
#define GATEWAY_SUBSCRIBERS  200
#define GATEWAY_EVENTS_MS    250 /* between looks for new events */
#define GATEWAY_KEEPALIVE_MS 15000

struct gateway;

enum question {
    QUESTION_STATUS,
    QUESTION_WORKERS,
    QUESTION_READY,
    QUESTION_METRICS,
    QUESTION_SUBMIT,
    QUESTION_COMMAND,
    QUESTION_PROGRESS
};

struct pending {
    struct web_request *request; /* NULL for the gateway's own */
    enum question question;
    uint64_t id; /* 0: free */
    uint64_t deadline_ms;
};

struct subscriber {
    struct web_request *request; /* NULL: free */
    int64_t job, after;
    uint64_t said_ms;
    bool progress; /* the stack works on this job */
};

struct gateway {
    struct service *service;
    struct web *web;
    struct store *store; /* NULL while it cannot be reached */
    uint64_t retry_at_ms, retry_ms;
    uint16_t port;
    uv_timer_t timer;
    struct pending pending[GATEWAY_PENDING];
    uint64_t next_id;
    struct subscriber subscribers[GATEWAY_SUBSCRIBERS];
    uint64_t requests, refused;
    uint64_t looked_ms, asked_ms;
    struct origin origin; /* of the job whose episode was read last: tokens need its tokenizer */
    int64_t origin_job;   /* 0: none */
};

uint64_t gateway_now_ms(const struct gateway *gateway);
/* The ledger, or NULL after an answer of 503 was given. */
struct store *gateway_store(struct gateway *gateway, struct web_request *request);
/* After a failed read: reconnects when the connection is gone, answers with the error. */
void gateway_read_failed(struct gateway *gateway, struct web_request *request, err_t err);
/* Notes a question; false (and 503) when too many are under way. request may be NULL. */
bool gateway_ask(struct gateway *gateway, struct web_request *request, enum question question, uint64_t patience_ms,
                 uint64_t *ret_id);
/* An integer of the query string; false after an answer of 400. */
bool gateway_number(struct web_request *request, const char *name, int64_t otherwise, int64_t *ret);
/* ?limit=, 1 to STORE_READ_MOST; likewise. */
bool gateway_limit(struct web_request *request, int64_t otherwise, int64_t *ret);

/* answers.c: what the data manager said */
void answers_message(struct gateway *gateway, enum wire_id id, const void *message);
void answers_expire(struct gateway *gateway);
/* silence.c: 503 with `stage`, `evidence` and `cause`, for what the data manager did not answer */
void silence_answer(struct gateway *gateway, struct web_request *request);
/* events.c */
void events_look(struct gateway *gateway);
void events_progress(struct gateway *gateway, struct span status_json);
void events_closed(void *ctx, struct web_request *request);
void events_end(struct gateway *gateway);
/* prometheus.c: the data manager's status document as Prometheus text */
struct gateway_series {
    const char *part, *name, *kind, *doc; /* pal_PART_NAME */
};
const struct gateway_series *gateway_series(size_t *ret_count);
err_t gateway_prometheus(const json_t *status, struct buf *out) MUST_USE;
/* transcript.c: adds "transcript": {...} to an episode's JSON */
err_t transcript_add(struct gateway *gateway, struct store *store, int64_t job, int64_t episode, struct buf *json) MUST_USE;
/* documents.c */
err_t documents_openapi(struct buf *out) MUST_USE;
err_t documents_rest(struct buf *out) MUST_USE;
err_t documents_metrics(struct buf *out) MUST_USE;
const struct web_route *gateway_routes(size_t *ret_count);

#define ROUTE(method, path, handler, doc) void handle_##handler(void *ctx, struct web_request *request);
#include "services/gateway/routes.def"
#undef ROUTE

extern const struct service_class gateway_class;

#endif
