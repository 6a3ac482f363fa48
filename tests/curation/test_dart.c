/* LABELS: unit
 * DART's rules against hand-computed values, and what must hold for any input (seed printed, or taken from PAL_SEED). */
#include "curation/dart.h"
#include "services/common/base/rng.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t seed;

/* The authors' floor(9 / s - 7), N = 8, n_min = 2, t = 0.6. */
START_TEST(counts_are_the_authors)
{
    const struct {
        double success;
        size_t count;
    } rows[] = {{0, 8},   {0.125, 8}, {0.5, 8}, {0.5999, 8}, {0.6, 8}, {0.625, 7}, {2.0 / 3, 6},
                {0.7, 5}, {0.75, 5},  {0.8, 4}, {0.875, 3},  {0.9, 3}, {0.95, 2},  {1, 2}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_msg(dart_count(rows[i].success, 8, 2, 0.6) == rows[i].count, "n(%g) = %zu", rows[i].success,
                      dart_count(rows[i].success, 8, 2, 0.6));
}
END_TEST

START_TEST(counts_fall_between_their_ends)
{
    struct rng rng;
    rng_init(&rng, seed, 1);
    for (int round = 0; round < 2000; round++) {
        size_t most = 2 + rng_u64(&rng) % 63, least = 1 + rng_u64(&rng) % most, before = most;
        double threshold = 0.01 + 0.98 * rng_unit(&rng);
        for (double s = 0; s <= 1; s += 0.01) {
            size_t n = dart_count(s, most, least, threshold);
            ck_assert(n >= least && n <= before);
            if (s < threshold) ck_assert_uint_eq(n, most);
            before = n;
        }
        ck_assert_uint_eq(dart_count(threshold, most, least, threshold), most);
        ck_assert_uint_eq(dart_count(1, most, least, threshold), least);
    }
}
END_TEST

START_TEST(caps_by_hand)
{
    const int64_t steps[] = {4, 7, 5};
    ck_assert_int_eq(dart_cap(steps, 0, 1.25, 2, 24), 24); /* no success yet */
    ck_assert_int_eq(dart_cap(steps, 3, 1.25, 2, 24), 11); /* ceil(8.75) + 2 */
    ck_assert_int_eq(dart_cap(steps, 1, 1.25, 2, 24), 7);  /* 5 + 2 */
    ck_assert_int_eq(dart_cap(steps, 3, 1, 0, 24), 7);     /* the paper's */
    ck_assert_int_eq(dart_cap(steps, 3, 1.25, 2, 10), 10);
    ck_assert_int_eq(dart_cap((const int64_t[]){10}, 1, 1.1, 0, 24), 11);
    ck_assert_int_eq(dart_cap((const int64_t[]){0}, 1, 1, 0, 24), 1);
    ck_assert_int_eq(dart_cap((const int64_t[]){1000}, 1, 100, 1000, 1000), 1000);
}
END_TEST

static void expect_floor(const double *values, size_t n, double keep, double want)
{
    double scratch[16];
    for (size_t i = 0; i < n; i++) scratch[i] = values[i];
    double got = dart_floor(scratch, n, keep);
    ck_assert_msg(fabs(got - want) < 1e-12 || (isinf(want) && isinf(got)), "quantile %g, %g is wanted", got, want);
}

START_TEST(floors_by_hand)
{
    const double values[] = {0.5, 0.1, 0.4, 0.2, 0.3, 0.6};
    expect_floor(values, 6, 0.8, 0.2); /* place 5 * 0.2 = 1 */
    expect_floor(values, 6, 0.5, 0.35);
    expect_floor(values, 5, 0.9, 0.14); /* place 4 * 0.1 = 0.4, between 0.1 and 0.2 */
    expect_floor(values, 6, 1, -(double)INFINITY);
    expect_floor(values, 0, 0.5, -(double)INFINITY);
    expect_floor(values, 1, 0.01, 0.5);
    const double same[] = {0.7, 0.7, 0.7};
    expect_floor(same, 3, 0.2, 0.7); /* all are kept */
}
END_TEST

START_TEST(floors_keep_about_the_share)
{
    struct rng rng;
    rng_init(&rng, seed, 2);
    for (int round = 0; round < 500; round++) {
        double values[200], scratch[200], keep = 0.01 + 0.99 * rng_unit(&rng);
        size_t n = 1 + rng_u64(&rng) % 200, kept = 0;
        for (size_t i = 0; i < n; i++) scratch[i] = values[i] = rng_unit(&rng);
        double least = dart_floor(scratch, n, keep);
        for (size_t i = 0; i < n; i++) kept += values[i] >= least;
        ck_assert_uint_ge(kept, 1);
        ck_assert_double_le(fabs((double)kept - (double)n * keep), 1.0 + 1e-9);
    }
}
END_TEST

START_TEST(picks_are_spread_and_repeatable)
{
    size_t seen[5] = {0};
    for (int64_t group = 0; group < 5000; group++) {
        size_t pick = dart_pick(5, seed, group);
        ck_assert_uint_lt(pick, 5);
        ck_assert_uint_eq(pick, dart_pick(5, seed, group));
        seen[pick]++;
    }
    for (size_t i = 0; i < 5; i++) ck_assert(seen[i] > 850 && seen[i] < 1150);
    ck_assert_uint_eq(dart_pick(1, seed, 7), 0);
}
END_TEST

int main(void)
{
    const char *text = getenv("PAL_SEED");
    seed = text ? strtoull(text, NULL, 10) : 20261126;
    (void)printf("PAL_SEED=%llu\n", (unsigned long long)seed);
    Suite *suite = suite_create("dart");
    TCase *tcase = tcase_create("dart");
    tcase_add_test(tcase, counts_are_the_authors);
    tcase_add_test(tcase, counts_fall_between_their_ends);
    tcase_add_test(tcase, caps_by_hand);
    tcase_add_test(tcase, floors_by_hand);
    tcase_add_test(tcase, floors_keep_about_the_share);
    tcase_add_test(tcase, picks_are_spread_and_repeatable);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
