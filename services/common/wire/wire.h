/* Messages of the bus: one frame = version byte, message id (u16, little-endian), msgpack map.
 *
 * The structs below, the encoder and the decoder are all made from messages.def. Encoding uses msgpack-c; decoding is our own
 * bounded cursor, because msgpack-c's unpacker believes counts in headers: counts never exceed the bytes left, texts, bins
 * and lists never exceed their declared maximum, keys come in the declared order, nothing may follow. A decoded message
 * borrows texts and bins from the frame; lists and numeric arrays live in the arena. */
#ifndef PAL_WIRE_WIRE_H
#define PAL_WIRE_WIRE_H

#include "services/common/base/arena.h"
#include "services/common/base/buf.h"

#define WIRE_VERSION   1
#define WIRE_MAX_BYTES ((size_t)256 << 20) /* largest frame */

struct wire_f32s {
    const float *v;
    size_t n;
};

struct wire_u64s {
    const uint64_t *v;
    size_t n;
};

/* clang-format off */
#define RECORD(name, doc) struct wire_##name {
#define MESSAGE(id, name, doc) RECORD(name, doc)
#define U64(rec, f, doc) uint64_t f;
#define I64(rec, f, doc) int64_t f;
#define F64(rec, f, doc) double f;
#define BOOL(rec, f, doc) bool f;
#define TEXT(rec, f, max, doc) struct span f;
#define BIN(rec, f, max, doc) struct span f;
#define F32S(rec, f, max, doc) struct wire_f32s f;
#define U64S(rec, f, max, doc) struct wire_u64s f;
#define LIST(rec, f, item, max, doc) const struct wire_##item *f; size_t f##_count;
#define END(name) };
#include "services/common/wire/messages.def"
#include "services/common/wire/undef.h"

#define RECORD(name, doc)
#define MESSAGE(number, name, doc) WIRE_##name = (number),
#define U64(rec, f, doc)
#define I64(rec, f, doc)
#define F64(rec, f, doc)
#define BOOL(rec, f, doc)
#define TEXT(rec, f, max, doc)
#define BIN(rec, f, max, doc)
#define F32S(rec, f, max, doc)
#define U64S(rec, f, max, doc)
#define LIST(rec, f, item, max, doc)
#define END(name)
enum wire_id {
#include "services/common/wire/messages.def"
};
#include "services/common/wire/undef.h"
/* clang-format on */

enum wire_type { WIRE_U64, WIRE_I64, WIRE_F64, WIRE_BOOL, WIRE_TEXT, WIRE_BIN, WIRE_F32S, WIRE_U64S, WIRE_LIST };

struct wire_record;

struct wire_field {
    const char *name;
    enum wire_type type;
    size_t offset;
    size_t max;                     /* bytes or items */
    const struct wire_record *item; /* of a list */
    const char *doc;
};

struct wire_record {
    const char *name;
    const char *doc;
    uint16_t id; /* 0 for parts */
    size_t size; /* of the struct */
    const struct wire_field *fields;
    size_t field_count;
};

/* All messages, in the order of messages.def. */
const struct wire_record *wire_at(size_t index);  /* NULL past the end */
const struct wire_record *wire_find(uint16_t id); /* NULL when there is none */

/* Appends the frame of a message struct. ERR_too_large when a field is past its maximum. */
err_t wire_encode(enum wire_id id, const void *message, struct buf *out) MUST_USE;

/* Reads a frame: *ret_id and a message struct in the arena. ERR_malformed says where and why. */
err_t wire_decode(struct span frame, struct arena *arena, enum wire_id *ret_id, const void **ret_message) MUST_USE;

#endif
