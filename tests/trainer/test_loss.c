/* LABELS: unit
 * losses: gradients against central finite differences of the loss, hand-computed values for every branch of the clip, the
 * importance weights and the aggregation, figures from the sums. */
#include "tests/trainer/loss_fixture.h"

#include "trainer/diagnostics.h"

#include <stdio.h>
#include <stdlib.h>

/* near the clip's corners a central difference sees both sides */
static bool near_corner(const struct loss_terms *terms, const struct data *d, size_t i)
{
    double recorded = (double)d->behave[i] < (double)LOSS_UNRECORDED ? (double)d->behave[i] : (double)d->prox[i];
    double ratio = exp((double)d->theta[i] - (terms->behave_ratio ? recorded : (double)d->prox[i]));
    const double corners[] = {1 - terms->clip_low, 1 + terms->clip_high, terms->dual_clip};
    for (size_t c = 0; c < 3; c++) {
        if (fabs(ratio - corners[c]) < 0.005) return true;
    }
    return false;
}

static void check_gradient(enum loss_kind kind, const struct loss_terms *terms)
{
    struct rng rng;
    rng_init(&rng, SEED, (uint64_t)kind);
    static struct data d;
    fill(&d, &rng);
    const struct loss_batch batch = view(&d, N);
    (void)run(kind, terms, &d, &batch, NULL);
    size_t checked = 0;
    for (size_t i = 0; i < N; i++) {
        if (near_corner(terms, &d, i)) continue;
        check_target(kind, terms, &d, &batch, i);
        checked++;
    }
    ck_assert_uint_gt(checked, N * 8 / 10);
}

START_TEST(gradients_are_the_losses_differences)
{
    struct loss_terms terms = TERMS;
    check_gradient(LOSS_grpo, &terms);
    terms.dual_clip = 1.5;
    check_gradient(LOSS_grpo, &terms);
    terms.importance = LOSS_IMPORTANCE_masked;
    check_gradient(LOSS_grpo, &terms);
    terms.importance = LOSS_IMPORTANCE_off;
    check_gradient(LOSS_grpo, &terms);
    terms.behave_ratio = true;
    check_gradient(LOSS_grpo, &terms);
    check_gradient(LOSS_ppo, &terms);
    check_gradient(LOSS_imitation, &terms);
}
END_TEST

/* one target with weight 1: its loss, its dlogp, whether the clip took it */
struct answer {
    double loss, dlogp;
    bool clipped;
};

static struct answer one(const struct loss_terms *terms, double ratio, double rho, double advantage)
{
    static struct data d;
    d.weight[0] = 1;
    d.advantage[0] = (float)advantage;
    d.prox[0] = -2;
    d.theta[0] = (float)(-2 + log(ratio));
    d.behave[0] = (float)(-2 - log(rho));
    d.entropy[0] = 1;
    struct loss_batch batch = view(&d, 1);
    batch.reference = NULL;
    struct loss_sums sums;
    double loss = run(LOSS_grpo, terms, &d, &batch, &sums);
    return (struct answer){loss, (double)d.dlogp[0], sums.clipped > 0};
}

static void expect(struct answer got, double loss, double dlogp, bool clipped)
{
    ck_assert_double_eq_tol(got.loss, loss, 1e-5);
    ck_assert_double_eq_tol(got.dlogp, dlogp, 1e-5);
    ck_assert_int_eq(got.clipped, clipped);
}

START_TEST(the_clip_is_the_published_one)
{
    const struct loss_terms terms = {.clip_low = 0.2, .clip_high = 0.28, .cap = 1};
    expect(one(&terms, 1.1, 1, 2), -2.2, -2.2, false); /* inside */
    expect(one(&terms, 1.5, 1, 2), -2.56, 0, true);    /* A > 0, above: 1.28 A */
    expect(one(&terms, 0.5, 1, 2), -1.0, -1.0, false); /* A > 0, below: min keeps the ratio */
    expect(one(&terms, 0.5, 1, -2), 1.6, 0, true);     /* A < 0, below: 0.8 A */
    expect(one(&terms, 1.5, 1, -2), 3.0, 3.0, false);  /* A < 0, above: not clipped */
    expect(one(&terms, 9.0, 1, 0), 0, 0, false);
    struct loss_terms dual = terms;
    dual.dual_clip = 3;
    expect(one(&dual, 5.0, 1, -2), 6.0, 0, true);    /* max(-10, 3 * -2) */
    expect(one(&dual, 2.0, 1, -2), 4.0, 4.0, false); /* under the dual clip */
    expect(one(&dual, 5.0, 1, 2), -2.56, 0, true);   /* A > 0: no dual clip */
}
END_TEST

START_TEST(importance_weights_are_truncated_or_masked)
{
    struct loss_terms terms = {.clip_low = 0.2, .clip_high = 0.28, .cap = 1, .importance = LOSS_IMPORTANCE_off};
    expect(one(&terms, 1, 0.6, 1), -1, -1, false);
    terms.importance = LOSS_IMPORTANCE_tis;
    expect(one(&terms, 1, 0.6, 1), -0.6, -0.6, false);
    expect(one(&terms, 1, 3, 1), -1, -1, false); /* cut to the cap */
    terms.cap = 2;
    expect(one(&terms, 1, 3, 1), -2, -2, false);
    terms.importance = LOSS_IMPORTANCE_masked;
    expect(one(&terms, 1, 1.5, 1), -1.5, -1.5, false);
    expect(one(&terms, 1, 2.1, 1), 0, 0, false);
    expect(one(&terms, 1, 0.45, 1), 0, 0, false);
    terms.behave_ratio = true; /* ratio = theta/behave, w = 1 */
    expect(one(&terms, 1, 1.2, 1), -1.2, -1.2, false);
    expect(one(&terms, 1, 1.5, 1), -1.28, 0, true);
}
END_TEST

START_TEST(extreme_ratios_stay_finite)
{
    const struct loss_terms terms = {
        .clip_low = 0.2, .clip_high = 0.28, .cap = 1e6, .importance = LOSS_IMPORTANCE_tis, .kl = 1};
    static struct data d = {.weight = {1, 1},
                            .advantage = {-1, 1},
                            .theta = {-0.5f, -200},
                            .prox = {-300, -1},
                            .behave = {-0.5f, -250},
                            .reference = {-400, -0.1f}};
    struct loss_batch batch = view(&d, 2);
    ck_assert(isfinite(run(LOSS_grpo, &terms, &d, &batch, NULL)));
    for (size_t i = 0; i < 2; i++) ck_assert(isfinite(d.dlogp[i]));
}
END_TEST

START_TEST(what_is_not_finite_reaches_the_sum)
{
    static struct data d = {.weight = {1}, .advantage = {1}, .theta = {NAN}, .prox = {NAN}, .behave = {-1}};
    struct loss_batch batch = view(&d, 1);
    batch.reference = NULL;
    ck_assert(isnan(run(LOSS_grpo, &TERMS, &d, &batch, NULL)));
    ck_assert(isnan(run(LOSS_imitation, &TERMS, &d, &batch, NULL)));
}
END_TEST

START_TEST(at_the_start_the_clip_is_inert)
{
    struct rng rng;
    rng_init(&rng, SEED, 9);
    static struct data d;
    fill(&d, &rng);
    struct loss_batch batch = view(&d, N);
    batch.prox = d.theta;
    struct loss_sums sums;
    (void)run(LOSS_grpo, &TERMS, &d, &batch, &sums);
    ck_assert_double_eq(sums.clipped, 0);
    ck_assert_double_eq(sums.ratio, N);
    ck_assert_double_eq(sums.plain, N);
}
END_TEST

START_TEST(targets_outside_of_turns_take_no_part)
{
    struct rng rng;
    rng_init(&rng, SEED, 10);
    static struct data d;
    fill(&d, &rng);
    struct loss_batch batch = view(&d, 20); /* five turns, two sequences */
    struct loss_sums all, some;
    double whole = run(LOSS_grpo, &TERMS, &d, &batch, &all);
    float kept[20];
    memcpy(kept, d.dlogp, sizeof kept);
    double first = 0;
    {
        struct loss_batch only = view(&d, 4);
        first = run(LOSS_grpo, &TERMS, &d, &only, NULL);
    }
    batch = view(&d, 20);
    d.sequence[0] = (struct loss_sequence){.first = 1, .count = 2}; /* its first turn was dropped */
    double rest = run(LOSS_grpo, &TERMS, &d, &batch, &some);
    ck_assert_double_eq_tol(rest, whole - first, 1e-9);
    ck_assert_double_eq(some.targets, all.targets - 4);
    for (size_t i = 0; i < 20; i++) ck_assert(i < 4 ? d.dlogp[i] == 0 && d.dentropy[i] == 0 : d.dlogp[i] == kept[i]);
}
END_TEST

START_TEST(aggregation_is_in_the_weights)
{
    const struct loss_norm norm = {.tokens = 50, .sequences = 4, .turns = 10};
    ck_assert_double_eq(loss_weight(LOSS_AGGREGATION_token_mean, &norm, 5, 2), 0.02);
    ck_assert_double_eq(loss_weight(LOSS_AGGREGATION_seq_mean, &norm, 5, 2), 0.05);
    ck_assert_double_eq(loss_weight(LOSS_AGGREGATION_step_mean, &norm, 5, 2), 0.05);
}
END_TEST

START_TEST(figures_follow_from_the_sums)
{
    struct loss_sums sums = {0}, part = {.loss = 2,
                                         .targets = 4,
                                         .recorded = 2,
                                         .rho = 3,
                                         .rho_square = 5,
                                         .weight = 1.5,
                                         .truncated = 1,
                                         .clipped = 1,
                                         .entropy = 2,
                                         .ratio = 4,
                                         .plain = 4,
                                         .hinted = 2,
                                         .hint_log_ratio = -3,
                                         .hint_weight = 1,
                                         .hint_sequences = 1,
                                         .hint_gamma = 0.1,
                                         .behave_kl = 0.5};
    loss_sums_add(&sums, &part);
    loss_sums_add(&sums, &part);
    for (int i = 0; i < 98; i++) loss_gap_add(&sums, 0);
    loss_gap_add(&sums, 0.01);
    loss_gap_add(&sums, 1e9);
    struct diagnostics d;
    diagnostics_clear(&d);
    ck_assert(isnan(d.mean_w) && isnan(d.guide_ratio_mean) && isnan(d.fau));
    diagnostics_from_sums(&d, &sums, 2);
    ck_assert_double_eq(d.loss, 2);
    ck_assert_double_eq(d.entropy, 0.5);
    ck_assert_double_eq(d.ratio_mean, 1);
    ck_assert_double_eq(d.clip_share, 0.25);
    ck_assert_double_eq(d.mean_w, 0.75);
    ck_assert_double_eq(d.truncated_share, 0.5);
    ck_assert_double_eq(d.ess, 36.0 / 40.0);
    ck_assert_double_eq(d.kl_first_pass, 0.25);
    ck_assert_double_eq(d.unrecorded_share, 0.5);
    ck_assert_double_eq(d.hinted_targets, 4);
    ck_assert_double_eq(d.guide_ratio_mean, -1.5);
    ck_assert_double_eq(d.guide_weight_mean, 0.5);
    ck_assert_double_eq(d.guide_gamma, 0.1);
    ck_assert(isnan(d.fau) && isnan(d.value_loss));
    const struct value_sums values = {
        .states = 4, .loss = 2, .active = 12, .units = 32, .outcome = 2, .outcome_square = 2, .error_square = 0.5};
    diagnostics_from_values(&d, &values);
    ck_assert_double_eq(d.fau, 0.375);
    ck_assert_double_eq(d.value_loss, 0.5);
    ck_assert_double_eq(d.explained_variance, 0.5); /* 1 - (0.5 / 4) / (2 / 4 - 1 / 4) */
    ck_assert_double_eq(d.logp_gap_p50, 0);
    ck_assert_double_ge(d.logp_gap_p99, 0.01);
    ck_assert_double_le(d.logp_gap_p99, 0.01 * pow(10, 0.126));
    ck_assert_double_eq(diagnostics_value(&d, DIAGNOSTICS_ess), d.ess);
    ck_assert_str_eq(diagnostics_name(DIAGNOSTICS_logp_gap_p99), "logp_gap_p99");
}
END_TEST

START_TEST(rows_have_names_and_terms_have_bounds)
{
    for (size_t i = 0; i < LOSS_COUNT; i++) {
        enum loss_kind kind = LOSS_COUNT;
        ck_assert_int_eq(loss_find(loss_name((enum loss_kind)i), &kind), ERR_ok);
        ck_assert_uint_eq(kind, i);
        ck_assert(loss_doc(kind)[0] != 0);
    }
    enum loss_kind kind;
    ck_assert_int_eq(loss_find("ppo2", &kind), ERR_not_found);
    ck_assert_ptr_nonnull(strstr(err_text(), "imitation"));
    struct loss_terms terms = TERMS;
    ck_assert_int_eq(loss_terms_check(&terms), ERR_ok);
    terms.dual_clip = 0.5;
    ck_assert_int_eq(loss_terms_check(&terms), ERR_invalid);
    terms = TERMS;
    terms.cap = (double)NAN;
    ck_assert_int_eq(loss_terms_check(&terms), ERR_invalid);
    terms = TERMS;
    terms.clip_low = 1.5;
    ck_assert_int_eq(loss_terms_check(&terms), ERR_invalid);
    const struct loss_guide guides[] = {{.shaping = LOSS_SHAPING_constant},
                                        {.shaping = LOSS_SHAPING_quantile, .quantile = 1.1},
                                        {.shaping = LOSS_SHAPING_power},
                                        {.clip = -1}};
    for (size_t i = 0; i < sizeof guides / sizeof *guides; i++) {
        terms = TERMS;
        terms.guide = guides[i];
        ck_assert_int_eq(loss_terms_check(&terms), ERR_invalid);
        ck_assert_ptr_nonnull(strstr(err_text(), "guide"));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loss");
    TCase *tcase = tcase_create("loss");
    tcase_add_test(tcase, gradients_are_the_losses_differences);
    tcase_add_test(tcase, the_clip_is_the_published_one);
    tcase_add_test(tcase, importance_weights_are_truncated_or_masked);
    tcase_add_test(tcase, extreme_ratios_stay_finite);
    tcase_add_test(tcase, what_is_not_finite_reaches_the_sum);
    tcase_add_test(tcase, at_the_start_the_clip_is_inert);
    tcase_add_test(tcase, targets_outside_of_turns_take_no_part);
    tcase_add_test(tcase, aggregation_is_in_the_weights);
    tcase_add_test(tcase, figures_follow_from_the_sums);
    tcase_add_test(tcase, rows_have_names_and_terms_have_bounds);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
