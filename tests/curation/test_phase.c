/* LABELS: unit
 * phase and replay: which update is of which phase, who may start, every seed meets every mutation, the critic's band, the
 * split of tasks for the outcome reward model; and what is replayed: band, cap, share of the phase, budget of tokens. */
#include "curation/phase.h"
#include "curation/replay.h"
#include "services/common/base/rng.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NONE ((double)NAN)

static uint64_t test_seed(void)
{
    const char *given = getenv("PAL_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 20241102;
    (void)fprintf(stderr, "PAL_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

START_TEST(updates_have_phases)
{
    static const struct {
        int64_t update, length, phase;
        bool ends;
    } rows[] = {{0, 4, 0, false}, {1, 4, 0, false}, {4, 4, 0, true}, {5, 4, 1, false},   {8, 4, 1, true},
                {9, 4, 2, false}, {1, 1, 0, true},  {2, 1, 1, true}, {100, 100, 0, true}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_int_eq(phase_of(rows[i].update, rows[i].length), rows[i].phase);
        ck_assert_int_eq(phase_ends(rows[i].update, rows[i].length), rows[i].ends);
    }
    ck_assert_int_eq(phase_last(0, 4), 4);
    ck_assert_int_eq(phase_last(2, 4), 12);
    ck_assert(phase_may_start(4, 0, 4, false));
    ck_assert(!phase_may_start(5, 0, 4, false));
    ck_assert(phase_may_start(5, 0, 4, true));
    ck_assert(phase_may_start(5, 1, 4, false));
    ck_assert(phase_may_start(2, 1, 4, false)); /* a replacement of an earlier phase */
}
END_TEST

START_TEST(every_seed_meets_every_mutation)
{
    for (size_t seeds = 1; seeds <= 9; seeds++) {
        bool met[9][3] = {{false}};
        for (size_t i = 0; i < 3 * seeds; i++) {
            struct phase_candidate c = phase_candidate(7, 2, i, seeds);
            ck_assert_uint_eq(c.seed, i % seeds);
            met[c.seed][c.mutation] = true;
            for (size_t k = 0; k < i; k++) ck_assert_uint_ne(phase_candidate(7, 2, k, seeds).random, c.random);
        }
        for (size_t s = 0; s < seeds; s++) ck_assert(met[s][0] && met[s][1] && met[s][2]);
    }
    ck_assert_uint_ne(phase_candidate(7, 2, 0, 1).random, phase_candidate(7, 3, 0, 1).random);
}
END_TEST

START_TEST(the_critics_band_is_inclusive)
{
    ck_assert(phase_in_band(0.05, 0.05, 0.75) && phase_in_band(0.75, 0.05, 0.75) && phase_in_band(0.4, 0.05, 0.75));
    ck_assert(!phase_in_band(0.0499, 0.05, 0.75) && !phase_in_band(0.7501, 0.05, 0.75) && !phase_in_band(NONE, 0, 1));
}
END_TEST

START_TEST(a_fifth_of_the_tasks_tests)
{
    uint64_t seed = test_seed();
    int tests = 0;
    for (int64_t task = 0; task < 20000; task++) {
        tests += phase_tests(seed, task);
        ck_assert_int_eq(phase_tests(seed, task), phase_tests(seed, task));
    }
    ck_assert_int_gt(tests, 3700); /* 4000, standard deviation 57 */
    ck_assert_int_lt(tests, 4300);
}
END_TEST

/* ---- replay ---- */

static const struct replay_config WEBRL = {.low = 1 / 0.95, .high = 2, .cap = 4, .most_tokens = 1000, .updates_left = 1};

START_TEST(only_the_band_is_replayed)
{
    static const struct {
        struct replay_candidate candidate;
        bool eligible;
    } rows[] = {{{1, 1.0527, 0, 10}, true},  {{2, 1.05, 0, 10}, false}, {{3, 2, 3, 10}, true},
                {{4, 2.0001, 0, 10}, false}, {{5, NONE, 0, 10}, false}, {{6, 1.5, 4, 10}, false}};
    struct replay_candidate all[6];
    size_t chosen[6], count = 0;
    for (size_t i = 0; i < 6; i++) {
        ck_assert_int_eq(replay_eligible(&WEBRL, &rows[i].candidate), rows[i].eligible);
        all[i] = rows[i].candidate;
    }
    ck_assert_int_eq(replay_choose(&WEBRL, all, 6, 1, chosen, &count), ERR_ok);
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(chosen[0], 0); /* never replayed comes before thrice */
    ck_assert_uint_eq(chosen[1], 2);
    ck_assert_int_eq(replay_choose(&WEBRL, all, 0, 1, chosen, &count), ERR_ok);
    ck_assert_uint_eq(count, 0);
}
END_TEST

START_TEST(the_budget_is_tokens)
{
    const struct replay_candidate all[] = {{1, 1.5, 0, 60}, {2, 1.5, 1, 50}, {3, 1.5, 2, 40}};
    struct replay_config config = WEBRL;
    size_t chosen[3], count = 0;
    config.most_tokens = 100;
    ck_assert_int_eq(replay_choose(&config, all, 3, 1, chosen, &count), ERR_ok);
    ck_assert_uint_eq(count, 2); /* 50 does not fit behind 60, 40 does */
    ck_assert_uint_eq(chosen[0], 0);
    ck_assert_uint_eq(chosen[1], 2);
    config.most_tokens = 0;
    ck_assert_int_eq(replay_choose(&config, all, 3, 1, chosen, &count), ERR_ok);
    ck_assert_uint_eq(count, 0);
}
END_TEST

/* A phase replayed from its first update to its last: uses are spread, no cap is broken, all are used where tokens allow. */
START_TEST(uses_are_spread_over_the_phase)
{
    enum { EPISODES = 30, UPDATES = 25 };
    uint64_t seed = test_seed();
    struct replay_candidate all[EPISODES];
    struct replay_config config = WEBRL;
    size_t chosen[EPISODES], total = 0;
    for (int64_t i = 0; i < EPISODES; i++) all[i] = (struct replay_candidate){i, 1.5, 0, 5};
    for (int64_t u = 0; u < UPDATES; u++) {
        size_t count = 0;
        config.updates_left = UPDATES - u;
        ck_assert_int_eq(replay_choose(&config, all, EPISODES, seed + (uint64_t)u, chosen, &count), ERR_ok);
        ck_assert_uint_le(count, 5); /* 30 x 4 / 25 = 4.8 */
        ck_assert_uint_ge(count, 4);
        for (size_t i = 0; i < count; i++) {
            for (size_t k = 0; k < i; k++) ck_assert_uint_ne(chosen[i], chosen[k]);
            all[chosen[i]].uses++;
        }
        total += count;
    }
    ck_assert_uint_eq(total, 4 * EPISODES);
    for (size_t i = 0; i < EPISODES; i++) ck_assert_int_eq(all[i].uses, 4);
}
END_TEST

START_TEST(a_choice_depends_on_its_inputs_only)
{
    struct replay_candidate all[20];
    size_t a[20], b[20], an = 0, bn = 0, others = 0;
    for (int64_t i = 0; i < 20; i++) all[i] = (struct replay_candidate){i, 1.5, 0, 5};
    struct replay_config config = WEBRL;
    config.updates_left = 16;
    for (uint64_t seed = 0; seed < 20; seed++) {
        ck_assert_int_eq(replay_choose(&config, all, 20, seed, a, &an), ERR_ok);
        ck_assert_int_eq(replay_choose(&config, all, 20, seed, b, &bn), ERR_ok);
        ck_assert_uint_eq(an, 5);
        ck_assert_mem_eq(a, b, an * sizeof *a);
        others += a[0] != 0;
    }
    ck_assert_uint_gt(others, 10); /* not always the first one */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("phase");
    TCase *tcase = tcase_create("phase");
    tcase_add_test(tcase, updates_have_phases);
    tcase_add_test(tcase, every_seed_meets_every_mutation);
    tcase_add_test(tcase, the_critics_band_is_inclusive);
    tcase_add_test(tcase, a_fifth_of_the_tasks_tests);
    tcase_add_test(tcase, only_the_band_is_replayed);
    tcase_add_test(tcase, the_budget_is_tokens);
    tcase_add_test(tcase, uses_are_spread_over_the_phase);
    tcase_add_test(tcase, a_choice_depends_on_its_inputs_only);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
