/* LABELS: unit
 * gain_rl: ranks and their ties, mu against values worked out by hand and its clamps, and the draws: without replacement
 * within an update, with the probabilities of the formula, at the end, of one task, of none (seed printed, or taken from
 * PAL_SEED). */
#include "curation/curriculum.h"
#include "curation/gain_rl.h"
#include "services/common/base/rng.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define NONE ((double)NAN)
#define MOST 400

static uint64_t test_seed(void)
{
    const char *given = getenv("PAL_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 20250602;
    (void)fprintf(stderr, "PAL_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* ---- ranks ---- */

static const struct gain_rl_task measured[] = {{0.5, 12, 3}, {0.9, 10, 1}, {NONE, NONE, 2}, {0.9, 11, 1}, {-0.2, 30, 1}};

static void expect_order(enum gain_rl_rank rank, const uint64_t want[5])
{
    uint64_t order[5];
    ck_assert_int_eq(gain_rl_order(rank, measured, 5, 1, order), ERR_ok);
    for (size_t k = 0; k < 5; k++) ck_assert_msg(order[k] == want[k], "rank %d, place %zu", (int)rank, k);
}

START_TEST(ranks_are_by_their_key)
{
    expect_order(GAIN_RL_RANK_angle, (const uint64_t[]){1, 3, 0, 4, 2});
    expect_order(GAIN_RL_RANK_reversed, (const uint64_t[]){4, 0, 1, 3, 2}); /* what was not measured is last here, too */
    expect_order(GAIN_RL_RANK_length, (const uint64_t[]){1, 3, 0, 4, 2});
    expect_order(GAIN_RL_RANK_level, (const uint64_t[]){1, 3, 4, 2, 0});
    ck_assert(gain_rl_scores(GAIN_RL_RANK_angle) && gain_rl_scores(GAIN_RL_RANK_length));
    ck_assert(!gain_rl_scores(GAIN_RL_RANK_random) && !gain_rl_scores(GAIN_RL_RANK_level));
}
END_TEST

START_TEST(random_ranks_are_permutations)
{
    uint64_t seed = test_seed(), order[100], other[100];
    struct gain_rl_task tasks[100] = {{0, 0, 0}};
    int seen[100] = {0};
    ck_assert_int_eq(gain_rl_order(GAIN_RL_RANK_random, tasks, 100, seed, order), ERR_ok);
    ck_assert_int_eq(gain_rl_order(GAIN_RL_RANK_random, tasks, 100, seed + 1, other), ERR_ok);
    for (size_t k = 0; k < 100; k++) ck_assert_int_eq(seen[order[k]]++, 0);
    ck_assert(memcmp(order, other, sizeof order) != 0);
    ck_assert_int_eq(gain_rl_order(GAIN_RL_RANK_angle, tasks, 0, seed, order), ERR_ok);
}
END_TEST

/* ---- mu ---- */

static const struct gain_rl_config PAPER = {.groups = 16, .alpha = 2, .beta = 0.5, .gamma = 0.5};

/* 8 tanh(2 x 0.25) = 3.6969373, 8 tanh(0.5 x 1.2) = 4.2963966 */
START_TEST(mu_moves_by_both_terms)
{
    struct gain_rl_move m = gain_rl_move(&PAPER, 10, 1000, 0.75, 1.2);
    ck_assert_double_eq_tol(m.f, 3.6969373, 1e-6);
    ck_assert_double_eq_tol(m.g, 4.2963966, 1e-6);
    ck_assert_double_eq_tol(m.after, 17.9933339, 1e-6);
    ck_assert_double_eq(gain_rl_move(&PAPER, 10, 1000, 0.5, 0).after, 10); /* beta: it stands still */
    m = gain_rl_move(&PAPER, 10, 1000, 0, 0.1);                            /* -6.0927525 + 0.3996670 */
    ck_assert_double_eq_tol(m.f, -6.0927525, 1e-6);
    ck_assert_double_eq_tol(m.g, 0.3996670, 1e-6);
    ck_assert_double_eq(m.after, 10); /* never backwards */
    m = gain_rl_move(&PAPER, 10, 1000, 0.75, NONE);
    ck_assert_double_eq(m.g, 0);
    ck_assert_double_eq_tol(m.after, 13.6969373, 1e-6);
    ck_assert_double_eq(gain_rl_move(&PAPER, 10, 1000, NONE, NONE).after, 10);
}
END_TEST

START_TEST(mu_stays_on_the_ranks)
{
    ck_assert_double_eq(gain_rl_move(&PAPER, 95, 100, 1, 2).after, 99);
    ck_assert_double_eq(gain_rl_move(&PAPER, 99, 100, 1, 2).after, 99);
    ck_assert_double_eq(gain_rl_move(&PAPER, 0, 1, 1, 2).after, 0);
    ck_assert_double_eq(gain_rl_move(&PAPER, 0, 0, 1, 2).after, 0);
    ck_assert_double_eq(gain_rl_move(&PAPER, 50, 20, 0, 0).after, 19); /* tasks went away */
    struct rng rng;
    rng_init(&rng, test_seed(), 1);
    for (int i = 0; i < 2000; i++) {
        struct gain_rl_config config = {1 + 64 * rng_unit(&rng), 1000 * rng_unit(&rng), rng_unit(&rng),
                                        1000 * rng_unit(&rng)};
        size_t tasks = 1 + rng_below(&rng, 500);
        double mu = rng_unit(&rng) * (double)(tasks - 1);
        struct gain_rl_move m = gain_rl_move(&config, mu, tasks, rng_unit(&rng), 4 * rng_unit(&rng) - 2);
        ck_assert(isfinite(m.after) && m.after >= mu && m.after <= (double)(tasks - 1));
        ck_assert(m.after - mu <= config.groups + 1e-9);
    }
}
END_TEST

/* ---- draws ---- */

struct world {
    struct curriculum_environment environments[2];
    struct curriculum_ranking ranking;
    struct curriculum curriculum;
    uint64_t order[2][MOST];
    bool taken[2][MOST], solved[2][MOST], gone[2][MOST];
};

static bool may_draw(void *ctx, size_t environment, uint64_t task)
{
    return !((struct world *)ctx)->gone[environment][task];
}

static bool is_taken(void *ctx, size_t environment, uint64_t task)
{
    return ((struct world *)ctx)->taken[environment][task];
}

static bool is_solved(void *ctx, size_t environment, uint64_t task)
{
    return ((struct world *)ctx)->solved[environment][task];
}

/* Rank k is task n - 1 - k. */
static void make(struct world *w, uint64_t seed, size_t count, uint64_t n, double mu, double sigma_fraction)
{
    *w = (struct world){.ranking = {.mu = mu, .sigma_fraction = sigma_fraction, .taken = is_taken, .solved = is_solved}};
    for (size_t e = 0; e < count; e++) {
        w->environments[e] = (struct curriculum_environment){.weight = 1, .tasks = n};
        for (uint64_t k = 0; k < n; k++) w->order[e][k] = n - 1 - k;
        w->ranking.order[e] = w->order[e];
    }
    w->curriculum = (struct curriculum){.seed = seed,
                                        .environments = w->environments,
                                        .count = count,
                                        .may_draw = may_draw,
                                        .ctx = w,
                                        .ranking = &w->ranking};
}

static struct curriculum_draw draw(struct world *w)
{
    struct curriculum_draw got;
    err_t err = curriculum_draw(CURRICULUM_gain_rl, &w->curriculum, &got);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
    ck_assert(!w->gone[got.environment][got.task]);
    w->environments[got.environment].drawn++;
    return got;
}

START_TEST(no_task_comes_twice_in_an_update)
{
    struct world w;
    uint64_t seed = test_seed();
    for (uint64_t u = 0; u < 50; u++) {
        make(&w, seed + u, 1, 20, (double)u, 0.1);
        w.ranking.mu = (double)(u % 19);
        for (int i = 0; i < 20; i++) { /* as many as there are: every one of them, whatever the distance */
            struct curriculum_draw got = draw(&w);
            ck_assert(!w.taken[0][got.task]);
            w.taken[0][got.task] = true;
        }
        (void)draw(&w); /* and then again rather than nothing */
    }
}
END_TEST

/* chi square of 40 000 draws against the formula, over the ranks that expect at least 20: up to 40 of them, 1e-6 quantile of
 * 39 degrees of freedom 97 */
START_TEST(probabilities_are_the_gaussians)
{
    enum { TASKS = 40, DRAWS = 40000 };
    static const double means[] = {0, 7.25, 20, 38.5};
    for (size_t m = 0; m < 4; m++) {
        struct world w;
        double count[TASKS] = {0}, weight[TASKS], sum = 0, chi = 0;
        make(&w, test_seed(), 1, TASKS, means[m], 0.15);
        w.gone[0][TASKS - 1 - 3] = true; /* rank 3 is quarantined */
        w.taken[0][TASKS - 1 - 9] = true;
        for (size_t k = 0; k < TASKS; k++) {
            double z = ((double)k - means[m]) / (0.15 * TASKS);
            weight[k] = k == 3 || k == 9 ? 0 : exp(-z * z / 2);
            sum += weight[k];
        }
        for (size_t i = 0; i < DRAWS; i++) count[TASKS - 1 - draw(&w).task] += 1;
        for (size_t k = 0; k < TASKS; k++) {
            double want = DRAWS * weight[k] / sum;
            if (weight[k] == 0) ck_assert_double_eq(count[k], 0);
            if (want >= 20) chi += (count[k] - want) * (count[k] - want) / want;
        }
        ck_assert_double_lt(chi, 97);
    }
}
END_TEST

START_TEST(far_from_the_mean_the_nearest_is_drawn)
{
    struct world w;
    make(&w, test_seed(), 1, MOST, 398.5, 0.0001); /* sigma 0.04: every other weight underflows */
    for (uint64_t k = 1; k < MOST; k++) w.gone[0][MOST - 1 - k] = true;
    for (int i = 0; i < 10; i++) ck_assert_uint_eq(draw(&w).task, MOST - 1);
}
END_TEST

/* chi square over 10 tasks, 9 degrees of freedom, 1e-6 quantile 45.1 */
START_TEST(the_end_is_uniform_over_the_unsolved)
{
    enum { TASKS = 20, DRAWS = 10000 };
    struct world w;
    double count[TASKS] = {0}, chi = 0;
    make(&w, test_seed(), 1, TASKS, TASKS - 1, 0.1);
    for (size_t i = 0; i < TASKS; i += 2) w.solved[0][i] = true;
    for (size_t i = 0; i < DRAWS; i++) count[draw(&w).task] += 1;
    for (size_t i = 0; i < TASKS; i++) {
        if (i % 2)
            chi += (count[i] - DRAWS / 10.0) * (count[i] - DRAWS / 10.0) / (DRAWS / 10.0);
        else
            ck_assert_double_eq(count[i], 0);
    }
    ck_assert_double_lt(chi, 45.1);
    for (size_t i = 1; i < TASKS; i += 2) w.taken[0][i] = true; /* the update has all that are unsolved */
    ck_assert_uint_eq(draw(&w).task % 2, 0);
    for (size_t i = 0; i < TASKS; i++) w.solved[0][i] = true;
    (void)draw(&w);   /* nothing left to solve: any task */
    w.ranking.mu = 5; /* before the end what is solved is drawn like the rest */
    (void)draw(&w);
}
END_TEST

START_TEST(one_task_and_none)
{
    struct world w;
    make(&w, test_seed(), 1, 1, 0, 0.1);
    for (int i = 0; i < 5; i++) {
        ck_assert_uint_eq(draw(&w).task, 0);
        w.taken[0][0] = i % 2;
        w.solved[0][0] = i % 3;
    }
    struct curriculum_draw got;
    w.gone[0][0] = true;
    ck_assert_int_eq(curriculum_draw(CURRICULUM_gain_rl, &w.curriculum, &got), ERR_not_found);
    make(&w, 1, 1, 0, 0, 0.1);
    ck_assert_int_eq(curriculum_draw(CURRICULUM_gain_rl, &w.curriculum, &got), ERR_not_found);
}
END_TEST

/* Two environments of 100 and 20 tasks: both are equally far, by weight. */
START_TEST(environments_go_on_together)
{
    struct world w;
    uint64_t seed = test_seed();
    make(&w, seed, 2, 100, 59.5, 0.02);
    w.environments[0].weight = 3;
    w.environments[1].tasks = 20;
    for (uint64_t k = 0; k < 20; k++) w.order[1][k] = 19 - k;
    double sum[2] = {0}, count[2] = {0};
    for (int i = 0; i < 4000; i++) {
        struct curriculum_draw got = draw(&w);
        sum[got.environment] += (got.environment ? 19.0 : 99.0) - (double)got.task; /* its rank */
        count[got.environment] += 1;
    }
    ck_assert_double_eq_tol(count[0] / count[1], 3, 0.01);
    ck_assert_double_eq_tol(sum[0] / count[0], 49.5, 0.2); /* 59.5 x 99 / 119 */
    ck_assert_double_eq_tol(sum[1] / count[1], 9.5, 0.1);  /* 59.5 x 19 / 119 */
}
END_TEST

START_TEST(a_draw_depends_on_its_inputs_only)
{
    struct world a, b;
    make(&a, 7, 1, 50, 12, 0.1);
    make(&b, 7, 1, 50, 12, 0.1);
    for (int i = 0; i < 100; i++) {
        struct curriculum_draw got;
        b.environments[0].drawn = a.environments[0].drawn;
        ck_assert_int_eq(curriculum_draw(CURRICULUM_gain_rl, &b.curriculum, &got), ERR_ok);
        ck_assert_uint_eq(draw(&a).task, got.task);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gain_rl");
    TCase *tcase = tcase_create("gain_rl");
    tcase_add_test(tcase, ranks_are_by_their_key);
    tcase_add_test(tcase, random_ranks_are_permutations);
    tcase_add_test(tcase, mu_moves_by_both_terms);
    tcase_add_test(tcase, mu_stays_on_the_ranks);
    tcase_add_test(tcase, no_task_comes_twice_in_an_update);
    tcase_add_test(tcase, probabilities_are_the_gaussians);
    tcase_add_test(tcase, far_from_the_mean_the_nearest_is_drawn);
    tcase_add_test(tcase, the_end_is_uniform_over_the_unsolved);
    tcase_add_test(tcase, one_task_and_none);
    tcase_add_test(tcase, environments_go_on_together);
    tcase_add_test(tcase, a_draw_depends_on_its_inputs_only);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
