/* LABELS: unit
 * process protocol: requests are one line each, replies are read strictly, mistakes are named. */
#include "env/process_codec.h"

#include <check.h>

static err_t read_line(const char *line, struct arena *arena, struct process_reply *ret)
{
    return process_read_reply(span_text(line), arena, ret);
}

START_TEST(requests_are_one_line)
{
    AUTO(buf) out = {0};
    buf_init(&out, 0);
    struct process_reset reset = {.task_text = span_text("{ \"n\":\n 1.5 , \"b\": [\"\\n\"] }"), .seed = UINT64_MAX};
    ck_assert_int_eq(process_write_reset(&reset, &out), ERR_ok);
    ck_assert_str_eq(buf_chars(&out),
                     "{\"op\":\"reset\",\"task\":{\"n\":1.5,\"b\":[\"\\n\"]},\"seed\":9007199254740991,\"expert\":false}\n");
    buf_clear(&out);
    reset = (struct process_reset){.task_text = span_text("{}"), .seed = 7, .expert = true, .noise = .5, .noise_seed = 9};
    ck_assert_int_eq(process_write_reset(&reset, &out), ERR_ok);
    ck_assert_str_eq(buf_chars(&out),
                     "{\"op\":\"reset\",\"task\":{},\"seed\":7,\"expert\":true,\"noise\":0.5,\"noise_seed\":9}\n");
    buf_clear(&out);
    reset = (struct process_reset){.task_text = span_text("{}"), .hint = true};
    ck_assert_int_eq(process_write_reset(&reset, &out), ERR_ok);
    ck_assert_str_eq(buf_chars(&out), "{\"op\":\"reset\",\"task\":{},\"seed\":0,\"expert\":false,\"hint\":true}\n");
    buf_clear(&out);
    ck_assert_int_eq(process_write_step(span_text("say \"a\\b\"\n\x01"), &out), ERR_ok);
    ck_assert_str_eq(buf_chars(&out), "{\"op\":\"step\",\"action\":\"say \\\"a\\\\b\\\"\\n\\u0001\"}\n");
    buf_clear(&out);
    ck_assert_int_eq(process_write_step(span_text("caf\xe9"), &out), ERR_ok);
    ck_assert_str_eq(buf_chars(&out), "{\"op\":\"step\",\"action\":\"caf?\"}\n");
    buf_clear(&out);
    ck_assert_int_eq(process_write_step((struct span){NULL, 0}, &out), ERR_ok);
    ck_assert_str_eq(buf_chars(&out), "{\"op\":\"step\",\"action\":\"\"}\n");

    const char *const bad[] = {"", "7", "[]", "{", "{} {}", "{\"a\":1,\"a\":2}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        reset.task_text = span_text(bad[i]);
        ck_assert_int_eq(process_write_reset(&reset, &out), ERR_malformed);
    }
}
END_TEST

START_TEST(replies_are_read)
{
    AUTO(arena) arena = {0};
    arena_init(&arena, 1 << 20);
    struct process_reply r;
    ck_assert_int_eq(read_line("{\"text\":\"hall\"}", &arena, &r), ERR_ok);
    ck_assert(span_is(r.text, "hall") && !r.terminated && r.expert.size == 0 && r.error.size == 0);
    ck_assert_int_eq(
        read_line("{\"_x\":{},\"text\":\"\",\"reward\":1,\"terminated\":true,\"expert\":\"go\",\"hint\":\"h\"}", &arena, &r),
        ERR_ok);
    ck_assert(r.text.size == 0 && r.terminated && span_is(r.expert, "go") && span_is(r.hint, "h"));
    ck_assert_double_eq(r.reward, 1);
    ck_assert_int_eq(read_line("{\"error\":\"no such task\",\"reward\":1}", &arena, &r), ERR_ok);
    ck_assert(span_is(r.error, "no such task"));
    ck_assert_double_eq(r.reward, 0);
    ck_assert_int_eq(read_line("{\"error\":\"\"}", &arena, &r), ERR_ok);
    ck_assert_uint_gt(r.error.size, 0);
}
END_TEST

START_TEST(mistakes_are_named)
{
    static const struct {
        const char *line;
        err_t err;
        const char *says;
    } bad[] = {
        {"", ERR_malformed, "not a JSON object"},
        {"hello", ERR_malformed, "hello"},
        {"[\"text\"]", ERR_malformed, "not a JSON object"},
        {"{}", ERR_malformed, "either text or error"},
        {"{\"text\":\"a\",\"error\":\"b\"}", ERR_malformed, "either text or error"},
        {"{\"text\":1}", ERR_malformed, "text: not a string"},
        {"{\"text\":\"a\",\"reward\":\"1\"}", ERR_malformed, "reward: not a number"},
        {"{\"text\":\"a\",\"reward\":NaN}", ERR_malformed, "not a JSON object"},
        {"{\"text\":\"a\",\"reward\":1e999}", ERR_malformed, "not a JSON object"},
        {"{\"text\":\"a\",\"terminated\":1}", ERR_malformed, "terminated: not true or false"},
        {"{\"text\":\"a\",\"done\":true}", ERR_malformed, "done: no such key"},
        {"{\"text\":\"a\",\"expert\":null}", ERR_malformed, "expert: not a string"},
        {"{\"text\":\"a\\u0000\"}", ERR_malformed, "not a JSON object"},
        {"{\"text\":\"a\"}{\"text\":\"b\"}", ERR_malformed, "not a JSON object"},
    };
    AUTO(arena) arena = {0};
    arena_init(&arena, 1 << 20);
    struct process_reply r;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(read_line(bad[i].line, &arena, &r) == bad[i].err, "%s", bad[i].line);
        ck_assert_msg(strstr(err_text(), bad[i].says) != NULL, "%s: %s", bad[i].line, err_text());
    }
    AUTO(buf) line = {0};
    buf_init(&line, 0);
    for (size_t i = 0; i <= PROCESS_LINE_BYTES; i++) ck_assert_int_eq(buf_text(&line, "x"), ERR_ok);
    ck_assert_int_eq(process_read_reply(buf_span(&line), &arena, &r), ERR_too_large);
    buf_clear(&line);
    ck_assert_int_eq(buf_text(&line, "{\"text\":\"\",\"expert\":\""), ERR_ok);
    for (size_t i = 0; i <= PROCESS_EXPERT_BYTES; i++) ck_assert_int_eq(buf_text(&line, "x"), ERR_ok);
    ck_assert_int_eq(buf_text(&line, "\"}"), ERR_ok);
    ck_assert_int_eq(process_read_reply(buf_span(&line), &arena, &r), ERR_too_large);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("process_codec");
    TCase *tcase = tcase_create("process_codec");
    tcase_add_test(tcase, requests_are_one_line);
    tcase_add_test(tcase, replies_are_read);
    tcase_add_test(tcase, mistakes_are_named);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
