/* /metrics in Prometheus' text format: every series once with its HELP and TYPE, then a sample for each process. */
#include "services/gateway/gateway.h"

#include <jansson.h>

static const struct gateway_series series[] = {
#define SERIES(part, name, kind, doc) {#part, #name, #kind, doc},
#include "services/gateway/series.def"
#undef SERIES
#define COUNTER(name, doc) {"env", #name, "counter", doc},
#define GAUGE(name, doc)   {"env", #name, "gauge", doc},
#include "services/env/counters.def"
#undef COUNTER
#undef GAUGE
};

const struct gateway_series *gateway_series(size_t *ret_count)
{
    *ret_count = sizeof series / sizeof *series;
    return series;
}

/* One sample; identity tells apart several processes of a service. */
static err_t sample(struct buf *out, const struct gateway_series *row, const char *identity, const json_t *value,
                    bool *headed)
{
    if (!json_is_number(value) && !json_is_boolean(value)) return ERR_ok;
    if (!*headed)
        TRY(buf_printf(out, "# HELP pal_%s_%s %s\n# TYPE pal_%s_%s %s\n", row->part, row->name, row->doc, row->part,
                       row->name, row->kind));
    *headed = true;
    double number = json_is_boolean(value) ? json_is_true(value) : json_number_value(value);
    return buf_printf(out, "pal_%s_%s{identity=\"%s\"} %.17g\n", row->part, row->name, identity, number);
}

static err_t write_series(const struct gateway_series *row, const json_t *status, struct buf *out)
{
    json_t *peer = NULL;
    size_t index = 0;
    bool headed = false;
    if (strcmp(row->part, "data") == 0 || strcmp(row->part, "job") == 0)
        return sample(out, row, "data", json_object_get(json_object_get(status, row->part), row->name), &headed);
    json_array_foreach(json_object_get(status, "services"), index, peer)
    {
        const char *service = json_string_value(json_object_get(peer, "service"));
        const char *state = json_string_value(json_object_get(peer, "state"));
        if (!service || !state || strcmp(service, row->part) != 0 || strcmp(state, "alive") != 0) continue;
        TRY(sample(out, row, json_string_value(json_object_get(peer, "identity")),
                   json_object_get(json_object_get(peer, "counters"), row->name), &headed));
    }
    return ERR_ok;
}

err_t gateway_prometheus(const json_t *status, struct buf *out)
{
    for (size_t i = 0; i < sizeof series / sizeof *series; i++) TRY(write_series(&series[i], status, out));
    return ERR_ok;
}
