/* What the data manager answered, on its way to whoever asked. */
#include "services/common/run/log.h"
#include "services/common/store/store_read.h"
#include "services/gateway/gateway.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static struct pending *take(struct gateway *gateway, uint64_t id)
{
    for (size_t i = 0; id && i < GATEWAY_PENDING; i++) {
        if (gateway->pending[i].id == id) return &gateway->pending[i];
    }
    return NULL;
}

/* ---- Prometheus ---- */

/* One sample: pal_SERVICE_NAME{identity="..."} value */
static err_t sample(struct buf *out, const char *service, const char *identity, const char *name, double value)
{
    TRY(buf_printf(out, "# HELP pal_%s_%s docs/metrics.md\n# TYPE pal_%s_%s gauge\n", service, name, service, name));
    return buf_printf(out, "pal_%s_%s{identity=\"%s\"} %.17g\n", service, name, identity, value);
}

static err_t prometheus(struct span json, struct buf *out)
{
    json_t *root = json_loadb((const char *)json.data, json.size, 0, NULL), *peer = NULL, *value = NULL;
    const char *name = NULL;
    size_t index = 0;
    err_t err = ERR_ok;
    json_object_foreach(json_object_get(root, "data"), name, value)
    {
        double number = json_is_boolean(value) ? json_is_true(value) : json_number_value(value);
        if (err == ERR_ok) err = sample(out, "data", "data", name, number);
    }
    json_object_foreach(json_object_get(root, "job"), name, value)
    {
        if (err == ERR_ok && json_is_number(value)) err = sample(out, "job", "data", name, json_number_value(value));
    }
    json_array_foreach(json_object_get(root, "services"), index, peer)
    {
        if (strcmp(json_string_value(json_object_get(peer, "state")), "alive") != 0) continue;
        json_object_foreach(json_object_get(peer, "counters"), name, value)
        {
            if (err == ERR_ok)
                err = sample(out, json_string_value(json_object_get(peer, "service")),
                             json_string_value(json_object_get(peer, "identity")), name, json_number_value(value));
        }
    }
    json_decref(root);
    return err;
}

/* ---- status ---- */

static void answer_ready(struct gateway *gateway, struct web_request *request, struct span json)
{
    json_t *root = json_loadb((const char *)json.data, json.size, 0, NULL);
    bool database = json_is_true(json_object_get(json_object_get(root, "data"), "database"));
    json_decref(root);
    if (!database)
        web_problem(request, 503, "the data manager cannot reach PostgreSQL", "");
    else if (!gateway->store)
        web_problem(request, 503, "the gateway cannot reach PostgreSQL", "");
    else
        web_reply_json(request, 200, span_text("{\"ready\": true}"));
}

static void answer_workers(struct web_request *request, struct span json)
{
    json_t *root = json_loadb((const char *)json.data, json.size, 0, NULL);
    char *text = json_dumps(json_object_get(root, "services"), JSON_COMPACT);
    web_reply_json(request, 200, span_text(text ? text : "[]"));
    free(text);
    json_decref(root);
}

static void answer_metrics(struct web_request *request, struct span json)
{
    AUTO(buf) text = {0};
    err_t err = prometheus(json, &text);
    if (err == ERR_ok)
        web_reply(request, 200, "text/plain; version=0.0.4", buf_span(&text));
    else
        web_reply_err(request, err);
}

static void status(struct gateway *gateway, const struct wire_status *message)
{
    struct pending *p = take(gateway, message->request);
    if (!p) return;
    p->id = 0;
    switch (p->question) {
    case QUESTION_STATUS:
        web_reply_json(p->request, 200, message->json);
        return;
    case QUESTION_WORKERS:
        answer_workers(p->request, message->json);
        return;
    case QUESTION_READY:
        answer_ready(gateway, p->request, message->json);
        return;
    case QUESTION_METRICS:
        answer_metrics(p->request, message->json);
        return;
    case QUESTION_PROGRESS:
        events_progress(gateway, message->json);
        return;
    case QUESTION_SUBMIT:
    case QUESTION_COMMAND:
        return;
    }
}

/* ---- submit and commands ---- */

static int status_of(struct span error)
{
    for (int i = 0; i < ERR_COUNT; i++) {
        if (span_is(error, err_name((err_t)i))) return err_http((err_t)i);
    }
    return 500;
}

static void job_answer(struct gateway *gateway, const struct wire_job_answer *answer)
{
    struct pending *p = take(gateway, answer->request);
    if (!p) return;
    p->id = 0;
    if (answer->error.size) {
        char detail[600];
        (void)snprintf(detail, sizeof detail, "%.*s", SPAN_ARG(answer->detail));
        web_problem(p->request, status_of(answer->error), detail, "");
        return;
    }
    char location[64], body[128];
    (void)snprintf(location, sizeof location, "/v1/jobs/%llu", (unsigned long long)answer->job);
    (void)snprintf(body, sizeof body, "{\"id\": %llu, \"created\": %s}", (unsigned long long)answer->job,
                   answer->created ? "true" : "false");
    if (p->question == QUESTION_SUBMIT) web_location(p->request, location);
    web_reply_json(p->request, p->question == QUESTION_SUBMIT && answer->created ? 201 : 200, span_text(body));
}

void answers_message(struct gateway *gateway, enum wire_id id, const void *message)
{
    if (id == WIRE_status)
        status(gateway, message);
    else if (id == WIRE_job_answer)
        job_answer(gateway, message);
    else if (id != WIRE_job_stop)
        log_warn("message %d is not for the gateway", (int)id);
}

void answers_expire(struct gateway *gateway)
{
    uint64_t now = gateway_now_ms(gateway);
    for (size_t i = 0; i < GATEWAY_PENDING; i++) {
        struct pending *p = &gateway->pending[i];
        if (!p->id || now < p->deadline_ms) continue;
        p->id = 0;
        if (!p->request) continue;
        bool submit = p->question == QUESTION_SUBMIT || p->question == QUESTION_COMMAND;
        web_problem(p->request, submit ? 504 : 503,
                    submit
                        ? "the data manager did not answer in time; it may still do it: use an Idempotency-Key and ask again"
                        : "the data manager does not answer",
                    "");
    }
}
