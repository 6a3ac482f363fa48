/* /openapi.json and docs/rest.md from routes.def, docs/metrics.md from the tables of figures. */
#include "services/gateway/gateway.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static json_t *operation(const struct web_route *route)
{
    json_t *parameters = json_array();
    for (const char *at = strchr(route->path, '{'); at; at = strchr(at + 1, '{')) {
        char name[32];
        (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(at + 1, "}"), at + 1);
        (void)json_array_append_new(parameters, json_pack("{s:s, s:s, s:b, s:{s:s, s:i}}", "name", name, "in", "path",
                                                          "required", 1, "schema", "type", "integer", "minimum", 0));
    }
    json_t *problem = json_pack("{s:s, s:{s:{s:{s:s}}}}", "description", "RFC 9457 problem", "content",
                                "application/problem+json", "schema", "$ref", "#/components/schemas/Problem");
    json_t *responses = json_pack("{s:{s:s}, s:o}", "200", "description", "done", "default", problem);
    json_t *op = json_pack("{s:s, s:o, s:o}", "description", route->doc, "parameters", parameters, "responses", responses);
    if (strcmp(route->method, "POST") == 0 && strcmp(route->path, "/v1/jobs") == 0)
        (void)json_object_set_new(
            op, "requestBody",
            json_pack("{s:b, s:{s:{s:{s:s}}}}", "required", 1, "content", "application/json", "schema", "type", "object"));
    return op;
}

err_t documents_openapi(struct buf *out)
{
    size_t count = 0;
    const struct web_route *routes = gateway_routes(&count);
    json_t *paths = json_object();
    for (size_t i = 0; i < count; i++) {
        json_t *path = json_object_get(paths, routes[i].path);
        char method[16] = "";
        for (size_t k = 0; routes[i].method[k] && k < sizeof method - 1; k++) method[k] = (char)tolower(routes[i].method[k]);
        if (!path) {
            path = json_object();
            (void)json_object_set_new(paths, routes[i].path, path);
        }
        (void)json_object_set_new(path, method, operation(&routes[i]));
    }
    json_t *schema = json_pack("{s:s, s:{s:{s:s}, s:{s:s}, s:{s:s}, s:{s:s}, s:{s:s, s:{s:s}}}}", "type", "object",
                               "properties", "type", "type", "string", "title", "type", "string", "status", "type", "integer",
                               "detail", "type", "string", "errors", "type", "array", "items", "type", "object");
    json_t *root = json_pack("{s:s, s:{s:s, s:s, s:s}, s:o, s:{s:{s:o}}}", "openapi", "3.1.0", "info", "title", "Palaestra",
                             "version", PAL_VERSION, "description", "RL agent-training orchestration", "paths", paths,
                             "components", "schemas", "Problem", schema);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (!text) return err_set(ERR_memory, "the OpenAPI document");
    err_t err = buf_printf(out, "%s\n", text);
    free(text);
    return err;
}

err_t documents_rest(struct buf *out)
{
    size_t count = 0;
    const struct web_route *routes = gateway_routes(&count);
    TRY(buf_text(
        out,
        "# REST\n\n"
        "Made from `services/gateway/routes.def`; a test compares. The same as OpenAPI: `/openapi.json`. The server listens "
        "on\n"
        "127.0.0.1 only (port 7878, or the one in `STATE/gateway.port`); Host and Origin are checked, bodies are JSON of at "
        "most\n512 KiB. Errors are RFC 9457 problem+json; a 422 for a job lists `errors` with a JSON pointer each.\n\n"
        "| method | path | |\n| --- | --- | --- |\n"));
    for (size_t i = 0; i < count; i++) {
        TRY(buf_printf(out, "| %s | `%s` | ", routes[i].method, routes[i].path));
        for (const char *at = routes[i].doc; *at; at++) TRY(*at == '|' ? buf_text(out, "or") : buf_append(out, at, 1));
        TRY(buf_text(out, " |\n"));
    }
    return ERR_ok;
}

/* The figures of an update: what the data manager and the trainer say about it. */
static const struct {
    const char *name, *doc;
} figures[] = {
#define FIGURE(name, doc) {#name, doc},
#include "services/data/figures.def"
#include "services/data/method_figures.def"
#include "trainer/diagnostics.def"
#undef FIGURE
};

err_t documents_metrics(struct buf *out)
{
    size_t count = 0;
    const struct gateway_series *series = gateway_series(&count);
    TRY(buf_text(out,
                 "# Metrics\n\nMade from the tables in the code; a test compares.\n\n"
                 "## Of each update\n\n"
                 "`GET /v1/jobs/{id}/metrics`, table `metric` of the ledger, by (lineage, update). Episodes of the batch "
                 "first, then\nthe trainer's.\n\n| name | |\n| --- | --- |\n"));
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        TRY(buf_printf(out, "| `%s` | %s |\n", figures[i].name, figures[i].doc));
    TRY(buf_text(
        out, "\n## Of the processes\n\n`GET /metrics` (Prometheus text); label `identity` is the process. The same values "
             "are in\n`GET /v1/status`, with rates per second.\n\n| series | type | |\n| --- | --- | --- |\n"));
    for (size_t i = 0; i < count; i++)
        TRY(buf_printf(out, "| `pal_%s_%s` | %s | %s |\n", series[i].part, series[i].name, series[i].kind, series[i].doc));
    return ERR_ok;
}
