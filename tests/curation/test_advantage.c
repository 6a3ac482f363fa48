/* LABELS: unit
 * advantage: hand-computed values; groups without variance have no signal; properties on random groups (seed printed, or
 * taken from PAL_SEED). */
#include "curation/advantage.h"
#include "services/common/base/rng.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define N_MAX 64

static void expect(enum advantage rule, const double *rewards, size_t n, const double *want)
{
    double got[N_MAX];
    ck_assert(advantage_compute(rule, rewards, n, got));
    for (size_t i = 0; i < n; i++) ck_assert_double_eq_tol(got[i], want[i], 1e-12);
}

START_TEST(values_by_hand)
{
    const double rewards[] = {1, 0, 0, 1};
    /* mean 1/2, sample variance 4 (1/4) / 3 = 1/3 */
    const double scaled = 0.5 / (sqrt(1.0 / 3.0) + 1e-6);
    const double grpo[] = {scaled, -scaled, -scaled, scaled};
    const double dr_grpo[] = {0.5, -0.5, -0.5, 0.5};
    const double rloo[] = {1 - 1 / 3.0, -2 / 3.0, -2 / 3.0, 1 - 1 / 3.0};
    expect(ADVANTAGE_grpo, rewards, 4, grpo);
    expect(ADVANTAGE_dr_grpo, rewards, 4, dr_grpo);
    expect(ADVANTAGE_rloo, rewards, 4, rloo);
}
END_TEST

START_TEST(two_episodes_by_hand)
{
    const double rewards[] = {3, -1};
    /* mean 1, sample variance 8 */
    const double scaled = 2 / (sqrt(8.0) + 1e-6);
    const double grpo[] = {scaled, -scaled};
    const double dr_grpo[] = {2, -2};
    const double rloo[] = {4, -4};
    expect(ADVANTAGE_grpo, rewards, 2, grpo);
    expect(ADVANTAGE_dr_grpo, rewards, 2, dr_grpo);
    expect(ADVANTAGE_rloo, rewards, 2, rloo);
}
END_TEST

START_TEST(steps_by_hand)
{
    /* samples 1 1 1 0: mean 3/4, sample variance (3 (1/4)^2 + (3/4)^2) / 3 = 1/4 */
    const double rewards[] = {1, 0};
    const int64_t steps[] = {3, 1};
    double samples[4], got[2];
    ck_assert(advantage_over_steps(ADVANTAGE_dr_grpo, rewards, steps, 2, samples, got));
    ck_assert_double_eq_tol(got[0], 0.25, 1e-12);
    ck_assert_double_eq_tol(got[1], -0.75, 1e-12);
    ck_assert(advantage_over_steps(ADVANTAGE_grpo, rewards, steps, 2, samples, got));
    ck_assert_double_eq_tol(got[0], 0.25 / (0.5 + 1e-6), 1e-12);
    ck_assert(advantage_over_steps(ADVANTAGE_rloo, rewards, steps, 2, samples, got));
    ck_assert_double_eq_tol(got[0], 1 - 2 / 3.0, 1e-12); /* the other samples: 1 1 0 */
    ck_assert_double_eq_tol(got[1], -1, 1e-12);
    const int64_t none[] = {0, 1};
    ck_assert(advantage_over_steps(ADVANTAGE_dr_grpo, rewards, none, 2, samples, got));
    ck_assert_double_eq_tol(got[0], 0.5, 1e-12);
    const double same[] = {1, 1};
    ck_assert(!advantage_over_steps(ADVANTAGE_grpo, same, steps, 2, samples, got));
    ck_assert(got[0] == 0 && got[1] == 0);
}
END_TEST

START_TEST(no_variance_is_no_signal)
{
    const double cases[][3] = {{0, 0, 0},
                               {1, 1, 1},
                               {0.1 + 0.2, 0.3, 0.3},
                               {1e9, 1e9, 1e9 + 0.5},
                               {1, (double)NAN, 0},
                               {(double)INFINITY, 0, 0},
                               {1.5e308, 1.5e308, -1.5e308}};
    for (enum advantage rule = 0; rule < ADVANTAGE_COUNT; rule++) {
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            double got[3] = {7, 7, 7};
            ck_assert_msg(!advantage_compute(rule, cases[c], 3, got), "%s, case %zu", advantage_name(rule), c);
            for (size_t i = 0; i < 3; i++) ck_assert_double_eq(got[i], 0);
        }
        double one = 1;
        double got = 7;
        ck_assert(!advantage_compute(rule, &one, 1, &got));
        ck_assert_double_eq(got, 0);
    }
}
END_TEST

START_TEST(names_are_those_of_the_job_file)
{
    ck_assert_str_eq(advantage_name(ADVANTAGE_grpo), "grpo");
    ck_assert_str_eq(advantage_name(ADVANTAGE_dr_grpo), "dr_grpo");
    ck_assert_str_eq(advantage_name(ADVANTAGE_rloo), "rloo");
    for (enum advantage rule = 0; rule < ADVANTAGE_COUNT; rule++) ck_assert_ptr_nonnull(advantage_doc(rule));
}
END_TEST

/* They sum to 0; a higher reward never has a lower advantage; adding a constant changes nothing; rloo is dr_grpo times n / (n
 * - 1); in place is the same. */
START_TEST(properties_of_random_groups)
{
    const char *given = getenv("PAL_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 20240607;
    (void)fprintf(stderr, "PAL_SEED=%llu\n", (unsigned long long)seed);
    struct rng rng;
    rng_init(&rng, seed, 1);
    for (int round = 0; round < 200; round++) {
        size_t n = 2 + rng_below(&rng, N_MAX - 1);
        double r[N_MAX], shifted[N_MAX], a[ADVANTAGE_COUNT][N_MAX], b[N_MAX];
        bool binary = rng_below(&rng, 2) == 0;
        for (size_t i = 0; i < n; i++) r[i] = binary ? (double)rng_below(&rng, 2) : 3 * rng_normal(&rng);
        for (size_t i = 0; i < n; i++) shifted[i] = r[i] + 5;
        for (enum advantage rule = 0; rule < ADVANTAGE_COUNT; rule++) {
            bool signal = advantage_compute(rule, r, n, a[rule]);
            ck_assert(signal == advantage_compute(rule, shifted, n, b));
            double sum = 0;
            int wrong = 0;
            for (size_t i = 0; i < n; i++) {
                ck_assert_double_eq_tol(b[i], a[rule][i], 1e-6);
                for (size_t j = 0; j < n; j++) wrong += r[i] > r[j] && a[rule][i] < a[rule][j];
                sum += a[rule][i];
            }
            ck_assert_int_eq(wrong, 0);
            ck_assert_double_eq_tol(sum, 0, 1e-9 * (double)n);
            for (size_t i = 0; i < n; i++) b[i] = r[i];
            ck_assert(signal == advantage_compute(rule, b, n, b));
            for (size_t i = 0; i < n; i++) ck_assert_double_eq(b[i], a[rule][i]);
        }
        for (size_t i = 0; i < n; i++)
            ck_assert_double_eq_tol(a[ADVANTAGE_rloo][i], a[ADVANTAGE_dr_grpo][i] * (double)n / (double)(n - 1), 1e-9);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("advantage");
    TCase *tcase = tcase_create("advantage");
    tcase_add_test(tcase, values_by_hand);
    tcase_add_test(tcase, two_episodes_by_hand);
    tcase_add_test(tcase, steps_by_hand);
    tcase_add_test(tcase, no_variance_is_no_signal);
    tcase_add_test(tcase, names_are_those_of_the_job_file);
    tcase_add_test(tcase, properties_of_random_groups);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
