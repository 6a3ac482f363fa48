/* LABELS: unit
 * replay_ratio: credits with fractions, both rules against windows worked out by hand, alarms, what was not measured, and
 * that the state is the numbers of its table and nothing else. */
#include "curation/replay_ratio.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NONE ((double)NAN)

static const struct replay_ratio_config PAPER = {.low = 0.5, .high = 2, .window = 1, .tau = 0.001, .warmup = 4};
static const struct replay_ratio_config GUARDED = {.low = 1,
                                                   .high = 3,
                                                   .guarded = true,
                                                   .window = 2,
                                                   .tau = 0.001,
                                                   .warmup = 4,
                                                   .floor = 0.8,
                                                   .weight_low = 0.7,
                                                   .clip_high = 0.3};

/* ---- credits ---- */

/* Passes of `updates` updates at a rate. */
static int64_t passes_of(double rate, int updates, int64_t *ret_most)
{
    const struct replay_ratio_config config = {.low = rate, .high = rate, .window = 1};
    struct replay_ratio state = {0};
    int64_t all = 0;
    *ret_most = 0;
    for (int i = 0; i < updates; i++) {
        int64_t passes = replay_ratio_passes(&config, &state);
        ck_assert_int_ge(passes, 0);
        replay_ratio_spend(&config, &state, passes);
        ck_assert(state.credits > -1e-6 && state.credits < 1);
        all += passes;
        if (passes > *ret_most) *ret_most = passes;
    }
    return all;
}

START_TEST(fractions_are_credits)
{
    static const struct {
        double rate;
        int updates;
        int64_t passes, most;
    } rows[] = {{1, 10, 10, 1},   {0.5, 10, 5, 1},    {0.1, 100, 10, 1}, {1.5, 10, 15, 2},
                {2.25, 8, 18, 3}, {0.05, 400, 20, 1}, {16, 3, 48, 16},   {0.3, 1000, 300, 1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t most = 0;
        ck_assert_int_eq(passes_of(rows[i].rate, rows[i].updates, &most), rows[i].passes);
        ck_assert_int_eq(most, rows[i].most);
    }
    const struct replay_ratio_config half = {.low = 0.5, .high = 2, .window = 1};
    struct replay_ratio state = {0};
    ck_assert_int_eq(replay_ratio_passes(&half, &state), 0); /* the first is discarded, the second is made */
    replay_ratio_spend(&half, &state, 0);
    ck_assert_int_eq(replay_ratio_passes(&half, &state), 1);
    replay_ratio_spend(&half, &state, 3); /* a debt of 2 */
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(replay_ratio_passes(&half, &state), 0);
        replay_ratio_spend(&half, &state, 0);
    }
    ck_assert_int_eq(replay_ratio_passes(&half, &state), 1);
}
END_TEST

/* ---- windows ---- */

static bool read_fau(const struct replay_ratio_config *config, struct replay_ratio *state, double fau,
                     struct replay_ratio_verdict *ret)
{
    return replay_ratio_read(config, state, &(struct replay_ratio_reading){fau, 1, 0.1, 0.5}, ret);
}

/* A window of the same reading all along. */
static struct replay_ratio_verdict window(const struct replay_ratio_config *config, struct replay_ratio *state,
                                          const struct replay_ratio_reading *reading)
{
    struct replay_ratio_verdict verdict;
    for (double i = 1; i < config->window; i++) ck_assert(!replay_ratio_read(config, state, reading, &verdict));
    ck_assert(replay_ratio_read(config, state, reading, &verdict));
    return verdict;
}

static struct replay_ratio_verdict quiet_window(const struct replay_ratio_config *config, struct replay_ratio *state,
                                                double fau)
{
    return window(config, state, &(struct replay_ratio_reading){fau, 1, 0.1, 0.5});
}

START_TEST(a_window_is_a_mean_over_its_readings)
{
    struct replay_ratio_config config = GUARDED;
    config.window = 3;
    struct replay_ratio state = {0};
    struct replay_ratio_verdict v;
    ck_assert(!replay_ratio_read(&config, &state, &(struct replay_ratio_reading){0.2, 1, 0.1, NONE}, &v));
    ck_assert(!replay_ratio_read(&config, &state, &(struct replay_ratio_reading){NONE, 0, 1, 0}, &v)); /* it was skipped */
    ck_assert(!replay_ratio_read(&config, &state, &(struct replay_ratio_reading){0.4, 0.5, NONE, 0.25}, &v));
    ck_assert(replay_ratio_read(&config, &state, &(struct replay_ratio_reading){0.9, NONE, 0.3, 0.75}, &v));
    ck_assert_double_eq_tol(v.fau, 0.5, 1e-12);
    ck_assert_double_eq_tol(v.mean_w, 0.75, 1e-12);
    ck_assert_double_eq_tol(v.clip_share, 0.2, 1e-12);
    ck_assert_double_eq_tol(v.explained_variance, 0.5, 1e-12);
    ck_assert(isnan(v.difference));
    ck_assert_int_eq(v.why, REPLAY_RATIO_MEASURES);
    ck_assert_double_eq(state.readings, 0);
    ck_assert_double_eq(state.fau, 0);
}
END_TEST

START_TEST(the_papers_rule_switches_once)
{
    struct replay_ratio state = {0};
    struct replay_ratio_verdict v;
    ck_assert(read_fau(&PAPER, &state, 0.5, &v));
    ck_assert_int_eq(v.why, REPLAY_RATIO_MEASURES);
    ck_assert(read_fau(&PAPER, &state, 0.48, &v));
    ck_assert_int_eq(v.why, REPLAY_RATIO_STAYS);
    ck_assert_double_eq(replay_ratio_now(&PAPER, &state), 0.5);
    ck_assert(read_fau(&PAPER, &state, 0.4805, &v)); /* 0.0005 < 0.001, whichever way */
    ck_assert_int_eq(v.why, REPLAY_RATIO_QUIETED);
    ck_assert_double_eq_tol(v.difference, 0.0005, 1e-12);
    ck_assert_double_eq(replay_ratio_now(&PAPER, &state), 2);
    for (int i = 0; i < 20; i++) { /* never back, whatever comes */
        ck_assert(replay_ratio_read(&PAPER, &state, &(struct replay_ratio_reading){0.1 * i, 0, 1, -i}, &v));
        ck_assert_int_eq(v.why, REPLAY_RATIO_STAYS);
        ck_assert(v.high);
    }
    /* a difference of exactly tau is not below it; 2^-10 has no rounding */
    struct replay_ratio_config exact = PAPER;
    exact.tau = 0x1p-10;
    struct replay_ratio edge = {0};
    ck_assert(read_fau(&exact, &edge, 0.5, &v));
    ck_assert(read_fau(&exact, &edge, 0.5 + 0x1p-10, &v));
    ck_assert_int_eq(v.why, REPLAY_RATIO_STAYS);
}
END_TEST

/* Windows of the warm-up: 0.50, 0.40, 0.44, 0.42; differences -0.10, 0.04, -0.02, their mean -0.08/3, so the sample variance
 * is (0.0120 - 0.0064/3) / 2 = 0.0049333 and tau' = 2 x 0.0702377 = 0.1404754. */
static void warm_up(struct replay_ratio *state)
{
    static const double faus[] = {0.50, 0.40, 0.44, 0.42};
    for (size_t i = 0; i < 4; i++) ck_assert_int_eq(quiet_window(&GUARDED, state, faus[i]).why, REPLAY_RATIO_MEASURES);
}

START_TEST(the_guarded_rule_waits_for_two_quiet_windows)
{
    struct replay_ratio state = {0};
    warm_up(&state);
    struct replay_ratio_verdict v = quiet_window(&GUARDED, &state, 0.43);
    ck_assert_double_eq_tol(v.tau, 0.1404754, 1e-6);
    ck_assert_int_eq(v.why, REPLAY_RATIO_STAYS); /* one */
    v = quiet_window(&GUARDED, &state, 0.60);    /* 0.17: not quiet */
    ck_assert_int_eq(v.why, REPLAY_RATIO_STAYS);
    ck_assert_int_eq(quiet_window(&GUARDED, &state, 0.55).why, REPLAY_RATIO_STAYS);
    ck_assert_double_eq(replay_ratio_now(&GUARDED, &state), 1);
    v = quiet_window(&GUARDED, &state, 0.56);
    ck_assert_int_eq(v.why, REPLAY_RATIO_QUIETED);
    ck_assert(v.high);
    ck_assert_double_eq(replay_ratio_now(&GUARDED, &state), 3);
    ck_assert_double_eq_tol(v.tau, 0.1404754, 1e-6); /* what came after the warm-up does not move it */
}
END_TEST

START_TEST(a_trough_is_not_settled)
{
    struct replay_ratio state = {0};
    warm_up(&state);
    for (int i = 0; i < 10; i++) /* quiet, but not above 0.8 x 0.50 */
        ck_assert_int_eq(quiet_window(&GUARDED, &state, 0.4).why, REPLAY_RATIO_STAYS);
    ck_assert_int_eq(quiet_window(&GUARDED, &state, 0.401).why, REPLAY_RATIO_STAYS);
    ck_assert_int_eq(quiet_window(&GUARDED, &state, 0.402).why, REPLAY_RATIO_QUIETED);
}
END_TEST

static void go_high(struct replay_ratio *state)
{
    *state = (struct replay_ratio){0};
    warm_up(state);
    (void)quiet_window(&GUARDED, state, 0.43);
    ck_assert_int_eq(quiet_window(&GUARDED, state, 0.43).why, REPLAY_RATIO_QUIETED);
}

START_TEST(alarms_go_back_to_low)
{
    static const struct {
        struct replay_ratio_reading reading;
        enum replay_ratio_why why;
    } rows[] = {
        {{0.43, 0.69, 0.1, 0.5}, REPLAY_RATIO_WEIGHT},  {{0.43, 0.70, 0.1, 0.5}, REPLAY_RATIO_STAYS},
        {{0.43, 1, 0.31, 0.5}, REPLAY_RATIO_CLIP},      {{0.43, 1, 0.30, 0.5}, REPLAY_RATIO_STAYS},
        {{0.43, NONE, NONE, NONE}, REPLAY_RATIO_STAYS}, /* a loss that has none of them */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct replay_ratio state;
        go_high(&state);
        struct replay_ratio_verdict v = window(&GUARDED, &state, &rows[i].reading);
        ck_assert_int_eq(v.why, rows[i].why);
        ck_assert_int_eq(v.high, rows[i].why == REPLAY_RATIO_STAYS);
    }
    struct replay_ratio state; /* explained variance: one fall is nothing, two are */
    go_high(&state);
    ck_assert_int_eq(window(&GUARDED, &state, &(struct replay_ratio_reading){0.43, 1, 0, 0.4}).why, REPLAY_RATIO_STAYS);
    ck_assert_int_eq(window(&GUARDED, &state, &(struct replay_ratio_reading){0.43, 1, 0, 0.45}).why, REPLAY_RATIO_STAYS);
    ck_assert_int_eq(window(&GUARDED, &state, &(struct replay_ratio_reading){0.43, 1, 0, 0.44}).why, REPLAY_RATIO_STAYS);
    ck_assert_int_eq(window(&GUARDED, &state, &(struct replay_ratio_reading){0.43, 1, 0, 0.43}).why, REPLAY_RATIO_VARIANCE);
    ck_assert_double_eq(replay_ratio_now(&GUARDED, &state), 1);
    ck_assert_int_eq(quiet_window(&GUARDED, &state, 0.43).why, REPLAY_RATIO_STAYS); /* and up again after two more */
    ck_assert_int_eq(quiet_window(&GUARDED, &state, 0.43).why, REPLAY_RATIO_QUIETED);
}
END_TEST

START_TEST(tau_is_no_smaller_than_asked)
{
    struct replay_ratio state = {0};
    for (int i = 0; i < 4; i++) (void)quiet_window(&GUARDED, &state, 0.5); /* no noise at all */
    ck_assert_double_eq(quiet_window(&GUARDED, &state, 0.5).tau, 0.001);
    struct replay_ratio_config once = GUARDED;
    once.warmup = 1; /* no difference to take a deviation of */
    state = (struct replay_ratio){0};
    (void)quiet_window(&once, &state, 0.5);
    ck_assert_double_eq(quiet_window(&once, &state, 0.5).tau, 0.001);
    ck_assert_int_eq(quiet_window(&once, &state, 0.5).why, REPLAY_RATIO_QUIETED);
}
END_TEST

/* What the ledger keeps (the table's numbers) goes on like what it was taken from. */
START_TEST(the_table_is_the_whole_state)
{
    struct replay_ratio state = {0}, copy;
    for (int i = 0; i < 200; i++) {
        memset(&copy, 0xff, sizeof copy);
#define STATE(name, doc) copy.name = state.name;
#include "curation/replay_ratio.def"
#undef STATE
        const struct replay_ratio_reading reading = {0.4 + 0.0001 * (i % 7), 1 - 0.003 * i, 0.001 * i, 0.5 - 0.001 * i};
        struct replay_ratio_verdict a = {0}, b = {0};
        int64_t passes = replay_ratio_passes(&GUARDED, &state);
        ck_assert_int_eq(replay_ratio_passes(&GUARDED, &copy), passes);
        replay_ratio_spend(&GUARDED, &state, passes);
        replay_ratio_spend(&GUARDED, &copy, passes);
        ck_assert_int_eq(replay_ratio_read(&GUARDED, &state, &reading, &a), replay_ratio_read(&GUARDED, &copy, &reading, &b));
        ck_assert_int_eq(a.why, b.why);
        ck_assert_mem_eq(&copy, &state, sizeof state);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("replay_ratio");
    TCase *tcase = tcase_create("replay_ratio");
    tcase_add_test(tcase, fractions_are_credits);
    tcase_add_test(tcase, a_window_is_a_mean_over_its_readings);
    tcase_add_test(tcase, the_papers_rule_switches_once);
    tcase_add_test(tcase, the_guarded_rule_waits_for_two_quiet_windows);
    tcase_add_test(tcase, a_trough_is_not_settled);
    tcase_add_test(tcase, alarms_go_back_to_low);
    tcase_add_test(tcase, tau_is_no_smaller_than_asked);
    tcase_add_test(tcase, the_table_is_the_whole_state);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
