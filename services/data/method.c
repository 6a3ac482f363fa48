#include "services/data/method.h"

#include "services/common/store/store_method.h"
#include "services/data/data.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

static double *number_at(void *state, const struct method_field *field)
{
    return (double *)(void *)((char *)state + field->offset);
}

/* All 17 digits: what is read back goes on bit for bit. */
static const char *text_of(struct arena *arena, json_t *object)
{
    char *text = object ? json_dumps(object, JSON_REAL_PRECISION(17)) : NULL;
    const char *kept = text ? arena_text(arena, span_text(text)) : NULL;
    json_decref(object);
    free(text);
    return kept;
}

static json_t *value_of(double value)
{
    if (!isfinite(value)) return json_null();
    return value == floor(value) && fabs(value) < 0x1p53 ? json_integer((json_int_t)value) : json_real(value);
}

err_t method_put(struct data *data, const char *method, const struct method_field *fields, size_t count, const void *state)
{
    const struct plan *plan = data->plan;
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++) {
        double value;
        memcpy(&value, (const char *)state + fields[i].offset, sizeof value);
        (void)json_object_set_new(object, fields[i].name, value_of(value));
    }
    const char *text = text_of(&data->arena, object);
    if (!text) return err_set(ERR_memory, "the state of %s", method);
    TRY(data_begin(data));
    return store_method_put(data->store, plan->job, plan->lineage, plan->updates_done, method, text);
}

err_t method_get(struct data *data, const char *method, const struct method_field *fields, size_t count, void *state)
{
    const struct plan *plan = data->plan;
    const char *text = NULL;
    err_t err = store_method_newest(data->store, plan->job, plan->updates_done, method, &data->arena, &text);
    if (err == ERR_not_found) return ERR_ok;
    TRY(err);
    json_t *object = json_loads(text, 0, NULL);
    if (!json_is_object(object)) {
        json_decref(object);
        return err_set(ERR_conflict, "the state of %s is no object", method);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(object, fields[i].name);
        if (json_is_number(value)) *number_at(state, &fields[i]) = json_number_value(value);
    }
    json_decref(object);
    return ERR_ok;
}

const char *method_json(struct arena *arena, const struct method_number *numbers, size_t count)
{
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++) (void)json_object_set_new(object, numbers[i].name, value_of(numbers[i].value));
    return text_of(arena, object);
}

double method_told(const struct wire_update_done *done, const char *name)
{
    for (size_t i = 0; i < done->metrics_count; i++) {
        if (span_is(done->metrics[i].name, name)) return done->metrics[i].value;
    }
    return (double)NAN;
}

err_t method_load(struct data *data)
{
    TRY(phase_load(data)); /* it says which tasks there are */
    TRY(ratio_load(data));
    return gain_load(data);
}

err_t method_update(struct data *data, const struct wire_update_done *done, int64_t passes)
{
    struct method_figures *figures = &data->plan->method_figures;
#define FIGURE(name, doc) figures->name = (double)NAN;
#include "services/data/method_figures.def"
#undef FIGURE
    if (done->update < 1) return ERR_ok;
    TRY(ratio_update(data, done, passes));
    TRY(gain_update(data, done));
    return phase_update(data, done);
}

err_t method_advance(struct data *data)
{
    TRY(phase_advance(data));
    return gain_advance(data);
}
