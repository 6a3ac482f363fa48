/* When a group is played again with a hint, and the line that the agent reads. */
#include "curation/hint.h"

#include <check.h>

static void expect(const char *template, const char *hint, const char *want)
{
    AUTO(buf) out = {0};
    ck_assert_int_eq(buf_text(&out, "before|"), ERR_ok);
    ck_assert_int_eq(hint_render(span_text(template), span_text(hint), &out), ERR_ok);
    ck_assert_str_eq(buf_chars(&out) + 7, want);
}

START_TEST(wanted_at_the_threshold_and_below)
{
    ck_assert(hint_wanted(0, 0.001));
    ck_assert(hint_wanted(0.001, 0.001));
    ck_assert(!hint_wanted(0.125, 0.001));
    ck_assert(hint_wanted(0, 0));
    ck_assert(hint_wanted(1, 1));
}
END_TEST

START_TEST(the_hint_takes_the_place_of_the_mark)
{
    expect("{hint}", "go north", "go north");
    expect("tip: {hint}!", "go north", "tip: go north!");
    expect("{hint} and {hint}", "x", "x and x");
}
END_TEST

START_TEST(a_hint_is_one_line)
{
    expect("a\nb {hint}", "one\r\ntwo", "a b one  two");
    expect("{hint}", "", "");
    expect("{hin{hint}", "t}", "{hint}"); /* what a hint says is never a mark */
}
END_TEST

START_TEST(too_long_or_without_a_place)
{
    AUTO(buf) out = {0};
    AUTO(buf) hint = {0};
    ck_assert_int_eq(hint_render(span_text("{hint"), span_text("x"), &out), ERR_invalid);
    ck_assert_int_eq(hint_render(span_text(""), span_text("x"), &out), ERR_invalid);
    while (hint.size < HINT_BYTES) ck_assert_int_eq(buf_text(&hint, "x"), ERR_ok);
    buf_clear(&out);
    ck_assert_int_eq(hint_render(span_text("{hint}"), buf_span(&hint), &out), ERR_ok);
    ck_assert_uint_eq(out.size, HINT_BYTES);
    ck_assert_int_eq(hint_render(span_text("{hint}."), buf_span(&hint), &out), ERR_too_large);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hint");
    TCase *tcase = tcase_create("hint");
    tcase_add_test(tcase, wanted_at_the_threshold_and_below);
    tcase_add_test(tcase, the_hint_takes_the_place_of_the_mark);
    tcase_add_test(tcase, a_hint_is_one_line);
    tcase_add_test(tcase, too_long_or_without_a_place);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
