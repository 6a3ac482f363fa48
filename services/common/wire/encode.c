#include "services/common/wire/wire.h"

#include <msgpack.h>

/* msgpack-c reports only 0 or -1; why it failed is kept here */
struct sink {
    struct buf *out;
    err_t err;
};

static int sink_write(void *data, const char *bytes, size_t size)
{
    struct sink *sink = data;
    if (sink->err == ERR_ok) sink->err = buf_append(sink->out, bytes, size);
    return sink->err == ERR_ok ? 0 : -1;
}

static err_t pack_record(msgpack_packer *packer, const struct wire_record *record, const uint8_t *message);

static err_t check_size(const struct wire_record *record, const struct wire_field *field, size_t size)
{
    if (size <= field->max) return ERR_ok;
    return err_set(ERR_too_large, "%s.%s: %zu is past %zu", record->name, field->name, size, field->max);
}

static void pack_bytes(msgpack_packer *packer, const void *bytes, size_t size)
{
    (void)msgpack_pack_bin(packer, size);
    if (size) (void)msgpack_pack_bin_body(packer, bytes, size);
}

static err_t pack_list(msgpack_packer *packer, const struct wire_record *record, const struct wire_field *field,
                       const uint8_t *place)
{
    const uint8_t *items = NULL;
    size_t count = 0;
    memcpy(&items, place, sizeof items);
    memcpy(&count, place + sizeof items, sizeof count);
    TRY(check_size(record, field, count));
    (void)msgpack_pack_array(packer, count);
    for (size_t i = 0; i < count; i++) TRY(pack_record(packer, field->item, items + i * field->item->size));
    return ERR_ok;
}

static err_t pack_field(msgpack_packer *packer, const struct wire_record *record, const struct wire_field *field,
                        const uint8_t *place)
{
    union {
        uint64_t u64;
        int64_t i64;
        double f64;
        bool yes;
        struct span span;
        struct wire_f32s f32s;
        struct wire_u64s u64s;
    } value;
    switch (field->type) {
    case WIRE_U64:
        memcpy(&value.u64, place, sizeof value.u64);
        (void)msgpack_pack_uint64(packer, value.u64);
        return ERR_ok;
    case WIRE_I64:
        memcpy(&value.i64, place, sizeof value.i64);
        (void)msgpack_pack_int64(packer, value.i64);
        return ERR_ok;
    case WIRE_F64:
        memcpy(&value.f64, place, sizeof value.f64);
        (void)msgpack_pack_double(packer, value.f64);
        return ERR_ok;
    case WIRE_BOOL:
        memcpy(&value.yes, place, sizeof value.yes);
        (void)(value.yes ? msgpack_pack_true(packer) : msgpack_pack_false(packer));
        return ERR_ok;
    case WIRE_TEXT:
        memcpy(&value.span, place, sizeof value.span);
        TRY(check_size(record, field, value.span.size));
        (void)msgpack_pack_str(packer, value.span.size);
        if (value.span.size) (void)msgpack_pack_str_body(packer, value.span.data, value.span.size);
        return ERR_ok;
    case WIRE_BIN:
        memcpy(&value.span, place, sizeof value.span);
        TRY(check_size(record, field, value.span.size));
        pack_bytes(packer, value.span.data, value.span.size);
        return ERR_ok;
    case WIRE_F32S:
        memcpy(&value.f32s, place, sizeof value.f32s);
        TRY(check_size(record, field, value.f32s.n));
        pack_bytes(packer, value.f32s.v, value.f32s.n * sizeof(float));
        return ERR_ok;
    case WIRE_U64S:
        memcpy(&value.u64s, place, sizeof value.u64s);
        TRY(check_size(record, field, value.u64s.n));
        pack_bytes(packer, value.u64s.v, value.u64s.n * sizeof(uint64_t));
        return ERR_ok;
    case WIRE_LIST:
        return pack_list(packer, record, field, place);
    }
    return ERR_ok;
}

static err_t pack_record(msgpack_packer *packer, const struct wire_record *record, const uint8_t *message)
{
    (void)msgpack_pack_map(packer, record->field_count);
    for (size_t i = 0; i < record->field_count; i++) {
        const struct wire_field *field = &record->fields[i];
        size_t length = strlen(field->name);
        (void)msgpack_pack_str(packer, length);
        (void)msgpack_pack_str_body(packer, field->name, length);
        TRY(pack_field(packer, record, field, message + field->offset));
    }
    return ERR_ok;
}

err_t wire_encode(enum wire_id id, const void *message, struct buf *out)
{
    const struct wire_record *record = wire_find((uint16_t)id);
    BUG_IF(!record);
    size_t before = out->size;
    uint8_t head[3] = {WIRE_VERSION, (uint8_t)(record->id & 0xff), (uint8_t)(record->id >> 8)};
    struct sink sink = {.out = out, .err = ERR_ok};
    sink.err = buf_append(out, head, sizeof head);
    msgpack_packer packer;
    msgpack_packer_init(&packer, &sink, sink_write);
    err_t err = pack_record(&packer, record, message);
    if (err == ERR_ok) err = sink.err;
    if (err != ERR_ok) out->size = before;
    return err;
}
