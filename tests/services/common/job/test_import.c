/* Demonstrations that are handed in: what is taken, and where problems are said to be. */
#include "services/common/job/import.h"

#include <check.h>
#include <stdio.h>

static struct arena arena;

static void setup(void)
{
    arena_init(&arena, 0);
}

static void teardown(void)
{
    arena_fini(&arena);
}

START_TEST(by_body_and_by_number)
{
    struct import_item *items = NULL;
    struct job_problems problems;
    size_t count = 0;
    err_t err = import_parse(span_text("[{\"task\": {\"level\": 1, \"seed\":  9}, \"actions\": [\"go east\", \"take gem\"]},"
                                       " {\"task_id\": 17, \"environment\": 1, \"actions\": [\"x\"], \"_note\": 3}]"),
                             &arena, &items, &count, &problems);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
    ck_assert_uint_eq(count, 2);
    ck_assert_str_eq(items[0].body, "{\"level\":1,\"seed\":9}");
    ck_assert_str_eq(items[0].script, "go east\ntake gem");
    ck_assert_int_eq(items[0].task, -1);
    ck_assert_int_eq(items[0].environment, -1);
    ck_assert_str_eq(items[1].body, "");
    ck_assert_int_eq(items[1].task, 17);
    ck_assert_int_eq(items[1].environment, 1);
}
END_TEST

static const struct {
    const char *text, *pointer;
} bad[] = {
    {"[{\"task_id\": 1, \"actions\": [\"a\"]}, 7]", "/1"},
    {"[{\"actions\": [\"a\"]}]", "/0"},
    {"[{\"task_id\": 1, \"task\": {}, \"actions\": [\"a\"]}]", "/0"},
    {"[{\"task\": \"x\", \"actions\": [\"a\"]}]", "/0/task"},
    {"[{\"task_id\": -1, \"actions\": [\"a\"]}]", "/0/task_id"},
    {"[{\"task_id\": 1.5, \"actions\": [\"a\"]}]", "/0/task_id"},
    {"[{\"task_id\": 1}]", "/0/actions"},
    {"[{\"task_id\": 1, \"actions\": []}]", "/0/actions"},
    {"[{\"task_id\": 1, \"actions\": \"a\"}]", "/0/actions"},
    {"[{\"task_id\": 1, \"actions\": [\"a\", 3]}]", "/0/actions/1"},
    {"[{\"task_id\": 1, \"actions\": [\"\"]}]", "/0/actions/0"},
    {"[{\"task_id\": 1, \"actions\": [\"a\\nb\"]}]", "/0/actions/0"},
    {"[{\"task_id\": 1, \"actions\": [\"a\"], \"environment\": 8}]", "/0/environment"},
    {"[{\"task_id\": 1, \"actoins\": [\"a\"]}]", "/0/actoins"},
    {"[]", ""},
    {"{}", ""},
    {"[{", ""},
    {"", ""},
};

START_TEST(problems_have_pointers)
{
    struct import_item *items = NULL;
    struct job_problems problems;
    size_t count = 0;
    err_t err = import_parse(span_text(bad[_i].text), &arena, &items, &count, &problems);
    ck_assert_msg(err == ERR_invalid || err == ERR_malformed, "%s is taken", bad[_i].text);
    bool found = false;
    for (size_t i = 0; i < problems.count; i++) found |= strcmp(problems.rows[i].pointer, bad[_i].pointer) == 0;
    ck_assert_msg(found, "%s: no problem at '%s'", bad[_i].text, bad[_i].pointer);
}
END_TEST

START_TEST(sizes_are_bounded)
{
    AUTO(buf) text = {0};
    struct import_item *items = NULL;
    struct job_problems problems;
    size_t count = 0;
    ck_assert_int_eq(buf_text(&text, "["), ERR_ok);
    for (int i = 0; i <= IMPORT_ITEMS; i++)
        ck_assert_int_eq(buf_printf(&text, "%s{\"task_id\": 1, \"actions\": [\"a\"]}", i ? "," : ""), ERR_ok);
    ck_assert_int_eq(buf_text(&text, "]"), ERR_ok);
    ck_assert_int_eq(import_parse(buf_span(&text), &arena, &items, &count, &problems), ERR_invalid);
    buf_clear(&text);
    ck_assert_int_eq(buf_text(&text, "{\"task_id\": 1, \"actions\": [\"\""), ERR_ok);
    text.size--;
    for (int i = 0; i <= IMPORT_ACTION_BYTES; i++) ck_assert_int_eq(buf_text(&text, "x"), ERR_ok);
    ck_assert_int_eq(buf_text(&text, "\"]}"), ERR_ok);
    struct import_item item;
    ck_assert_int_eq(import_line(buf_span(&text), &arena, &item, &problems), ERR_invalid);
    ck_assert_str_eq(problems.rows[0].pointer, "/actions/0");
    buf_clear(&text);
    ck_assert_int_eq(buf_text(&text, "{\"task_id\": 1, \"actions\": ["), ERR_ok);
    for (int i = 0; i < 20; i++) ck_assert_int_eq(buf_printf(&text, "%s\"%04000d\"", i ? "," : "", i), ERR_ok);
    ck_assert_int_eq(buf_text(&text, "]}"), ERR_ok);
    ck_assert_int_eq(import_line(buf_span(&text), &arena, &item, &problems), ERR_invalid);
    ck_assert_str_eq(problems.rows[0].pointer, "/actions/16"); /* 16 of 4001 bytes fit 65536 */
}
END_TEST

START_TEST(lines_of_a_file)
{
    struct import_item item;
    struct job_problems problems;
    ck_assert_int_eq(import_line(span_text("{\"task\": {\"a\": 1}, \"actions\": [\"b\"]}\n"), &arena, &item, &problems),
                     ERR_ok);
    ck_assert_str_eq(item.script, "b");
    ck_assert_int_eq(import_line(span_text("{\"task\": {\"a\": 1}, \"actions\": [\"b\"]"), &arena, &item, &problems),
                     ERR_invalid);
    ck_assert_str_eq(problems.rows[0].pointer, "");
    ck_assert_int_eq(import_line(span_text("[1]"), &arena, &item, &problems), ERR_invalid);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("job.import");
    TCase *tcase = tcase_create("job.import");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, by_body_and_by_number);
    tcase_add_loop_test(tcase, problems_have_pointers, 0, sizeof bad / sizeof *bad);
    tcase_add_test(tcase, sizes_are_bounded);
    tcase_add_test(tcase, lines_of_a_file);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
