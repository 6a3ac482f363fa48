/* LABELS: unit
 * wire: every message round-trips with every field filled, every truncation and every foreign tail is refused, counts and
 * sizes past their maximum never take memory. The messages come from the table, so a new one is tested by being there. */
#include "services/common/base/rng.h"
#include "services/common/wire/wire.h"

#include <check.h>
#include <stdlib.h>

/* Fills a record of the table with seeded values; depth bounds nested lists. */
static void fill(const struct wire_record *record, uint8_t *message, struct rng *rng, struct arena *arena);

static struct span random_text(struct rng *rng, size_t max, struct arena *arena)
{
    size_t size = rng_below(rng, (uint32_t)(max < 40 ? max : 40) + 1);
    uint8_t *text = arena_take(arena, size + 1, 1);
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < size; i++) text[i] = (uint8_t)(1 + rng_below(rng, 255));
    return span_of(text, size);
}

static void fill_list(const struct wire_field *field, uint8_t *place, struct rng *rng, struct arena *arena)
{
    size_t count = 1 + rng_below(rng, 3);
    uint8_t *items = arena_take(arena, count, field->item->size);
    ck_assert_ptr_nonnull(items);
    for (size_t i = 0; i < count; i++) fill(field->item, items + i * field->item->size, rng, arena);
    memcpy(place, &items, sizeof items);
    memcpy(place + sizeof items, &count, sizeof count);
}

static void fill_array(uint8_t *place, size_t width, struct rng *rng, struct arena *arena)
{
    size_t count = rng_below(rng, 5);
    uint8_t *items = arena_take(arena, count + 1, width);
    ck_assert_ptr_nonnull(items);
    for (size_t i = 0; i < count * width; i++) items[i] = (uint8_t)rng_below(rng, 120);
    memcpy(place, &items, sizeof items);
    memcpy(place + sizeof items, &count, sizeof count);
}

static void fill(const struct wire_record *record, uint8_t *message, struct rng *rng, struct arena *arena)
{
    for (size_t i = 0; i < record->field_count; i++) {
        const struct wire_field *field = &record->fields[i];
        uint8_t *place = message + field->offset;
        uint64_t bits = rng_u64(rng) >> rng_below(rng, 64);
        double real = rng_normal(rng);
        bool yes = rng_below(rng, 2) == 1;
        struct span text;
        switch (field->type) {
        case WIRE_U64:
        case WIRE_I64:
            memcpy(place, &bits, sizeof bits);
            break;
        case WIRE_F64:
            memcpy(place, &real, sizeof real);
            break;
        case WIRE_BOOL:
            memcpy(place, &yes, sizeof yes);
            break;
        case WIRE_TEXT:
        case WIRE_BIN:
            text = random_text(rng, field->max, arena);
            memcpy(place, &text, sizeof text);
            break;
        case WIRE_F32S:
            fill_array(place, sizeof(float), rng, arena);
            break;
        case WIRE_U64S:
            fill_array(place, sizeof(uint64_t), rng, arena);
            break;
        case WIRE_LIST:
            fill_list(field, place, rng, arena);
            break;
        }
    }
}

static void encode_one(const struct wire_record *record, uint64_t seed, struct arena *arena, struct buf *out)
{
    struct rng rng;
    rng_init(&rng, seed, record->id);
    uint8_t *message = arena_take(arena, 1, record->size);
    ck_assert_ptr_nonnull(message);
    fill(record, message, &rng, arena);
    ck_assert_int_eq(wire_encode((enum wire_id)record->id, message, out), ERR_ok);
}

/* encode(decode(encode(m))) gives the same bytes: nothing is lost, nothing is added */
START_TEST(every_message_round_trips)
{
    for (size_t m = 0; wire_at(m); m++) {
        for (uint64_t seed = 1; seed <= 50; seed++) {
            AUTO(arena) arena = {0};
            AUTO(buf) first = {0};
            AUTO(buf) second = {0};
            encode_one(wire_at(m), seed, &arena, &first);
            enum wire_id id = 0;
            const void *back = NULL;
            err_t err = wire_decode(buf_span(&first), &arena, &id, &back);
            ck_assert_msg(err == ERR_ok, "%s, seed %lu: %s", wire_at(m)->name, (unsigned long)seed, err_text());
            ck_assert_uint_eq((unsigned)id, wire_at(m)->id);
            ck_assert_int_eq(wire_encode(id, back, &second), ERR_ok);
            ck_assert(span_equal(buf_span(&first), buf_span(&second)));
        }
    }
}
END_TEST

START_TEST(every_truncation_and_tail_is_refused)
{
    for (size_t m = 0; wire_at(m); m++) {
        AUTO(arena) arena = {0};
        AUTO(buf) frame = {0};
        encode_one(wire_at(m), 7, &arena, &frame);
        enum wire_id id = 0;
        const void *back = NULL;
        for (size_t cut = 0; cut < frame.size; cut++) {
            uint8_t *exact = malloc(cut + 1); /* a block of its own, so that an overrun is seen */
            ck_assert_ptr_nonnull(exact);
            memcpy(exact, frame.data, cut);
            err_t err = wire_decode(span_of(exact, cut), &arena, &id, &back);
            free(exact);
            ck_assert_msg(err == ERR_malformed, "%s cut to %zu: %s", wire_at(m)->name, cut, err_name(err));
        }
        ck_assert_int_eq(buf_append(&frame, "x", 1), ERR_ok);
        ck_assert_int_eq(wire_decode(buf_span(&frame), &arena, &id, &back), ERR_malformed);
    }
}
END_TEST

START_TEST(changed_bytes_never_crash)
{
    for (size_t m = 0; wire_at(m); m++) {
        AUTO(arena) arena = {0};
        AUTO(buf) frame = {0};
        encode_one(wire_at(m), 11, &arena, &frame);
        struct rng rng;
        rng_init(&rng, 3, m);
        for (int i = 0; i < 3000; i++) {
            uint32_t at = rng_below(&rng, (uint32_t)frame.size);
            uint8_t kept = frame.data[at];
            frame.data[at] = (uint8_t)rng_below(&rng, 256);
            AUTO(arena) small = {0};
            arena_init(&small, 1 << 20);
            enum wire_id id = 0;
            const void *back = NULL;
            err_t err = wire_decode(buf_span(&frame), &small, &id, &back);
            ck_assert(err == ERR_ok || err == ERR_malformed || err == ERR_too_large);
            frame.data[at] = kept;
        }
    }
}
END_TEST

/* msgpack-c's own unpacker asks for gigabytes on these */
START_TEST(counts_in_heads_take_no_memory)
{
    AUTO(arena) arena = {0};
    arena_init(&arena, 4096);
    enum wire_id id = 0;
    const void *back = NULL;
    const uint8_t huge_list[] = {1,   30,  0,   0x82, 0xa3, 'j', 'o', 'b',  1,    0xaa, 'f',  'r', 'e',
                                 'e', '_', 's', 'l',  'o',  't', 's', 0xdd, 0xff, 0xff, 0xff, 0xff};
    ck_assert_int_eq(wire_decode(span_of(huge_list, sizeof huge_list), &arena, &id, &back), ERR_malformed);
    const uint8_t huge_map[] = {1, 30, 0, 0xdf, 0xff, 0xff, 0xff, 0xff};
    ck_assert_int_eq(wire_decode(span_of(huge_map, sizeof huge_map), &arena, &id, &back), ERR_malformed);
    const uint8_t leases[] = {1,   31,  0,   0x82, 0xa3, 'j',  'o',  'b',  1,    0xa6, 'l',
                              'e', 'a', 's', 'e',  's',  0xdd, 0x00, 0x00, 0x0f, 0xff, 0x80};
    ck_assert_int_eq(wire_decode(span_of(leases, sizeof leases), &arena, &id, &back), ERR_malformed);
    ck_assert_uint_lt(arena.used_bytes, 4096);
}
END_TEST

START_TEST(fields_past_their_maximum_are_refused)
{
    AUTO(buf) out = {0};
    char long_name[200];
    memset(long_name, 'a', sizeof long_name);
    struct wire_hello hello = {.service = span_of(long_name, sizeof long_name)};
    ck_assert_int_eq(wire_encode(WIRE_hello, &hello, &out), ERR_too_large);
    ck_assert_uint_eq(out.size, 0);
    hello.service = span_text("a\tb");
    ck_assert_int_eq(wire_encode(WIRE_hello, &hello, &out), ERR_ok);
}
END_TEST

START_TEST(names_and_ids_are_unique)
{
    for (size_t i = 0; wire_at(i); i++) {
        ck_assert_ptr_eq(wire_find(wire_at(i)->id), wire_at(i));
        ck_assert_uint_gt(strlen(wire_at(i)->doc), 0);
        for (size_t j = i + 1; wire_at(j); j++) ck_assert_uint_ne(wire_at(i)->id, wire_at(j)->id);
    }
    ck_assert_ptr_null(wire_find(9999));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wire");
    TCase *tcase = tcase_create("wire");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, every_message_round_trips);
    tcase_add_test(tcase, every_truncation_and_tail_is_refused);
    tcase_add_test(tcase, changed_bytes_never_crash);
    tcase_add_test(tcase, counts_in_heads_take_no_memory);
    tcase_add_test(tcase, fields_past_their_maximum_are_refused);
    tcase_add_test(tcase, names_and_ids_are_unique);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
