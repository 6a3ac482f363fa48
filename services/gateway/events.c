/* Server-sent events: rows of job_event as they are committed, and the running job's progress twice a second. */
#include "services/common/run/log.h"
#include "services/common/store/store_read.h"
#include "services/gateway/gateway.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define PROGRESS_MS 500

static struct subscriber *of(struct gateway *gateway, const struct web_request *request)
{
    for (size_t i = 0; i < GATEWAY_SUBSCRIBERS; i++) {
        if (gateway->subscribers[i].request == request) return &gateway->subscribers[i];
    }
    return NULL;
}

void events_closed(void *ctx, struct web_request *request)
{
    struct subscriber *s = of(ctx, request);
    if (s) *s = (struct subscriber){0};
}

/* False when the subscriber was cut off. */
static bool tell(struct gateway *gateway, struct subscriber *s, struct span text)
{
    s->said_ms = gateway_now_ms(gateway);
    if (web_stream_send(s->request, text)) return true;
    log_warn("a subscriber of job %lld was too slow and was cut off", (long long)s->job);
    web_stream_end(s->request);
    *s = (struct subscriber){0};
    return false;
}

static bool ends_job(const json_t *event)
{
    const char *kind = json_string_value(json_object_get(event, "kind"));
    const char *state = json_string_value(json_object_get(json_object_get(event, "data"), "state"));
    if (!kind || !state || strcmp(kind, "state") != 0) return false;
    return strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0 || strcmp(state, "cancelled") == 0;
}

/* One event of the ledger; false when the stream is over. */
static bool send_event(struct gateway *gateway, struct subscriber *s, json_t *event)
{
    int64_t seq = json_integer_value(json_object_get(event, "seq"));
    const char *kind = json_string_value(json_object_get(event, "kind"));
    char *data = json_dumps(event, JSON_COMPACT);
    AUTO(buf) text = {0};
    err_t err = data ? buf_printf(&text, "id: %lld\nevent: %s\ndata: %s\n\n", (long long)seq, kind ? kind : "event", data)
                     : ERR_memory;
    free(data);
    if (err != ERR_ok || !tell(gateway, s, buf_span(&text))) return false;
    s->after = seq;
    if (!ends_job(event)) return true;
    web_stream_end(s->request);
    *s = (struct subscriber){0};
    return false;
}

static void look_for(struct gateway *gateway, struct subscriber *s)
{
    AUTO(buf) json = {0};
    err_t err = store_read_events(gateway->store, s->job, s->after, 100, &json);
    if (err != ERR_ok) {
        log_err(LOG_LEVEL_WARN, err, "reading events");
        if (!store_alive(gateway->store)) store_close(&gateway->store);
        return;
    }
    json_t *rows = json_loadb((const char *)json.data, json.size, 0, NULL), *row = NULL;
    size_t index = 0;
    json_array_foreach(rows, index, row)
    {
        if (!send_event(gateway, s, row)) break;
    }
    json_decref(rows);
}

static void keep_alive(struct gateway *gateway, struct subscriber *s)
{
    if (s->request && gateway_now_ms(gateway) - s->said_ms >= GATEWAY_KEEPALIVE_MS)
        (void)tell(gateway, s, span_text(": still here\n\n"));
}

void events_look(struct gateway *gateway)
{
    uint64_t now = gateway_now_ms(gateway), id = 0;
    bool some = false;
    if (now - gateway->looked_ms < GATEWAY_EVENTS_MS) return;
    gateway->looked_ms = now;
    for (size_t i = 0; i < GATEWAY_SUBSCRIBERS; i++) {
        struct subscriber *s = &gateway->subscribers[i];
        if (!s->request) continue;
        some = true;
        if (gateway->store) look_for(gateway, s);
        keep_alive(gateway, s);
    }
    if (!some || now - gateway->asked_ms < PROGRESS_MS || !gateway_ask(gateway, NULL, QUESTION_PROGRESS, GATEWAY_ASK_MS, &id))
        return;
    gateway->asked_ms = now;
    struct wire_status_request message = {id, GATEWAY_ASK_MS};
    service_tell(gateway->service, WIRE_status_request, &message);
}

void events_progress(struct gateway *gateway, struct span status_json)
{
    json_t *root = json_loadb((const char *)status_json.data, status_json.size, 0, NULL), *job = json_object_get(root, "job");
    int64_t id = json_integer_value(json_object_get(job, "id"));
    (void)json_object_set(job, "bottleneck", json_object_get(root, "bottleneck"));
    char *data = json_is_object(job) ? json_dumps(job, JSON_COMPACT) : NULL;
    AUTO(buf) text = {0};
    err_t err = data ? buf_printf(&text, "event: progress\ndata: %s\n\n", data) : ERR_not_found;
    free(data);
    json_decref(root);
    for (size_t i = 0; err == ERR_ok && i < GATEWAY_SUBSCRIBERS; i++) {
        struct subscriber *s = &gateway->subscribers[i];
        if (s->request && s->job == id) (void)tell(gateway, s, buf_span(&text));
    }
}

void events_end(struct gateway *gateway)
{
    for (size_t i = 0; i < GATEWAY_SUBSCRIBERS; i++) {
        struct subscriber *s = &gateway->subscribers[i];
        if (s->request) web_stream_end(s->request);
        *s = (struct subscriber){0};
    }
}

static void follow(struct gateway *gateway, struct web_request *request, int64_t job, int64_t after)
{
    struct subscriber *s = of(gateway, NULL);
    if (!s) {
        web_problem(request, 503, "too many subscribers", "");
        return;
    }
    *s = (struct subscriber){.request = request, .job = job, .after = after, .said_ms = gateway_now_ms(gateway)};
    web_stream(request, events_closed);
    gateway->looked_ms = 0;
}

void handle_job_events(void *ctx, struct web_request *request)
{
    struct gateway *gateway = ctx;
    int64_t job = 0, after = 0;
    const char *last = web_header(request, "Last-Event-ID"), *follows = web_query(request, "follow");
    gateway->requests++;
    err_t err = web_id(request, 0, &job);
    if (err != ERR_ok) {
        web_reply_err(request, err);
        return;
    }
    if (!gateway_number(request, "after", last ? strtoll(last, NULL, 10) : 0, &after)) return;
    struct store *store = gateway_store(gateway, request);
    if (!store) return;
    AUTO(buf) json = {0};
    err = store_read_spec(store, job, &json); /* there is such a job */
    bool is_list = follows && strcmp(follows, "false") == 0;
    if (err == ERR_ok && is_list) {
        buf_clear(&json);
        err = store_read_events(store, job, after, STORE_READ_MOST, &json);
    }
    if (err != ERR_ok)
        gateway_read_failed(gateway, request, err);
    else if (is_list)
        web_reply_json(request, 200, buf_span(&json));
    else
        follow(gateway, request, job, after);
}
