#include "services/common/wire/wire.h"

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
    struct arena *arena;
};

enum kind { KIND_UINT, KIND_INT, KIND_FLOAT, KIND_BOOL, KIND_STR, KIND_BIN, KIND_ARRAY, KIND_MAP };

/* One msgpack head: scalars with their value, the rest with their length. */
struct head {
    enum kind kind;
    uint64_t u; /* unsigned value, length, or bool */
    int64_t i;
    double f;
};

static bool take_uint(struct cursor *c, size_t width, uint64_t *ret)
{
    if ((size_t)(c->end - c->at) < width) return false;
    uint64_t value = 0;
    for (size_t i = 0; i < width; i++) value = value << 8 | c->at[i];
    c->at += width;
    *ret = value;
    return true;
}

static bool head_sized(struct cursor *c, struct head *ret, enum kind kind, size_t width)
{
    ret->kind = kind;
    return take_uint(c, width, &ret->u);
}

static bool head_signed(struct cursor *c, struct head *ret, size_t width)
{
    uint64_t raw = 0;
    if (!take_uint(c, width, &raw)) return false;
    unsigned shift = 64u - 8u * (unsigned)width;
    uint64_t widened = raw << shift;
    int64_t value = 0;
    memcpy(&value, &widened, sizeof value);
    value >>= shift;
    if (value >= 0)
        *ret = (struct head){.kind = KIND_UINT, .u = (uint64_t)value};
    else
        *ret = (struct head){.kind = KIND_INT, .i = value};
    return true;
}

static bool head_float(struct cursor *c, struct head *ret, size_t width)
{
    uint64_t raw = 0;
    if (!take_uint(c, width, &raw)) return false;
    ret->kind = KIND_FLOAT;
    if (width == 8) {
        memcpy(&ret->f, &raw, sizeof ret->f);
    } else {
        uint32_t narrow = (uint32_t)raw;
        float single = 0;
        memcpy(&single, &narrow, sizeof single);
        ret->f = (double)single;
    }
    return true;
}

static bool take_head(struct cursor *c, struct head *ret)
{
    if (c->at == c->end) return false;
    uint8_t b = *c->at++;
    *ret = (struct head){.kind = KIND_UINT, .u = b};
    if (b <= 0x7f) return true;
    if (b <= 0x8f) return *ret = (struct head){.kind = KIND_MAP, .u = b & 15u}, true;
    if (b <= 0x9f) return *ret = (struct head){.kind = KIND_ARRAY, .u = b & 15u}, true;
    if (b <= 0xbf) return *ret = (struct head){.kind = KIND_STR, .u = b & 31u}, true;
    if (b >= 0xe0) return *ret = (struct head){.kind = KIND_INT, .i = (int64_t)b - 256}, true;
    if (b == 0xc2 || b == 0xc3) return *ret = (struct head){.kind = KIND_BOOL, .u = b & 1u}, true;
    if (b >= 0xc4 && b <= 0xc6) return head_sized(c, ret, KIND_BIN, (size_t)1 << (b - 0xc4));
    if (b == 0xca || b == 0xcb) return head_float(c, ret, b == 0xca ? 4 : 8);
    if (b >= 0xcc && b <= 0xcf) return head_sized(c, ret, KIND_UINT, (size_t)1 << (b - 0xcc));
    if (b >= 0xd0 && b <= 0xd3) return head_signed(c, ret, (size_t)1 << (b - 0xd0));
    if (b >= 0xd9 && b <= 0xdb) return head_sized(c, ret, KIND_STR, (size_t)1 << (b - 0xd9));
    if (b == 0xdc || b == 0xdd) return head_sized(c, ret, KIND_ARRAY, b == 0xdc ? 2 : 4);
    if (b == 0xde || b == 0xdf) return head_sized(c, ret, KIND_MAP, b == 0xde ? 2 : 4);
    return false;
}

static err_t bad(const struct wire_record *record, const struct wire_field *field, const char *why)
{
    return err_set(ERR_malformed, "%s.%s: %s", record->name, field ? field->name : "*", why);
}

static err_t take_record(struct cursor *c, const struct wire_record *record, uint8_t *message);

/* The bytes that follow a str or bin head. */
static err_t take_bytes(struct cursor *c, const struct wire_record *record, const struct wire_field *field,
                        const struct head *head, struct span *ret)
{
    if (head->u > (uint64_t)(c->end - c->at)) return bad(record, field, "longer than the frame");
    *ret = span_of(c->at, (size_t)head->u);
    c->at += head->u;
    return ERR_ok;
}

static err_t take_array(struct cursor *c, const struct wire_record *record, const struct wire_field *field,
                        const struct head *head, size_t width, uint8_t *place)
{
    struct span raw = {0};
    TRY(take_bytes(c, record, field, head, &raw));
    if (raw.size % width != 0) return bad(record, field, "not a whole number of items");
    size_t n = raw.size / width;
    if (n > field->max) return bad(record, field, "too many items");
    const void *items = NULL;
    if (n) {
        void *copy = arena_take(c->arena, n, width);
        if (!copy) return ERR_too_large;
        items = memcpy(copy, raw.data, raw.size);
    }
    memcpy(place, &items, sizeof items);
    memcpy(place + sizeof items, &n, sizeof n);
    return ERR_ok;
}

static err_t take_list(struct cursor *c, const struct wire_record *record, const struct wire_field *field,
                       const struct head *head, uint8_t *place)
{
    /* an item takes at least one byte per key and value, so the count is bounded by the bytes left */
    if (head->u > field->max || head->u > (uint64_t)(c->end - c->at)) return bad(record, field, "too many items");
    size_t count = (size_t)head->u;
    uint8_t *items = NULL;
    if (count) {
        items = arena_take(c->arena, count, field->item->size);
        if (!items) return ERR_too_large;
    }
    for (size_t i = 0; i < count; i++) TRY(take_record(c, field->item, items + i * field->item->size));
    memcpy(place, &items, sizeof items);
    memcpy(place + sizeof items, &count, sizeof count);
    return ERR_ok;
}

static err_t take_scalar(const struct wire_record *record, const struct wire_field *field, const struct head *head,
                         uint8_t *place)
{
    if (field->type == WIRE_U64 && head->kind == KIND_UINT) return memcpy(place, &head->u, sizeof head->u), ERR_ok;
    if (field->type == WIRE_I64) {
        if (head->kind == KIND_INT) return memcpy(place, &head->i, sizeof head->i), ERR_ok;
        if (head->kind == KIND_UINT && head->u <= INT64_MAX) {
            int64_t value = (int64_t)head->u;
            return memcpy(place, &value, sizeof value), ERR_ok;
        }
    }
    if (field->type == WIRE_F64 && (head->kind == KIND_FLOAT || head->kind == KIND_UINT || head->kind == KIND_INT)) {
        double value = head->kind == KIND_FLOAT ? head->f : head->kind == KIND_UINT ? (double)head->u : (double)head->i;
        return memcpy(place, &value, sizeof value), ERR_ok;
    }
    if (field->type == WIRE_BOOL && head->kind == KIND_BOOL) {
        bool value = head->u != 0;
        return memcpy(place, &value, sizeof value), ERR_ok;
    }
    return bad(record, field, "wrong type");
}

static err_t take_field(struct cursor *c, const struct wire_record *record, const struct wire_field *field, uint8_t *place)
{
    struct head head = {0};
    if (!take_head(c, &head)) return bad(record, field, "truncated or unknown type");
    switch (field->type) {
    case WIRE_U64:
    case WIRE_I64:
    case WIRE_F64:
    case WIRE_BOOL:
        return take_scalar(record, field, &head, place);
    case WIRE_TEXT:
    case WIRE_BIN: {
        if (head.kind != (field->type == WIRE_TEXT ? KIND_STR : KIND_BIN)) return bad(record, field, "wrong type");
        struct span bytes = {0};
        TRY(take_bytes(c, record, field, &head, &bytes));
        if (bytes.size > field->max) return bad(record, field, "too long");
        if (field->type == WIRE_TEXT && bytes.size && memchr(bytes.data, 0, bytes.size))
            return bad(record, field, "a zero byte in a text");
        memcpy(place, &bytes, sizeof bytes);
        return ERR_ok;
    }
    case WIRE_F32S:
        return head.kind == KIND_BIN ? take_array(c, record, field, &head, sizeof(float), place)
                                     : bad(record, field, "wrong type");
    case WIRE_U64S:
        return head.kind == KIND_BIN ? take_array(c, record, field, &head, sizeof(uint64_t), place)
                                     : bad(record, field, "wrong type");
    case WIRE_LIST:
        return head.kind == KIND_ARRAY ? take_list(c, record, field, &head, place) : bad(record, field, "wrong type");
    }
    return bad(record, field, "wrong type");
}

static err_t take_record(struct cursor *c, const struct wire_record *record, uint8_t *message)
{
    struct head head = {0};
    if (!take_head(c, &head) || head.kind != KIND_MAP || head.u != record->field_count)
        return bad(record, NULL, "not a map of its fields");
    for (size_t i = 0; i < record->field_count; i++) {
        const struct wire_field *field = &record->fields[i];
        struct span key = {0};
        if (!take_head(c, &head) || head.kind != KIND_STR) return bad(record, field, "no key");
        TRY(take_bytes(c, record, field, &head, &key));
        if (!span_is(key, field->name)) return bad(record, field, "another key in its place");
        TRY(take_field(c, record, field, message + field->offset));
    }
    return ERR_ok;
}

err_t wire_decode(struct span frame, struct arena *arena, enum wire_id *ret_id, const void **ret_message)
{
    if (frame.size < 3) return err_set(ERR_malformed, "a frame of %zu bytes", frame.size);
    if (frame.data[0] != WIRE_VERSION)
        return err_set(ERR_malformed, "wire version %d, ours is %d", frame.data[0], WIRE_VERSION);
    uint16_t id = (uint16_t)(frame.data[1] | frame.data[2] << 8);
    const struct wire_record *record = wire_find(id);
    if (!record) return err_set(ERR_malformed, "unknown message id %u", id);
    uint8_t *message = arena_take(arena, 1, record->size);
    if (!message) return ERR_too_large;
    struct cursor c = {frame.data + 3, frame.data + frame.size, arena};
    TRY(take_record(&c, record, message));
    if (c.at != c.end) return bad(record, NULL, "bytes after its end");
    *ret_id = (enum wire_id)id;
    *ret_message = message;
    return ERR_ok;
}
