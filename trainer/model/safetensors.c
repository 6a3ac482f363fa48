#include "trainer/model/safetensors.h"

#include "trainer/model/half.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#define LENGTH_BYTES 8 /* the u64 that a file begins with */
#define ALIGN        8

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "elements are read as they lie in the file");

struct safetensors {
    struct safetensor *tensors; /* ascending begin */
    size_t count;
    json_t *index; /* name -> place in tensors */
    struct span data;
};

static const struct {
    const char *name;
    size_t bits;
} TYPES[] = {
#define DTYPE(name, bits) {#name, bits},
#include "trainer/model/safetensors.def"
#undef DTYPE
};

const char *safetensors_type_name(enum safetensors_type type)
{
    return TYPES[type].name;
}

size_t safetensors_bits(enum safetensors_type type)
{
    return TYPES[type].bits;
}

bool safetensors_type_find(const char *name, enum safetensors_type *ret)
{
    for (size_t i = 0; i < SAFETENSORS_TYPE_COUNT; i++) {
        if (strcmp(TYPES[i].name, name) != 0) continue;
        *ret = (enum safetensors_type)i;
        return true;
    }
    return false;
}

/* ---- header ---- */

static err_t read_size(const json_t *value, const char *name, const char *what, size_t *ret)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return err_set(ERR_malformed, "tensor %s: %s is not a whole number from 0", name, what);
    *ret = (size_t)json_integer_value(value);
    return ERR_ok;
}

static err_t read_shape(const json_t *shape, struct safetensor *t)
{
    if (!json_is_array(shape) || json_array_size(shape) > SAFETENSORS_RANK)
        return err_set(ERR_malformed, "tensor %s: shape is not an array of at most %d sizes", t->name, SAFETENSORS_RANK);
    t->rank = json_array_size(shape);
    t->count = 1;
    for (size_t i = 0; i < t->rank; i++) {
        TRY(read_size(json_array_get(shape, i), t->name, "a size of its shape", &t->shape[i]));
        if (__builtin_mul_overflow(t->count, t->shape[i], &t->count))
            return err_set(ERR_malformed, "tensor %s: its shape's elements cannot be counted", t->name);
    }
    return ERR_ok;
}

static err_t read_tensor(const char *name, const json_t *entry, size_t data_bytes, struct safetensor *t)
{
    if (strlen(name) >= sizeof t->name)
        return err_set(ERR_malformed, "tensor %.40s...: a name of %zu bytes; at most %zu are allowed", name, strlen(name),
                       sizeof t->name - 1);
    (void)memcpy(t->name, name, strlen(name) + 1);
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (!json_is_object(entry) || json_object_size(entry) != 3 || !type || json_array_size(offsets) != 2)
        return err_set(ERR_malformed, "tensor %s: dtype, shape and data_offsets [begin, end] are wanted", name);
    if (!safetensors_type_find(type, &t->type))
        return err_set(ERR_malformed, "tensor %s: dtype %.20s is not known", name, type);
    TRY(read_shape(json_object_get(entry, "shape"), t));
    TRY(read_size(json_array_get(offsets, 0), name, "data_offsets", &t->begin));
    TRY(read_size(json_array_get(offsets, 1), name, "data_offsets", &t->end));
    if (t->begin > t->end || t->end > data_bytes)
        return err_set(ERR_malformed, "tensor %s: bytes %zu to %zu are not within the %zu bytes of data", name, t->begin,
                       t->end, data_bytes);
    size_t bits;
    if (__builtin_mul_overflow(t->count, TYPES[t->type].bits, &bits) || bits % 8 != 0 || bits / 8 != t->end - t->begin)
        return err_set(ERR_malformed, "tensor %s: %zu bytes of data for %zu elements of %s", name, t->end - t->begin,
                       t->count, TYPES[t->type].name);
    return ERR_ok;
}

static int by_place(const void *left, const void *right)
{
    const struct safetensor *a = left, *b = right;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end) return a->end < b->end ? -1 : 1;
    return strcmp(a->name, b->name);
}

static err_t check_cover(const struct safetensors *f)
{
    size_t at = 0;
    for (size_t i = 0; i < f->count; i++) {
        const struct safetensor *t = &f->tensors[i];
        if (t->begin != at)
            return err_set(ERR_malformed, "tensor %s: begins at byte %zu of the data, %s the one before it ends (%zu)",
                           t->name, t->begin, t->begin < at ? "before" : "past where", at);
        at = t->end;
    }
    if (at != f->data.size)
        return err_set(ERR_malformed, "the tensors end at byte %zu of %zu bytes of data", at, f->data.size);
    return ERR_ok;
}

static err_t read_tensors(struct safetensors *f, json_t *header)
{
    const char *name = NULL;
    json_t *entry = NULL;
    size_t most = json_object_size(header);
    if (most > SAFETENSORS_TENSORS)
        return err_set(ERR_too_large, "%zu tensors; at most %d are allowed", most, SAFETENSORS_TENSORS);
    f->tensors = calloc(most + 1, sizeof *f->tensors);
    f->index = json_object();
    if (!f->tensors || !f->index) return err_set(ERR_memory, "a table of %zu tensors", most);
    json_object_foreach(header, name, entry)
    {
        if (strcmp(name, "__metadata__") != 0) TRY(read_tensor(name, entry, f->data.size, &f->tensors[f->count++]));
    }
    qsort(f->tensors, f->count, sizeof *f->tensors, by_place);
    TRY(check_cover(f));
    for (size_t i = 0; i < f->count; i++) {
        if (json_object_set_new(f->index, f->tensors[i].name, json_integer((json_int_t)i)) != 0)
            return err_set(ERR_memory, "a table of tensors");
    }
    return ERR_ok;
}

static err_t read_header(struct safetensors *f, struct span bytes)
{
    uint64_t length = 0;
    if (bytes.size < LENGTH_BYTES)
        return err_set(ERR_malformed, "not a safetensors file: %zu bytes are too few for the header's length", bytes.size);
    memcpy(&length, bytes.data, LENGTH_BYTES);
    if (length > SAFETENSORS_HEADER_BYTES)
        return err_set(ERR_malformed, "a safetensors header of %llu bytes; at most %zu are allowed",
                       (unsigned long long)length, SAFETENSORS_HEADER_BYTES);
    if (length > bytes.size - LENGTH_BYTES)
        return err_set(ERR_malformed, "a safetensors header of %llu bytes in a file of %zu: it is cut short",
                       (unsigned long long)length, bytes.size);
    const char *text = (const char *)bytes.data + LENGTH_BYTES;
    if (length == 0 || text[0] != '{') return err_set(ERR_malformed, "the safetensors header does not begin with {");
    f->data = span_of(bytes.data + LENGTH_BYTES + length, bytes.size - LENGTH_BYTES - (size_t)length);
    json_error_t error;
    json_t *header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (!header)
        return err_set(ERR_malformed, "the safetensors header is not JSON: %.100s at byte %d", error.text, error.position);
    err_t err = read_tensors(f, header);
    json_decref(header);
    return err;
}

err_t safetensors_open(struct span bytes, struct safetensors **ret)
{
    struct safetensors *f = calloc(1, sizeof *f);
    if (!f) return err_set(ERR_memory, "a safetensors file");
    err_t err = read_header(f, bytes);
    if (err != ERR_ok)
        safetensors_free(&f);
    else
        *ret = f;
    return err;
}

void safetensors_free(struct safetensors **file)
{
    struct safetensors *f = *file;
    *file = NULL;
    if (!f) return;
    json_decref(f->index);
    free(f->tensors);
    free(f);
}

size_t safetensors_count(const struct safetensors *file)
{
    return file->count;
}

const struct safetensor *safetensors_at(const struct safetensors *file, size_t index)
{
    BUG_IF(index >= file->count);
    return &file->tensors[index];
}

const struct safetensor *safetensors_find(const struct safetensors *file, const char *name)
{
    const json_t *at = json_object_get(file->index, name);
    return at ? &file->tensors[json_integer_value(at)] : NULL;
}

/* ---- elements ---- */

static void widen(enum safetensors_type type, const uint8_t *from, size_t count, float *to)
{
    if (type == SAFETENSORS_F32) {
        memcpy(to, from, count * sizeof *to);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        uint16_t h;
        memcpy(&h, from + 2 * i, sizeof h);
        to[i] = type == SAFETENSORS_BF16 ? half_from_bf16(h) : half_from_fp16(h);
    }
}

err_t safetensors_read(const struct safetensors *file, const struct safetensor *tensor, float *to)
{
    enum safetensors_type type = tensor->type;
    if (type != SAFETENSORS_F32 && type != SAFETENSORS_F16 && type != SAFETENSORS_BF16)
        return err_set(ERR_unsupported, "tensor %s: its type is %s; F32, F16 and BF16 can be read", tensor->name,
                       TYPES[type].name);
    if (tensor->count > 0) widen(type, file->data.data + tensor->begin, tensor->count, to);
    for (size_t i = 0; i < tensor->count; i++) {
        if (!isfinite(to[i]))
            return err_set(ERR_numeric, "tensor %s: element %zu is %s", tensor->name, i, isnan(to[i]) ? "NaN" : "infinite");
    }
    return ERR_ok;
}

void safetensors_write(enum safetensors_type type, const float *from, size_t count, uint8_t *to)
{
    BUG_IF(type != SAFETENSORS_F32 && type != SAFETENSORS_F16 && type != SAFETENSORS_BF16);
    if (type == SAFETENSORS_F32) {
        memcpy(to, from, count * sizeof *from);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        uint16_t h = type == SAFETENSORS_BF16 ? half_to_bf16(from[i]) : half_to_fp16(from[i]);
        memcpy(to + 2 * i, &h, sizeof h);
    }
}

static json_t *entry_of(const struct safetensor *t)
{
    json_t *shape = json_array();
    for (size_t i = 0; i < t->rank; i++) (void)json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", TYPES[t->type].name, "shape", shape, "data_offsets",
                     (json_int_t)t->begin, (json_int_t)t->end);
}

static json_t *header_of(struct safetensor *tensors, size_t count)
{
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    int bad = header == NULL;
    size_t at = 0;
    for (size_t i = 0; i < count && !bad; i++) {
        struct safetensor *t = &tensors[i];
        t->begin = at;
        at = t->end = t->begin + t->count * (TYPES[t->type].bits / 8);
        bad = json_object_set_new(header, t->name, entry_of(t));
    }
    if (!bad) return header;
    json_decref(header);
    return NULL;
}

err_t safetensors_header(struct safetensor *tensors, size_t count, struct buf *out)
{
    json_t *header = header_of(tensors, count);
    char *text = header ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    if (!text) return err_set(ERR_memory, "a safetensors header");
    uint64_t length = (strlen(text) + ALIGN - 1) / ALIGN * ALIGN;
    err_t err = buf_append(out, &length, sizeof length);
    if (err == ERR_ok) err = buf_printf(out, "%-*s", (int)length, text);
    free(text);
    return err;
}
