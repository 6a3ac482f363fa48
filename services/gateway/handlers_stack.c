/* Handlers of the stack as a whole. */
#include "services/gateway/gateway.h"

static void ask(void *ctx, struct web_request *request, enum question question)
{
    struct gateway *gateway = ctx;
    uint64_t id = 0;
    gateway->requests++;
    if (!gateway_ask(gateway, request, question, GATEWAY_ASK_MS, &id)) return;
    struct wire_status_request message = {id, GATEWAY_ASK_MS};
    service_tell(gateway->service, WIRE_status_request, &message);
}

void handle_stack_status(void *ctx, struct web_request *request)
{
    ask(ctx, request, QUESTION_STATUS);
}

void handle_stack_workers(void *ctx, struct web_request *request)
{
    ask(ctx, request, QUESTION_WORKERS);
}

void handle_stack_ready(void *ctx, struct web_request *request)
{
    ask(ctx, request, QUESTION_READY);
}

void handle_stack_metrics(void *ctx, struct web_request *request)
{
    ask(ctx, request, QUESTION_METRICS);
}

void handle_stack_health(void *ctx, struct web_request *request)
{
    struct gateway *gateway = ctx;
    gateway->requests++;
    web_reply_json(request, 200, span_text("{\"healthy\": true, \"version\": \"" PAL_VERSION "\"}"));
}

void handle_stack_openapi(void *ctx, struct web_request *request)
{
    (void)ctx;
    AUTO(buf) out = {0};
    err_t err = documents_openapi(&out);
    if (err == ERR_ok)
        web_reply_json(request, 200, buf_span(&out));
    else
        web_reply_err(request, err);
}

void handle_stack_page(void *ctx, struct web_request *request)
{
    (void)ctx;
    static const char page[] =
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Palaestra</title>"
        "<body style=\"font-family: sans-serif; max-width: 40em; margin: 3em auto\"><h1>Palaestra " PAL_VERSION "</h1>"
        "<p>An RL agent-training orchestration service. This is its REST interface.</p><ul>"
        "<li><a href=\"/v1/status\">/v1/status</a>: the stack and its bottleneck</li>"
        "<li><a href=\"/v1/jobs\">/v1/jobs</a>: the jobs</li>"
        "<li><a href=\"/openapi.json\">/openapi.json</a>: every route</li>"
        "<li><a href=\"/metrics\">/metrics</a>: Prometheus</li></ul></body></html>\n";
    web_reply(request, 200, "text/html; charset=utf-8", span_text(page));
}
