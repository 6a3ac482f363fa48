/* Life of the gateway: HTTP, ledger connection, questions to the data manager. */
#include "services/gateway/gateway.h"

#include "services/common/job/job.h"
#include "services/common/run/log.h"
#include "services/common/store/store_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define RETRY_MOST_MS 5000
#define READ_MOST_MS  3000 /* a read of the ledger: nobody else is answered meanwhile */
#define TICK_MS       50

static const struct web_route routes[] = {
#define ROUTE(method, path, handler, doc) {method, path, handle_##handler, doc},
#include "services/gateway/routes.def"
#undef ROUTE
};

const struct web_route *gateway_routes(size_t *ret_count)
{
    *ret_count = sizeof routes / sizeof *routes;
    return routes;
}

uint64_t gateway_now_ms(const struct gateway *gateway)
{
    return uv_now(&gateway->service->loop);
}

/* ---- the ledger ---- */

static void connect_ledger(struct gateway *gateway)
{
    uint64_t now = gateway_now_ms(gateway);
    if (gateway->store || now < gateway->retry_at_ms) return;
    char conninfo[SERVICE_PATH_BYTES * 2];
    err_t err = store_conninfo(gateway->service->run_dir, "pal_reader", conninfo, sizeof conninfo);
    if (err == ERR_ok) err = store_open(&gateway->store, conninfo);
    if (err == ERR_ok) err = store_read_hurry(gateway->store, READ_MOST_MS);
    if (err == ERR_ok) err = store_read_ping(gateway->store);
    if (err == ERR_ok) {
        gateway->retry_ms = 0;
        return;
    }
    if (gateway->retry_ms == 0) log_err(LOG_LEVEL_WARN, err, "the ledger");
    store_close(&gateway->store);
    gateway->retry_ms = gateway->retry_ms ? gateway->retry_ms * 2 : 100;
    if (gateway->retry_ms > RETRY_MOST_MS) gateway->retry_ms = RETRY_MOST_MS;
    gateway->retry_at_ms = now + gateway->retry_ms;
}

struct store *gateway_store(struct gateway *gateway, struct web_request *request)
{
    connect_ledger(gateway);
    if (!gateway->store) web_problem(request, 503, "the ledger cannot be reached; try again", "");
    return gateway->store;
}

void gateway_read_failed(struct gateway *gateway, struct web_request *request, err_t err)
{
    if (gateway->store && !store_alive(gateway->store)) store_close(&gateway->store);
    if (err != ERR_not_found) log_err(LOG_LEVEL_WARN, err, web_path(request));
    web_reply_err(request, err);
}

/* ---- questions ---- */

bool gateway_ask(struct gateway *gateway, struct web_request *request, enum question question, uint64_t patience_ms,
                 uint64_t *ret_id)
{
    for (size_t i = 0; i < GATEWAY_PENDING; i++) {
        struct pending *p = &gateway->pending[i];
        if (p->id) continue;
        *p = (struct pending){request, question, ++gateway->next_id, gateway_now_ms(gateway) + patience_ms};
        *ret_id = p->id;
        return true;
    }
    gateway->refused++;
    if (request) web_problem(request, 503, "too many questions to the data manager are under way; try again", "");
    return false;
}

bool gateway_number(struct web_request *request, const char *name, int64_t otherwise, int64_t *ret)
{
    const char *text = web_query(request, name);
    *ret = otherwise;
    if (!text) return true;
    char *end = NULL;
    *ret = strtoll(text, &end, 10);
    if (end != text && !*end) return true;
    char detail[128];
    (void)snprintf(detail, sizeof detail, "?%s= must be an integer", name);
    web_problem(request, 400, detail, "");
    return false;
}

bool gateway_limit(struct web_request *request, int64_t otherwise, int64_t *ret)
{
    if (!gateway_number(request, "limit", otherwise, ret)) return false;
    if (*ret >= 1 && *ret <= STORE_READ_MOST) return true;
    char detail[128];
    (void)snprintf(detail, sizeof detail, "?limit= must be 1 to %d", STORE_READ_MOST);
    web_problem(request, 400, detail, "");
    return false;
}

err_t gateway_problems(const struct job_problems *problems, struct buf *out)
{
    json_t *array = json_array();
    for (size_t i = 0; i < problems->count; i++)
        (void)json_array_append_new(
            array, json_pack("{s:s, s:s}", "pointer", problems->rows[i].pointer, "detail", problems->rows[i].detail));
    char *text = json_dumps(array, JSON_COMPACT);
    json_decref(array);
    err_t err = text ? buf_printf(out, ", \"errors\": %s", text) : err_set(ERR_memory, "a list of problems");
    free(text);
    return err;
}

/* ---- life cycle ---- */

static void on_message(struct service *service, enum wire_id id, const void *message)
{
    answers_message(service->self, id, message);
}

static void on_tick(uv_timer_t *timer)
{
    struct gateway *gateway = timer->data;
    answers_expire(gateway);
    connect_ledger(gateway);
    events_look(gateway);
}

static bool option(struct service *service, const char *name, const char *value)
{
    (void)service;
    return strcmp(name, "--port") == 0 && value && setenv("PAL_PORT", value, 1) == 0;
}

/* Where clients find the port: written whole or not at all. */
static err_t write_port(const struct gateway *gateway)
{
    char path[SERVICE_PATH_BYTES + 32], part[SERVICE_PATH_BYTES + 40];
    (void)snprintf(path, sizeof path, "%s/gateway.port", gateway->service->state_dir);
    (void)snprintf(part, sizeof part, "%s.part", path);
    FILE *file = fopen(part, "we");
    bool good = file && fprintf(file, "%u\n", web_port(gateway->web)) > 0;
    good = file && fclose(file) == 0 && good && rename(part, path) == 0;
    return good ? ERR_ok : err_set(ERR_io, "%s cannot be written", path);
}

static err_t init(struct service *service)
{
    struct gateway *gateway = calloc(1, sizeof *gateway);
    if (!gateway) return err_set(ERR_memory, "the gateway");
    service->self = gateway;
    gateway->service = service;
    const char *port = getenv("PAL_PORT");
    long number = port ? strtol(port, NULL, 10) : GATEWAY_PORT;
    if (number < 0 || number > 65535) return err_set(ERR_invalid, "--port %s: 0 to 65535", port);
    struct web_config config = {.ctx = gateway, .port = (uint16_t)number};
    config.routes = gateway_routes(&config.route_count);
    TRY(web_listen(&gateway->web, &service->loop, &config));
    (void)uv_timer_init(&service->loop, &gateway->timer);
    gateway->timer.data = gateway;
    (void)uv_timer_start(&gateway->timer, on_tick, 1, TICK_MS);
    TRY(write_port(gateway));
    log_info("REST at http://127.0.0.1:%u/", web_port(gateway->web));
    return ERR_ok;
}

static void heartbeat(struct service *service, struct service_pulse *pulse)
{
    const struct gateway *gateway = service->self;
    size_t subscribers = 0;
    for (size_t i = 0; i < GATEWAY_SUBSCRIBERS; i++) subscribers += gateway->subscribers[i].request != NULL;
    pulse_counter(pulse, "requests", (double)gateway->requests);
    pulse_counter(pulse, "refused", (double)gateway->refused);
    pulse_counter(pulse, "subscribers", (double)subscribers);
    pulse_counter(pulse, "database", gateway->store != NULL);
}

static void stop(struct service *service)
{
    struct gateway *gateway = service->self;
    if (!gateway || !gateway->web) return;
    for (size_t i = 0; i < GATEWAY_PENDING; i++) {
        struct pending *p = &gateway->pending[i];
        if (p->id && p->request) web_problem(p->request, 503, "the gateway stops", "");
        p->id = 0;
    }
    events_end(gateway);
    uv_close((uv_handle_t *)&gateway->timer, NULL);
    web_free(&gateway->web);
}

static void fini(struct service *service)
{
    struct gateway *gateway = service->self;
    if (!gateway) return;
    store_close(&gateway->store);
    origin_fini(&gateway->origin);
    free(gateway);
}

const struct service_class gateway_class = {
    .name = "gateway",
    .doc = "The gateway: REST interface, server-sent events, Prometheus. Loopback only.",
    .links_to_data = true,
    .init = init,
    .on_message = on_message,
    .heartbeat = heartbeat,
    .stop = stop,
    .fini = fini,
    .option = option,
    .options_help = "  --port N       REST port (default 7878; 0: any, see STATE/gateway.port)\n",
};
