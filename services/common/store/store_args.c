/* Parameters in PostgreSQL's binary formats (network byte order). */
#include "services/common/store/store_link.h"

#include <endian.h>
#include <stdio.h>

void store_args_init(struct store_args *args, const struct store_statement *statement)
{
    *args = (struct store_args){.statement = statement};
    buf_init(&args->bytes, STORE_VALUE_BYTES);
}

void store_args_fini(struct store_args *args)
{
    buf_fini(&args->bytes);
    args->count = 0;
}

static enum store_type type_at(const struct store_args *args)
{
    BUG_IF(args->count >= STORE_PARAMS || args->statement->params[args->count] == STORE_NONE);
    return args->statement->params[args->count];
}

/* The value is what was appended since `offset`. */
static void finish(struct store_args *args, size_t offset, err_t err)
{
    if (err != ERR_ok && args->failed == ERR_ok) {
        args->failed = err_prefix(err, "%s: $%zu", args->statement->name, args->count + 1);
        (void)snprintf(args->why, sizeof args->why, "%s", err_text());
    }
    args->values[args->count].offset = offset;
    args->values[args->count].size = args->bytes.size - offset;
    args->values[args->count].null = false;
    args->count++;
}

static err_t append16(struct buf *buf, uint16_t value)
{
    value = htobe16(value);
    return buf_append(buf, &value, sizeof value);
}

static err_t append32(struct buf *buf, uint32_t value)
{
    value = htobe32(value);
    return buf_append(buf, &value, sizeof value);
}

static err_t append64(struct buf *buf, uint64_t value)
{
    value = htobe64(value);
    return buf_append(buf, &value, sizeof value);
}

static size_t int_size(enum store_type type)
{
    BUG_IF(type != STORE_INT2 && type != STORE_INT4 && type != STORE_INT8);
    return type == STORE_INT2 ? 2 : type == STORE_INT4 ? 4 : 8;
}

static err_t append_int(struct buf *buf, size_t size, int64_t value)
{
    if (size == 8) return append64(buf, (uint64_t)value);
    if (size == 4 ? value < INT32_MIN || value > INT32_MAX : value < INT16_MIN || value > INT16_MAX)
        return err_set(ERR_invalid, "%lld does not fit %zu bytes", (long long)value, size);
    return size == 4 ? append32(buf, (uint32_t)value) : append16(buf, (uint16_t)value);
}

static size_t float_size(enum store_type type)
{
    BUG_IF(type != STORE_FLOAT4 && type != STORE_FLOAT8);
    return type == STORE_FLOAT4 ? 4 : 8;
}

static err_t append_float(struct buf *buf, size_t size, double value)
{
    if (size == 4) {
        float narrow = (float)value;
        uint32_t bits;
        memcpy(&bits, &narrow, sizeof bits);
        return append32(buf, bits);
    }
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return append64(buf, bits);
}

/* Bytes of the UTF-8 character at p, 0 when there is none that PostgreSQL would take (it refuses zero, surrogates, overlong).
 */
static size_t utf8_size(const uint8_t *p, size_t left)
{
    uint8_t c = p[0];
    if (c != 0 && c < 0x80) return 1;
    size_t n = c >= 0xc2 && c <= 0xdf ? 2 : c >= 0xe0 && c <= 0xef ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    if (n == 0 || n > left) return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((c == 0xe0 && p[1] < 0xa0) || (c == 0xed && p[1] > 0x9f) || (c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] > 0x8f))
        return 0;
    return n;
}

/* One bad byte of an outsider's text would fail the whole set it is written with: it becomes '?'. */
static err_t append_utf8(struct buf *buf, struct span text)
{
    TRY(buf_reserve(buf, text.size));
    size_t good = 0; /* start of what is not copied yet */
    size_t i = 0;
    while (i < text.size) {
        size_t n = utf8_size(text.data + i, text.size - i);
        if (n > 0) {
            i += n;
            continue;
        }
        TRY(buf_append(buf, text.data + good, i - good));
        TRY(buf_text(buf, "?"));
        good = ++i;
    }
    return buf_append(buf, text.data + good, text.size - good);
}

static err_t append_span(struct buf *buf, enum store_type type, struct span value)
{
    if (type == STORE_BYTEA) return buf_append(buf, value.data, value.size);
    BUG_IF(type != STORE_TEXT && type != STORE_JSONB);
    if (type == STORE_JSONB) TRY(buf_append(buf, "\1", 1)); /* the version of jsonb's binary form */
    return append_utf8(buf, value);
}

void store_put_null(struct store_args *args)
{
    (void)type_at(args);
    finish(args, args->bytes.size, ERR_ok);
    args->values[args->count - 1].null = true;
}

void store_put_int(struct store_args *args, int64_t value)
{
    size_t offset = args->bytes.size;
    finish(args, offset, append_int(&args->bytes, int_size(type_at(args)), value));
}

void store_put_float(struct store_args *args, double value)
{
    size_t offset = args->bytes.size;
    finish(args, offset, append_float(&args->bytes, float_size(type_at(args)), value));
}

void store_put_bool(struct store_args *args, bool value)
{
    BUG_IF(type_at(args) != STORE_BOOL);
    size_t offset = args->bytes.size;
    finish(args, offset, buf_append(&args->bytes, value ? "\1" : "\0", 1));
}

void store_put_text(struct store_args *args, const char *value)
{
    BUG_IF(type_at(args) == STORE_BYTEA);
    if (value)
        store_put_span(args, span_text(value));
    else
        store_put_null(args);
}

void store_put_span(struct store_args *args, struct span value)
{
    size_t offset = args->bytes.size;
    finish(args, offset, append_span(&args->bytes, type_at(args), value));
}

static enum store_type element_at(const struct store_args *args)
{
    enum store_type element = store_type_element(type_at(args));
    BUG_IF(element == STORE_NONE);
    return element;
}

/* dimensions, has-null flag, element type, then size and lower bound of the one dimension */
static err_t append_header(struct buf *buf, enum store_type element, size_t count, bool some_null)
{
    if (count > INT32_MAX) return err_set(ERR_too_large, "%zu elements", count);
    TRY(append32(buf, count > 0 ? 1 : 0));
    TRY(append32(buf, some_null ? 1 : 0));
    TRY(append32(buf, store_type_oid(element)));
    if (count == 0) return ERR_ok;
    TRY(append32(buf, (uint32_t)count));
    return append32(buf, 1);
}

static bool any(const bool *nulls, size_t count)
{
    for (size_t i = 0; nulls && i < count; i++)
        if (nulls[i]) return true;
    return false;
}

static err_t append_null(struct buf *buf)
{
    return append32(buf, UINT32_MAX); /* length -1 */
}

static err_t append_ints(struct buf *buf, enum store_type element, const int64_t *values, const bool *nulls, size_t count)
{
    size_t size = int_size(element);
    TRY(append_header(buf, element, count, any(nulls, count)));
    TRY(buf_reserve(buf, count * (size + 4)));
    for (size_t i = 0; i < count; i++) {
        if (nulls && nulls[i]) {
            TRY(append_null(buf));
            continue;
        }
        TRY(append32(buf, (uint32_t)size));
        TRY(append_int(buf, size, values[i]));
    }
    return ERR_ok;
}

void store_put_ints(struct store_args *args, const int64_t *values, const bool *nulls, size_t count)
{
    size_t offset = args->bytes.size;
    finish(args, offset, append_ints(&args->bytes, element_at(args), values, nulls, count));
}

static err_t append_floats(struct buf *buf, enum store_type element, const double *values, const bool *nulls, size_t count)
{
    size_t size = float_size(element);
    TRY(append_header(buf, element, count, any(nulls, count)));
    TRY(buf_reserve(buf, count * (size + 4)));
    for (size_t i = 0; i < count; i++) {
        if (nulls && nulls[i]) {
            TRY(append_null(buf));
            continue;
        }
        TRY(append32(buf, (uint32_t)size));
        TRY(append_float(buf, size, values[i]));
    }
    return ERR_ok;
}

void store_put_floats(struct store_args *args, const double *values, const bool *nulls, size_t count)
{
    size_t offset = args->bytes.size;
    finish(args, offset, append_floats(&args->bytes, element_at(args), values, nulls, count));
}

/* length, then bytes; the length is known after the text was made valid */
static err_t append_sized(struct buf *buf, enum store_type element, struct span value)
{
    size_t at = buf->size;
    TRY(append32(buf, 0));
    TRY(append_span(buf, element, value));
    uint32_t size = htobe32((uint32_t)(buf->size - at - 4));
    memcpy(buf->data + at, &size, sizeof size);
    return ERR_ok;
}

static err_t append_spans(struct buf *buf, enum store_type element, const struct span *values, const bool *nulls,
                          size_t count)
{
    TRY(append_header(buf, element, count, any(nulls, count)));
    for (size_t i = 0; i < count; i++) {
        if (nulls && nulls[i])
            TRY(append_null(buf));
        else
            TRY(append_sized(buf, element, values[i]));
    }
    return ERR_ok;
}

void store_put_spans(struct store_args *args, const struct span *values, const bool *nulls, size_t count)
{
    size_t offset = args->bytes.size;
    finish(args, offset, append_spans(&args->bytes, element_at(args), values, nulls, count));
}

static err_t append_texts(struct buf *buf, const char *const *values, size_t count)
{
    bool some_null = false;
    for (size_t i = 0; i < count; i++) some_null = some_null || !values[i];
    TRY(append_header(buf, STORE_TEXT, count, some_null));
    for (size_t i = 0; i < count; i++) {
        if (values[i])
            TRY(append_sized(buf, STORE_TEXT, span_text(values[i])));
        else
            TRY(append_null(buf));
    }
    return ERR_ok;
}

void store_put_texts(struct store_args *args, const char *const *values, size_t count)
{
    BUG_IF(type_at(args) != STORE_TEXT_ARRAY);
    size_t offset = args->bytes.size;
    finish(args, offset, append_texts(&args->bytes, values, count));
}
