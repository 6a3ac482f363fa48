/* LABELS: unit
 * curriculum: each pass has each task once; environments get their share at every moment; quarantined tasks are never
 * drawn; a draw depends on nothing but its inputs (seed printed, or taken from PAL_SEED). */
#include "curation/curriculum.h"
#include "services/common/base/rng.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t test_seed(void)
{
    const char *given = getenv("PAL_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 20240607;
    (void)fprintf(stderr, "PAL_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static struct curriculum_draw draw(const struct curriculum *c)
{
    struct curriculum_draw got;
    err_t err = curriculum_draw(CURRICULUM_uniform, c, &got);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
    return got;
}

START_TEST(permutations_are_permutations)
{
    uint64_t seed = test_seed();
    static const uint64_t sizes[] = {1, 2, 3, 4, 5, 7, 16, 17, 100, 1024, 4097};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        uint64_t n = sizes[s];
        unsigned char *seen = calloc(n, 1);
        ck_assert_ptr_nonnull(seen);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t place = curriculum_permute(seed, n, i);
            ck_assert_uint_lt(place, n);
            ck_assert_uint_eq(seen[place], 0);
            seen[place] = 1;
        }
        free(seen);
    }
    ck_assert_uint_lt(curriculum_permute(seed, UINT64_MAX, UINT64_MAX - 1), UINT64_MAX);
}
END_TEST

/* chi square of where index 0 of 8 goes over 8000 keys: 7 degrees of freedom, 1e-6 quantile 40.5 */
START_TEST(permutations_have_no_favourites)
{
    for (uint64_t index = 0; index < 8; index++) {
        double count[8] = {0};
        for (uint64_t key = 0; key < 8000; key++) count[curriculum_permute(key, 8, index)] += 1;
        double chi = 0;
        for (size_t i = 0; i < 8; i++) chi += (count[i] - 1000) * (count[i] - 1000) / 1000;
        ck_assert_double_lt(chi, 40.5);
    }
}
END_TEST

START_TEST(each_pass_has_each_task_once)
{
    enum { TASKS = 37, PASSES = 5 };
    uint64_t order[PASSES][TASKS];
    struct curriculum_environment one = {.weight = 2.5, .tasks = TASKS};
    struct curriculum c = {.seed = test_seed(), .environments = &one, .count = 1};
    for (size_t pass = 0; pass < PASSES; pass++) {
        int seen[TASKS] = {0};
        for (size_t i = 0; i < TASKS; i++) {
            order[pass][i] = draw(&c).task;
            ck_assert_int_eq(seen[order[pass][i]]++, 0);
            one.drawn++;
        }
        ck_assert(pass == 0 || memcmp(order[pass], order[pass - 1], sizeof order[0]) != 0);
    }
}
END_TEST

/* nginx's own example: weights 5, 1, 1 give a a b a c a a */
START_TEST(weights_interleave_smoothly)
{
    struct curriculum_environment e[] = {
        {.weight = 5, .tasks = 100}, {.weight = 1, .tasks = 100}, {.weight = 1, .tasks = 100}};
    struct curriculum c = {.seed = 1, .environments = e, .count = 3};
    static const size_t want[] = {0, 0, 1, 0, 2, 0, 0};
    for (size_t i = 0; i < 14; i++) {
        struct curriculum_draw got = draw(&c);
        ck_assert_uint_eq(got.environment, want[i % 7]);
        e[got.environment].drawn++;
    }
}
END_TEST

START_TEST(shares_hold_at_every_moment)
{
    struct rng rng;
    rng_init(&rng, test_seed(), 2);
    for (int round = 0; round < 50; round++) {
        struct curriculum_environment e[8];
        size_t count = 1 + rng_below(&rng, 8);
        double weights = 0;
        for (size_t i = 0; i < count; i++) {
            e[i] = (struct curriculum_environment){.weight = 0.01 + rng_unit(&rng) * 10, .tasks = 1 + rng_below(&rng, 50)};
            weights += e[i].weight;
        }
        struct curriculum c = {.seed = rng_u64(&rng), .environments = e, .count = count};
        for (int t = 1; t <= 500; t++) {
            struct curriculum_draw got = draw(&c);
            struct curriculum_draw again = draw(&c);
            ck_assert(got.environment == again.environment && got.task == again.task);
            ck_assert_uint_lt(got.task, e[got.environment].tasks);
            e[got.environment].drawn++;
            for (size_t i = 0; i < count; i++)
                ck_assert_double_lt(fabs((double)e[i].drawn - t * e[i].weight / weights), (double)count);
        }
    }
}
END_TEST

struct quarantine {
    bool task[3][40];
};

static bool may_draw(void *ctx, size_t environment, uint64_t task)
{
    const struct quarantine *q = ctx;
    return !q->task[environment][task];
}

START_TEST(quarantined_tasks_are_never_drawn)
{
    struct rng rng;
    rng_init(&rng, test_seed(), 3);
    struct quarantine q = {0};
    struct curriculum_environment e[] = {{.weight = 1, .tasks = 40}, {.weight = 2, .tasks = 20}, {.weight = 1, .tasks = 0}};
    struct curriculum c = {.seed = rng_u64(&rng), .environments = e, .count = 3, .may_draw = may_draw, .ctx = &q};
    size_t left = 60;
    while (left > 0) {
        int seen[2][40] = {{0}};
        for (int i = 0; i < 200; i++) {
            struct curriculum_draw got = draw(&c);
            ck_assert(!q.task[got.environment][got.task]);
            seen[got.environment][got.task]++;
            e[got.environment].drawn++;
        }
        for (size_t i = 0; i < 60; i++) { /* all that may be drawn still come */
            size_t environment = i < 40 ? 0 : 1;
            size_t task = i < 40 ? i : i - 40;
            ck_assert(q.task[environment][task] || seen[environment][task] > 0);
        }
        uint32_t victim = rng_below(&rng, 60);
        bool *flag = victim < 40 ? &q.task[0][victim] : &q.task[1][victim - 40];
        if (!*flag) left--;
        *flag = true;
    }
    struct curriculum_draw got;
    ck_assert_int_eq(curriculum_draw(CURRICULUM_uniform, &c, &got), ERR_not_found);
}
END_TEST

START_TEST(no_tasks_is_an_error)
{
    struct curriculum_environment none = {.weight = 1};
    struct curriculum c = {.environments = &none, .count = 1};
    struct curriculum_draw got;
    ck_assert_int_eq(curriculum_draw(CURRICULUM_uniform, &c, &got), ERR_not_found);
    ck_assert_str_eq(curriculum_name(CURRICULUM_uniform), "uniform");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("curriculum");
    TCase *tcase = tcase_create("curriculum");
    tcase_add_test(tcase, permutations_are_permutations);
    tcase_add_test(tcase, permutations_have_no_favourites);
    tcase_add_test(tcase, each_pass_has_each_task_once);
    tcase_add_test(tcase, weights_interleave_smoothly);
    tcase_add_test(tcase, shares_hold_at_every_moment);
    tcase_add_test(tcase, quarantined_tasks_are_never_drawn);
    tcase_add_test(tcase, no_tasks_is_an_error);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
