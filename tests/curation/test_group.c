/* LABELS: unit
 * The life of a group: admission, retries of its slots, and when it closes. */
#include "curation/admission.h"
#include "curation/close.h"
#include "curation/retry.h"

#include <check.h>

START_TEST(groups_close_with_enough_outcomes)
{
    static const size_t needs[] = {[1] = 1, [2] = 2, [3] = 2, [4] = 2, [5] = 3, [8] = 4, [9] = 5, [64] = 32};
    for (size_t size = 1; size <= 64; size++) {
        size_t need = close_needs(size);
        if (size < sizeof needs / sizeof *needs && needs[size]) ck_assert_uint_eq(need, needs[size]);
        ck_assert_uint_le(need, size);
        for (size_t done = 0; done <= size; done++) {
            for (size_t voided = 0; voided + done <= size; voided++) {
                enum close want = done + voided < size ? CLOSE_OPEN : done >= need ? CLOSE_CLOSED : CLOSE_VOID;
                ck_assert_int_eq(close_verdict(size, done, voided), want);
            }
        }
    }
    ck_assert_int_eq(close_verdict(8, 4, 4), CLOSE_CLOSED);
    ck_assert_int_eq(close_verdict(8, 3, 5), CLOSE_VOID);
    ck_assert_int_eq(close_verdict(8, 7, 0), CLOSE_OPEN);
    ck_assert_int_eq(close_verdict(2, 1, 1), CLOSE_VOID);
    ck_assert_int_eq(close_verdict(1, 1, 0), CLOSE_CLOSED);
    ck_assert_int_eq(close_verdict(1, 0, 1), CLOSE_VOID);
    ck_assert_str_eq(close_name(CLOSE_OPEN), "open");
    ck_assert_str_eq(close_name(CLOSE_CLOSED), "closed");
    ck_assert_str_eq(close_name(CLOSE_VOID), "void");
    ck_assert(!close_quarantines(2));
    ck_assert(close_quarantines(3));
}
END_TEST

START_TEST(groups_are_reserved_to_updates)
{
    ck_assert_int_eq(admission_update(0, 0, 0, 16), 1);
    ck_assert_int_eq(admission_update(15, 0, 0, 16), 1);
    ck_assert_int_eq(admission_update(16, 0, 0, 16), 2);
    ck_assert_int_eq(admission_update(18, 2, 0, 16), 2);
    ck_assert_int_eq(admission_update(18, 2, 1, 16), 1);
    ck_assert_int_eq(admission_update(7, 0, 0, 1), 8);
    /* exactly groups_per_update that count are reserved to each update, whatever was void on the way */
    int64_t reserved[20] = {0};
    int64_t planned = 0;
    int64_t voided = 0;
    while (planned < 60) {
        int64_t g = admission_update(planned, voided, 0, 5);
        reserved[g]++;
        planned++;
        if (planned % 7 == 0) { /* this one ends void: its replacement is reserved to the same update */
            voided++;
            planned++;
        }
    }
    for (int64_t g = 1; reserved[g + 1] > 0; g++) ck_assert_int_eq(reserved[g], 5);
}
END_TEST

START_TEST(staleness_bounds_admission)
{
    /* after the warm start, max_staleness 4: updates 1 to 5 may be played for */
    for (int64_t g = 1; g <= 8; g++) ck_assert(admission_may_start(g, 0, 4) == (g <= 5));
    ck_assert(admission_may_start(1, 0, 0));
    ck_assert(!admission_may_start(2, 0, 0)); /* 0 is batch-synchronous */
    ck_assert(admission_may_start(2, 1, 0));
    ck_assert(!admission_may_start(1, -1, 0)); /* not before the warm start is recorded */
    ck_assert_int_eq(admission_min_version(1, 4, 0), 0);
    ck_assert_int_eq(admission_min_version(10, 4, 9), 5);
    ck_assert_int_eq(admission_min_version(10, 4, 3), 3); /* updates 4 to 9 were skipped: 3 is what there is */
    ck_assert_int_eq(admission_min_version(3, 4, 2), 0);
    ck_assert_int_eq(admission_age(9, 9), 0);
    ck_assert_int_eq(admission_age(9, 5), 4);
    /* what is admitted can be played at once, and is within the bound when its update consumes it */
    for (int64_t done = 0; done < 30; done++)
        for (int64_t g = done + 1; admission_may_start(g, done, 4); g++) {
            ck_assert_int_le(admission_min_version(g, 4, done), done);
            ck_assert_int_le(admission_age(g - 1, admission_min_version(g, 4, done)), g - 1 < 4 ? g - 1 : 4);
        }
}
END_TEST

START_TEST(failures_are_retried_per_class)
{
    ck_assert_int_eq(retry_decide(OUTCOME_ok, 0, 9), RETRY_DONE);
    ck_assert_int_eq(retry_decide(OUTCOME_truncated, 0, 9), RETRY_DONE);
    for (enum outcome outcome = 0; outcome < OUTCOME_COUNT; outcome++) {
        if (!outcome_failure(outcome)) continue;
        for (size_t retries = 0; retries < 4; retries++) {
            for (size_t failures = 1; failures <= retries; failures++)
                ck_assert_int_eq(retry_decide(outcome, failures, retries), RETRY_AGAIN);
            ck_assert_int_eq(retry_decide(outcome, retries + 1, retries), RETRY_VOID);
        }
    }
}
END_TEST

START_TEST(attempts_have_seeds_of_their_own)
{
    for (int64_t episode = 0; episode < 50; episode++) {
        for (int64_t attempt = 0; attempt < 5; attempt++) {
            int64_t seed = retry_seed(7, episode, attempt);
            ck_assert_int_ge(seed, 0);
            ck_assert_int_eq(seed, retry_seed(7, episode, attempt));
            ck_assert_int_ne(seed, retry_seed(7, episode, attempt + 1));
            ck_assert_int_ne(seed, retry_seed(7, episode + 1, attempt));
            ck_assert_int_ne(seed, retry_seed(8, episode, attempt));
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("group");
    TCase *tcase = tcase_create("group");
    tcase_add_test(tcase, groups_close_with_enough_outcomes);
    tcase_add_test(tcase, groups_are_reserved_to_updates);
    tcase_add_test(tcase, staleness_bounds_admission);
    tcase_add_test(tcase, failures_are_retried_per_class);
    tcase_add_test(tcase, attempts_have_seeds_of_their_own);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
