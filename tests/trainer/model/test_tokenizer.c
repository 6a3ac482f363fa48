/* LABELS: unit
 * tokenizer: longest match, round trips, what is refused, and a tokenizer.json that says the same. */
#include "services/common/base/rng.h"
#include "trainer/model/tokenizer.h"

#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const WORDS[] = {"go", "north", "northwest", "nor", "key", "the", "a", "key", "red key", "[3]", "west."};
#define WORD_COUNT (sizeof WORDS / sizeof *WORDS)

static struct tokenizer *words(void)
{
    struct tokenizer *t = NULL;
    ck_assert_int_eq(tokenizer_new_words(&t, WORDS, WORD_COUNT), ERR_ok);
    return t;
}

static void assert_pieces(const struct tokenizer *t, const char *text, const char *want)
{
    int32_t ids[64];
    size_t count = 0;
    AUTO(buf) pieces = {0};
    ck_assert_int_eq(tokenizer_encode(t, span_text(text), ids, 64, &count), ERR_ok);
    for (size_t i = 0; i < count; i++) {
        if (i > 0) ck_assert_int_eq(buf_text(&pieces, "|"), ERR_ok);
        ck_assert_int_eq(tokenizer_decode(t, &ids[i], 1, &pieces), ERR_ok);
    }
    ck_assert_str_eq(buf_chars(&pieces), want);
}

START_TEST(longest_match_wins)
{
    AUTO_PTR(tokenizer) t = words();
    ck_assert_int_eq(tokenizer_vocab(t), 2 + 1 + 95 + 9 * 2);
    assert_pieces(t, "go northwest", "go| northwest");
    assert_pieces(t, "north northw nort", "north| north|w| nor|t");
    assert_pieces(t, "the red key", "the| red key");
    assert_pieces(t, " red kex", " |r|e|d| |k|e|x");
    assert_pieces(t, "a [3]\nkey", "a| [3]|\n|key");
    assert_pieces(t, "\x01z", "?|z");
    assert_pieces(t, "", "");
}
END_TEST

/* for tests/golden/tokenizer_check.py */
static void dump(const struct tokenizer *t, json_t *texts)
{
    const char *folder = getenv("PAL_TOKENIZER_DUMP");
    if (!folder) return;
    char path[512];
    AUTO(buf) out = {0};
    ck_assert_int_eq(tokenizer_export(t, &out), ERR_ok);
    (void)snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(out.data, 1, out.size, file), out.size);
    ck_assert_int_eq(fclose(file), 0);
    (void)snprintf(path, sizeof path, "%s/texts.json", folder);
    ck_assert_int_eq(json_dump_file(texts, path, 0), 0);
}

START_TEST(printable_text_round_trips)
{
    AUTO_PTR(tokenizer) t = words();
    json_t *texts = json_array();
    uint64_t seed = 31;
    (void)printf("tokenizer seed %llu\n", (unsigned long long)seed);
    struct rng rng;
    rng_init(&rng, seed, 1);
    for (int round = 0; round < 2000; round++) {
        AUTO(buf) text = {0};
        AUTO(buf) back = {0};
        for (uint32_t n = rng_below(&rng, 20); n > 0; n--) {
            char c = round == 0 ? (char)(' ' + n) : (char)(' ' + rng_below(&rng, 95));
            const char *word = WORDS[rng_below(&rng, WORD_COUNT)];
            err_t err =
                rng_below(&rng, 3) == 0 ? buf_printf(&text, "%c", c) : buf_printf(&text, "%s%s", n % 2 ? " " : "", word);
            ck_assert_int_eq(err, ERR_ok);
            if (n % 7 == 0) ck_assert_int_eq(buf_text(&text, "\n"), ERR_ok);
        }
        int32_t ids[512];
        size_t count = 0;
        ck_assert_int_eq(tokenizer_encode(t, buf_span(&text), ids, 512, &count), ERR_ok);
        for (size_t i = 0; i < count; i++) ck_assert_int_gt(ids[i], 1);
        ck_assert_int_eq(tokenizer_decode(t, ids, count, &back), ERR_ok);
        ck_assert_str_eq(buf_chars(&text), buf_chars(&back));
        json_t *list = json_array();
        for (size_t i = 0; i < count; i++) (void)json_array_append_new(list, json_integer(ids[i]));
        (void)json_array_append_new(texts, json_pack("[s o]", buf_chars(&text), list));
    }
    dump(t, texts);
    json_decref(texts);
}
END_TEST

START_TEST(every_byte_has_a_token)
{
    AUTO_PTR(tokenizer) t = words();
    for (int byte = 0; byte < 256; byte++) {
        uint8_t text = (uint8_t)byte;
        int32_t id = -1;
        size_t count = 0;
        ck_assert_int_eq(tokenizer_encode(t, span_of(&text, 1), &id, 1, &count), ERR_ok);
        ck_assert_uint_eq(count, 1);
        bool known = byte == '\n' || (byte >= ' ' && byte <= '~');
        ck_assert_int_eq(id > 1, known);
        ck_assert_int_eq(tokenizer_end(t, id) == TOKENIZER_END_newline, byte == '\n');
        ck_assert_int_ne(id, 0);
    }
}
END_TEST

START_TEST(limits_hold)
{
    struct tokenizer *t = NULL;
    const char *const empty[] = {"good", ""}, *const control[] = {"ta\tb"};
    const char *const longest[] = {"0123456789012345678901234567890_"}, *const longer[] = {
                                                                            "0123456789012345678901234567890_1"};
    ck_assert_int_eq(tokenizer_new_words(&t, empty, 2), ERR_invalid);
    ck_assert_int_eq(tokenizer_new_words(&t, control, 1), ERR_invalid);
    ck_assert_int_eq(tokenizer_new_words(&t, longer, 1), ERR_invalid);
    ck_assert_int_eq(tokenizer_new_words(&t, longest, 5000), ERR_too_large);
    ck_assert_ptr_null(t);
    ck_assert_int_eq(tokenizer_new_words(&t, longest, 1), ERR_ok);
    int32_t ids[3];
    size_t count = 0;
    ck_assert_int_eq(tokenizer_encode(t, span_text("abcd"), ids, 3, &count), ERR_too_large);
    ck_assert_int_eq(tokenizer_encode(t, span_text("x 0123456789012345678901234567890_"), ids, 3, &count), ERR_ok);
    ck_assert_uint_eq(count, 2);
    AUTO(buf) out = {0};
    const int32_t bad[] = {5, tokenizer_vocab(t)};
    ck_assert_int_eq(tokenizer_decode(t, bad, 2, &out), ERR_invalid);
    ck_assert_uint_eq(out.size, 0);
    const int32_t padded[] = {0, 5, 0};
    ck_assert_int_eq(tokenizer_decode(t, padded, 3, &out), ERR_ok);
    ck_assert_uint_eq(out.size, 1);
    tokenizer_free(&t);
    ck_assert_int_eq(tokenizer_new_words(&t, NULL, 0), ERR_ok);
    ck_assert_int_eq(tokenizer_vocab(t), 98);
    tokenizer_free(&t);
}
END_TEST

START_TEST(export_is_a_word_level_tokenizer)
{
    AUTO_PTR(tokenizer) t = words();
    AUTO(buf) out = {0};
    ck_assert_int_eq(tokenizer_export(t, &out), ERR_ok);
    json_t *json = json_loads(buf_chars(&out), 0, NULL);
    const char *model = NULL, *unknown = NULL, *pattern = NULL;
    json_t *vocab = NULL;
    ck_assert_int_eq(json_unpack(json, "{s:{s:s s:s s:o} s:{s:{s:s}}}", "model", "type", &model, "unk_token", &unknown,
                                 "vocab", &vocab, "pre_tokenizer", "pattern", "Regex", &pattern),
                     0);
    ck_assert_str_eq(model, "WordLevel");
    ck_assert_int_eq((int)json_object_size(vocab), tokenizer_vocab(t));
    ck_assert_int_eq((int)json_integer_value(json_object_get(vocab, unknown)), 1);
    int32_t id = 0;
    size_t count = 0;
    ck_assert_int_eq(tokenizer_encode(t, span_text(" red key"), &id, 1, &count), ERR_ok);
    ck_assert_int_eq((int)json_integer_value(json_object_get(vocab, " red key")), id);
    ck_assert_int_eq(strncmp(pattern, " northwest|northwest| red key|", 30), 0);
    ck_assert_ptr_nonnull(strstr(pattern, "|\\[3\\]|"));
    json_decref(json);
}
END_TEST

/* a checkpoint of a preset can be where the next job begins */
START_TEST(export_is_read_back)
{
    AUTO_PTR(tokenizer) t = words();
    AUTO_PTR(tokenizer) again = NULL;
    AUTO(buf) out = {0};
    AUTO(buf) second = {0};
    ck_assert_int_eq(tokenizer_export(t, &out), ERR_ok);
    ck_assert_msg(tokenizer_open(buf_span(&out), &again) == ERR_ok, "%s", err_text());
    ck_assert_int_eq(tokenizer_vocab(again), tokenizer_vocab(t));
    ck_assert_int_eq(tokenizer_end(again, 2), TOKENIZER_END_newline);
    ck_assert_int_eq(tokenizer_export(again, &second), ERR_ok);
    ck_assert_str_eq(buf_chars(&second), buf_chars(&out));
    int32_t ids[2][64];
    size_t count[2];
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(tokenizer_encode(i == 0 ? t : again, span_text("take red key north\n\x80"), ids[i], 64, &count[i]),
                         ERR_ok);
    }
    ck_assert_uint_eq(count[0], count[1]);
    ck_assert_mem_eq(ids[0], ids[1], count[0] * sizeof ids[0][0]);
}
END_TEST

/* a word-level tokenizer of others, or one that was changed, is refused: it would split text in another way */
START_TEST(other_word_levels_are_refused)
{
    static const struct {
        const char *at, *with;
        err_t err;
    } changes[] = {{"\"northwest\":", "\"northwise\":", ERR_unsupported},
                   {"Isolated", "Removed!", ERR_unsupported},
                   {": 5,", ": 4,", ERR_malformed},
                   {": 5,", ": -1", ERR_malformed},
                   {": 99", ": \"9", ERR_malformed}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        AUTO_PTR(tokenizer) t = words();
        struct tokenizer *again = NULL;
        AUTO(buf) out = {0};
        ck_assert_int_eq(tokenizer_export(t, &out), ERR_ok);
        char *at = strstr(buf_chars(&out), changes[i].at);
        ck_assert_ptr_nonnull(at);
        memcpy(at, changes[i].with, strlen(changes[i].with));
        ck_assert_int_eq(tokenizer_open(buf_span(&out), &again), changes[i].err);
        ck_assert_ptr_null(again);
    }
    struct tokenizer *none = NULL;
    ck_assert_int_eq(tokenizer_open(span_text("{\"model\": {\"type\": \"WordLevel\"}}"), &none), ERR_unsupported);
    ck_assert_int_eq(tokenizer_open(span_text("{\"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0}}}"), &none),
                     ERR_unsupported);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer");
    TCase *tcase = tcase_create("tokenizer");
    tcase_add_test(tcase, longest_match_wins);
    tcase_add_test(tcase, printable_text_round_trips);
    tcase_add_test(tcase, every_byte_has_a_token);
    tcase_add_test(tcase, limits_hold);
    tcase_add_test(tcase, export_is_a_word_level_tokenizer);
    tcase_add_test(tcase, export_is_read_back);
    tcase_add_test(tcase, other_word_levels_are_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
