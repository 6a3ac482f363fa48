/* What the data manager answered, on its way to whoever asked. */
#include "services/common/job/job.h"
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
    json_t *root = json_loadb((const char *)json.data, json.size, 0, NULL);
    err_t err = gateway_prometheus(root, &text);
    json_decref(root);
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
    case QUESTION_IMPORT:
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

/* The demonstrations that were refused, by their places in the request. */
static void refuse_import(struct web_request *request, const struct wire_pool_answer *answer)
{
    struct job_problems problems = {0};
    char detail[600], pointers[JOB_PROBLEMS][24], details[JOB_PROBLEMS][300];
    AUTO(buf) extra = {0};
    for (size_t i = 0; i < answer->problems_count && i < JOB_PROBLEMS; i++) {
        const struct wire_import_problem *p = &answer->problems[i];
        (void)snprintf(pointers[i], sizeof pointers[i], "/%llu", (unsigned long long)p->item);
        (void)snprintf(details[i], sizeof details[i], "%.*s", SPAN_ARG(p->detail));
        problems.rows[problems.count++] = (struct job_problem){pointers[i], details[i]};
    }
    (void)snprintf(detail, sizeof detail, "%.*s", SPAN_ARG(answer->detail));
    if (problems.count && gateway_problems(&problems, &extra) != ERR_ok) buf_clear(&extra);
    web_problem(request, status_of(answer->error), detail, buf_chars(&extra));
}

static void pool_answer(struct gateway *gateway, const struct wire_pool_answer *answer)
{
    struct pending *p = take(gateway, answer->request);
    char body[128];
    if (!p) return;
    p->id = 0;
    if (answer->error.size) {
        refuse_import(p->request, answer);
        return;
    }
    (void)snprintf(body, sizeof body, "{\"planned\": %llu, \"known\": %llu}", (unsigned long long)answer->planned,
                   (unsigned long long)answer->known);
    web_reply_json(p->request, 202, span_text(body));
}

void answers_message(struct gateway *gateway, enum wire_id id, const void *message)
{
    if (id == WIRE_status)
        status(gateway, message);
    else if (id == WIRE_job_answer)
        job_answer(gateway, message);
    else if (id == WIRE_pool_answer)
        pool_answer(gateway, message);
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
        bool submit = p->question == QUESTION_SUBMIT || p->question == QUESTION_COMMAND || p->question == QUESTION_IMPORT;
        if (submit)
            web_problem(p->request, 504,
                        "the data manager did not answer in time; it may still do it: use an Idempotency-Key and ask again",
                        "");
        else
            silence_answer(gateway, p->request);
    }
}
