/* LABELS: unit
 * errors: the rule holds exactly past its share, blocks do not add up, and what people cause is not counted. */
#include "curation/errors.h"

#include <check.h>
#include <stdlib.h>

START_TEST(the_rule_holds_past_its_share)
{
    struct errors errors = {0};
    for (int i = 0; i < 5; i++) ck_assert(!errors_count(&errors, OUTCOME_env_timeout, 0.5, 10));
    ck_assert(errors_count(&errors, OUTCOME_env_crash, 0.5, 10));
    ck_assert_uint_eq(errors.failed, 6);
    ck_assert_uint_eq(errors.by[OUTCOME_env_timeout], 5);
    ck_assert_uint_eq(errors.by[OUTCOME_env_crash], 1);
}
END_TEST

/* half of all attempts for ever is not more than half */
START_TEST(blocks_do_not_add_up)
{
    struct errors errors = {0};
    for (int i = 0; i < 1000; i++) ck_assert(!errors_count(&errors, i % 2 ? OUTCOME_ok : OUTCOME_env_error, 0.5, 10));
}
END_TEST

START_TEST(outcomes_and_cancellations_are_no_failures)
{
    struct errors errors = {0};
    for (int i = 0; i < 1000; i++) {
        ck_assert(!errors_count(&errors, OUTCOME_truncated, 0, 10));
        ck_assert(!errors_count(&errors, OUTCOME_cancelled, 0, 10));
        ck_assert(!errors_count(&errors, OUTCOME_stale, 0, 10));
    }
    ck_assert(errors_count(&errors, OUTCOME_poisoned, 0, 10)); /* rate 0: the first failure */
    for (int i = 0; i < 100; i++) ck_assert(!errors_count(&errors, OUTCOME_engine_error, 1, 10)); /* rate 1: never */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("errors");
    TCase *tcase = tcase_create("errors");
    tcase_add_test(tcase, the_rule_holds_past_its_share);
    tcase_add_test(tcase, blocks_do_not_add_up);
    tcase_add_test(tcase, outcomes_and_cancellations_are_no_failures);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
