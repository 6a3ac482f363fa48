/* LABELS: unit
 * success-band and adcl: what is inside, what is left out, in which order; what a batch is; inversions by hand (seed printed,
 * or taken from PAL_SEED). */
#include "curation/curriculum.h"
#include "services/common/base/rng.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define TASKS 64

static uint64_t seed;

/* An environment of TASKS tasks and what is known of them. */
struct world {
    struct curriculum_environment environment;
    struct curriculum_rates rates;
    struct curriculum curriculum;
    double success[TASKS];
    bool taken[TASKS], quarantined[TASKS];
    uint64_t order[TASKS];
};

static double success(void *ctx, size_t environment, uint64_t task)
{
    const struct world *w = ctx;
    ck_assert_uint_eq(environment, 0);
    return w->success[task];
}

static bool is_taken(void *ctx, size_t environment, uint64_t task)
{
    const struct world *w = ctx;
    (void)environment;
    return w->taken[task];
}

static bool may_draw(void *ctx, size_t environment, uint64_t task)
{
    const struct world *w = ctx;
    (void)environment;
    return !w->quarantined[task];
}

static void make(struct world *w, uint64_t tasks)
{
    *w = (struct world){.environment = {1, tasks, 0},
                        .rates = {.success = success, .taken = is_taken, .low = 0.1, .high = 0.9, .outside = 0, .batch = 8}};
    w->rates.order[0] = w->order;
    w->curriculum = (struct curriculum){
        .seed = seed, .environments = &w->environment, .count = 1, .may_draw = may_draw, .ctx = w, .rates = &w->rates};
    for (uint64_t i = 0; i < tasks; i++) {
        w->success[i] = (double)NAN;
        w->order[i] = tasks - 1 - i; /* the last task is the easiest at first */
    }
}

static uint64_t draw(struct world *w, enum curriculum_kind kind)
{
    struct curriculum_draw got;
    err_t err = curriculum_draw(kind, &w->curriculum, &got);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
    w->environment.drawn++;
    return got.task;
}

/* ---- success-band ---- */

START_TEST(only_tasks_inside_the_band)
{
    struct world w;
    size_t seen[TASKS] = {0};
    make(&w, TASKS);
    for (size_t i = 0; i < TASKS; i++) w.success[i] = i < 32 ? 0.05 : i < 48 ? 0.5 : i < 60 ? 1 : (double)NAN;
    for (int i = 0; i < 4000; i++) seen[draw(&w, CURRICULUM_success_band)]++;
    for (size_t i = 0; i < TASKS; i++) { /* 20 of them, each 200 times */
        bool inside = i >= 32 && (i < 48 || i >= 60);
        ck_assert_msg(inside ? seen[i] > 130 && seen[i] < 280 : seen[i] == 0, "task %zu: %zu", i, seen[i]);
    }
    w.success[40] = 0.1; /* the ends belong to it */
    w.success[41] = 0.9;
    seen[40] = seen[41] = 0;
    for (int i = 0; i < 1000; i++) seen[draw(&w, CURRICULUM_success_band)]++;
    ck_assert(seen[40] > 0 && seen[41] > 0);
}
END_TEST

START_TEST(the_band_may_be_empty)
{
    struct world w;
    size_t seen[TASKS] = {0};
    make(&w, TASKS);
    for (size_t i = 0; i < TASKS; i++) w.success[i] = 0;
    for (size_t i = 0; i < TASKS; i++) seen[draw(&w, CURRICULUM_success_band)]++;
    for (size_t i = 0; i < TASKS; i++) ck_assert_uint_eq(seen[i], 1); /* then passes, as uniform */
}
END_TEST

START_TEST(a_share_ignores_the_band)
{
    struct world w;
    size_t outside = 0;
    make(&w, TASKS);
    w.rates.outside = 0.25;
    for (size_t i = 0; i < TASKS; i++) w.success[i] = i < 32 ? 0 : 0.5;
    for (int i = 0; i < 4000; i++) outside += draw(&w, CURRICULUM_success_band) < 32;
    ck_assert_msg(outside > 400 && outside < 600, "%zu of 4000 draws are outside; 500 are expected", outside);
}
END_TEST

START_TEST(an_update_takes_other_tasks_first)
{
    struct world w;
    make(&w, TASKS);
    for (size_t i = 0; i < TASKS; i++) w.success[i] = i < 4 ? 0.5 : 0;
    for (int i = 0; i < 4; i++) {
        uint64_t task = draw(&w, CURRICULUM_success_band);
        ck_assert_uint_lt(task, 4);
        ck_assert(!w.taken[task]);
        w.taken[task] = true;
    }
    ck_assert_uint_lt(draw(&w, CURRICULUM_success_band), 4); /* all are taken: again rather than outside */
    w.quarantined[0] = w.quarantined[1] = w.quarantined[2] = true;
    for (int i = 0; i < 50; i++) ck_assert_uint_eq(draw(&w, CURRICULUM_success_band), 3);
}
END_TEST

/* ---- adcl ---- */

START_TEST(batches_cut_the_order)
{
    struct curriculum_environment e = {1, 20, 0};
    struct curriculum_batch b = curriculum_batch(&e, 8);
    ck_assert(b.from == 0 && b.to == 8 && b.begins);
    e.drawn = 7;
    b = curriculum_batch(&e, 8);
    ck_assert(b.from == 0 && b.to == 8 && !b.begins);
    e.drawn = 19;
    b = curriculum_batch(&e, 8);
    ck_assert(b.from == 16 && b.to == 20 && !b.begins);
    e.drawn = 20;
    b = curriculum_batch(&e, 8);
    ck_assert(b.from == 0 && b.to == 8 && b.begins);
    b = curriculum_batch(&e, 100);
    ck_assert(b.from == 0 && b.to == 20 && b.begins);
}
END_TEST

START_TEST(the_easiest_of_a_batch_comes_first)
{
    struct world w;
    make(&w, 16); /* first order: 15, 14, ... 0; batches 15..8 and 7..0 */
    w.success[10] = 0.9;
    w.success[12] = 1;
    w.success[9] = 0.25;
    w.success[0] = 1;                                       /* of the other batch */
    const uint64_t want[] = {12, 10, 15, 14, 13, 11, 8, 9}; /* never played: 1/2, in the first order */
    for (size_t i = 0; i < 8; i++) {
        uint64_t task = draw(&w, CURRICULUM_adcl);
        ck_assert_uint_eq(task, want[i]);
        w.taken[task] = true;
        if (i == 1) w.success[8] = 0.3; /* looked at with every draw */
    }
    for (size_t i = 0; i < TASKS; i++) w.taken[i] = false;
    ck_assert_uint_eq(draw(&w, CURRICULUM_adcl), 0);
}
END_TEST

START_TEST(each_pass_has_each_task_once)
{
    struct world w;
    struct rng rng;
    make(&w, 20);
    rng_init(&rng, seed, 3);
    for (int pass = 0; pass < 5; pass++) {
        size_t seen[TASKS] = {0};
        for (int i = 0; i < 20; i++) {
            if (curriculum_batch(&w.environment, 8).begins) memset(w.taken, 0, sizeof w.taken);
            uint64_t task = draw(&w, CURRICULUM_adcl);
            seen[task]++;
            w.taken[task] = true;
            w.success[rng_below(&rng, 20)] = rng_unit(&rng);
        }
        for (size_t i = 0; i < 20; i++) ck_assert_uint_eq(seen[i], 1);
    }
}
END_TEST

START_TEST(quarantined_tasks_are_replaced)
{
    struct world w;
    make(&w, 16);
    for (size_t i = 8; i < 16; i++) w.quarantined[i] = true; /* the whole first batch */
    for (int i = 0; i < 8; i++) ck_assert_uint_lt(draw(&w, CURRICULUM_adcl), 8);
    for (size_t i = 0; i < 8; i++) w.quarantined[i] = true;
    struct curriculum_draw got;
    ck_assert_int_eq(curriculum_draw(CURRICULUM_adcl, &w.curriculum, &got), ERR_not_found);
    ck_assert_int_eq(curriculum_draw(CURRICULUM_success_band, &w.curriculum, &got), ERR_not_found);
}
END_TEST

START_TEST(inversions_by_hand)
{
    const double right[] = {1, 0.5, 0}, wrong[] = {0, 0.5, 1}, one[] = {0.5, 1, 0}, same[] = {0.5, 0.5, 0.5};
    const double unknown[] = {(double)NAN, 0, (double)NAN, 1};
    ck_assert_double_eq(curriculum_inversions(right, 3), 0);
    ck_assert_double_eq(curriculum_inversions(wrong, 3), 1);
    ck_assert_double_eq_tol(curriculum_inversions(one, 3), 1.0 / 3, 1e-12);
    ck_assert_double_eq(curriculum_inversions(unknown, 4), 1);
    ck_assert(isnan(curriculum_inversions(same, 3)));
    ck_assert(isnan(curriculum_inversions(NULL, 0)));
}
END_TEST

int main(void)
{
    const char *text = getenv("PAL_SEED");
    seed = text ? strtoull(text, NULL, 10) : 20261127;
    (void)printf("PAL_SEED=%llu\n", (unsigned long long)seed);
    Suite *suite = suite_create("curriculum.rates");
    TCase *tcase = tcase_create("curriculum.rates");
    tcase_add_test(tcase, only_tasks_inside_the_band);
    tcase_add_test(tcase, the_band_may_be_empty);
    tcase_add_test(tcase, a_share_ignores_the_band);
    tcase_add_test(tcase, an_update_takes_other_tasks_first);
    tcase_add_test(tcase, batches_cut_the_order);
    tcase_add_test(tcase, the_easiest_of_a_batch_comes_first);
    tcase_add_test(tcase, each_pass_has_each_task_once);
    tcase_add_test(tcase, quarantined_tasks_are_replaced);
    tcase_add_test(tcase, inversions_by_hand);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
