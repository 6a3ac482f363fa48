#include "services/common/wire/wire.h"

/* clang-format off */
#define MESSAGE(id, name, doc) RECORD(name, doc)
#define RECORD(name, doc) static const struct wire_record record_##name;
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
#include "services/common/wire/messages.def"
#include "services/common/wire/undef.h"

#define FIELD(rec, f, type, max, item, doc) {#f, type, offsetof(struct wire_##rec, f), max, item, doc},
#define RECORD(name, doc) static const struct wire_field fields_##name[] = {
#define MESSAGE(id, name, doc) RECORD(name, doc)
#define U64(rec, f, doc) FIELD(rec, f, WIRE_U64, 0, NULL, doc)
#define I64(rec, f, doc) FIELD(rec, f, WIRE_I64, 0, NULL, doc)
#define F64(rec, f, doc) FIELD(rec, f, WIRE_F64, 0, NULL, doc)
#define BOOL(rec, f, doc) FIELD(rec, f, WIRE_BOOL, 0, NULL, doc)
#define TEXT(rec, f, max, doc) FIELD(rec, f, WIRE_TEXT, max, NULL, doc)
#define BIN(rec, f, max, doc) FIELD(rec, f, WIRE_BIN, max, NULL, doc)
#define F32S(rec, f, max, doc) FIELD(rec, f, WIRE_F32S, max, NULL, doc)
#define U64S(rec, f, max, doc) FIELD(rec, f, WIRE_U64S, max, NULL, doc)
#define LIST(rec, f, item, max, doc) FIELD(rec, f, WIRE_LIST, max, &record_##item, doc)
#define END(name) };
#include "services/common/wire/messages.def"
#include "services/common/wire/undef.h"

#define ROW(id, name, doc) static const struct wire_record record_##name = { \
    #name, doc, id, sizeof(struct wire_##name), fields_##name, sizeof fields_##name / sizeof *fields_##name};
#define RECORD(name, doc) ROW(0, name, doc)
#define MESSAGE(id, name, doc) ROW(id, name, doc)
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
#include "services/common/wire/messages.def"
#undef RECORD
#undef MESSAGE

#define RECORD(name, doc)
#define MESSAGE(id, name, doc) &record_##name,
static const struct wire_record *const messages[] = {
#include "services/common/wire/messages.def"
};
/* clang-format on */

#define MESSAGES (sizeof messages / sizeof *messages)

const struct wire_record *wire_at(size_t index)
{
    return index < MESSAGES ? messages[index] : NULL;
}

const struct wire_record *wire_find(uint16_t id)
{
    for (size_t i = 0; i < MESSAGES; i++) {
        if (messages[i]->id == id) return messages[i];
    }
    return NULL;
}
