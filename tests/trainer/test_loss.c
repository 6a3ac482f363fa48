/* LABELS: unit
 * losses: gradients against central finite differences of the loss, hand-computed values for every branch of the clip, the
 * importance weights and the aggregation, figures from the sums. */
#include "services/common/base/rng.h"
#include "trainer/diagnostics.h"
#include "trainer/loss.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N    400
#define SEED 11

struct data {
    float weight[N], advantage[N], theta[N], entropy[N], prox[N], behave[N], reference[N];
    float dlogp[N], dentropy[N];
};

static const struct loss_terms TERMS = {
    .clip_low = 0.2, .clip_high = 0.28, .importance = LOSS_IMPORTANCE_tis, .cap = 1.0, .entropy = 0.01, .kl = 0.3};

static struct loss_batch view(const struct data *d, size_t targets)
{
    return (struct loss_batch){targets, d->weight, d->advantage, d->theta, d->entropy,
                               d->prox, d->behave, d->reference, NULL};
}

static double run(enum loss_kind kind, const struct loss_terms *terms, struct data *d, const struct loss_batch *batch,
                  struct loss_sums *ret)
{
    struct loss_sums sums = {0};
    const struct loss_grad grad = {d->dlogp, d->dentropy};
    loss_of(kind)(terms, batch, &grad, &sums);
    if (ret) *ret = sums;
    return sums.loss;
}

static void fill(struct data *d, struct rng *rng)
{
    for (size_t i = 0; i < N; i++) {
        d->weight[i] = (float)(0.5 + rng_unit(rng));
        d->advantage[i] = (float)rng_normal(rng);
        d->theta[i] = (float)(-3 * rng_unit(rng) - 0.01);
        d->entropy[i] = (float)(2 * rng_unit(rng));
        d->prox[i] = d->theta[i] + (float)(0.4 * rng_normal(rng));
        d->behave[i] = i % 17 == 0 ? LOSS_UNRECORDED : fminf(d->prox[i] + (float)(0.4 * rng_normal(rng)), -1e-4f);
        d->reference[i] = d->theta[i] + (float)(0.5 * rng_normal(rng));
    }
}

/* dL/dx of target i by central differences; x lies in d */
static double slope(enum loss_kind kind, const struct loss_terms *terms, struct data *d, const struct loss_batch *batch,
                    float *x)
{
    struct data scratch = *d;
    float kept = *x, high = kept + 1e-3f, low = kept - 1e-3f;
    *x = high;
    double above = run(kind, terms, &scratch, batch, NULL);
    *x = low;
    double below = run(kind, terms, &scratch, batch, NULL);
    *x = kept;
    return (above - below) / ((double)high - (double)low);
}

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
        double by_logp = slope(kind, terms, &d, &batch, &d.theta[i]);
        double by_entropy = slope(kind, terms, &d, &batch, &d.entropy[i]);
        ck_assert_msg(fabs(by_logp - (double)d.dlogp[i]) < 2e-4, "target %zu (seed %d): dlogp %g, differences %g", i, SEED,
                      (double)d.dlogp[i], by_logp);
        ck_assert_msg(fabs(by_entropy - (double)d.dentropy[i]) < 2e-4, "target %zu: dentropy %g, differences %g", i,
                      (double)d.dentropy[i], by_entropy);
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
    const struct loss_batch batch = view(&d, 2);
    ck_assert(isfinite(run(LOSS_grpo, &terms, &d, &batch, NULL)));
    for (size_t i = 0; i < 2; i++) ck_assert(isfinite(d.dlogp[i]));
}
END_TEST

START_TEST(what_is_not_finite_reaches_the_sum)
{
    static struct data d = {.weight = {1}, .advantage = {1}, .theta = {NAN}, .behave = {-1}};
    struct loss_batch batch = view(&d, 1);
    batch.prox = batch.reference = NULL;
    ck_assert(isnan(run(LOSS_grpo, &TERMS, &d, &batch, NULL)));
    ck_assert(isnan(run(LOSS_imitation, &TERMS, &d, &batch, NULL)));
}
END_TEST

START_TEST(prox_defaults_to_theta)
{
    struct rng rng;
    rng_init(&rng, SEED, 9);
    static struct data d;
    fill(&d, &rng);
    struct loss_batch batch = view(&d, N);
    batch.prox = d.theta;
    double with = run(LOSS_grpo, &TERMS, &d, &batch, NULL);
    float dlogp[N];
    for (size_t i = 0; i < N; i++) dlogp[i] = d.dlogp[i];
    batch.prox = NULL;
    struct loss_sums sums;
    ck_assert_double_eq(run(LOSS_grpo, &TERMS, &d, &batch, &sums), with);
    ck_assert_mem_eq(d.dlogp, dlogp, sizeof dlogp);
    ck_assert_double_eq(sums.clipped, 0); /* the clip is inert */
    ck_assert_double_eq(sums.ratio, N);
}
END_TEST

START_TEST(aggregation_is_in_the_weights)
{
    ck_assert_double_eq(loss_weight(LOSS_AGGREGATION_token_mean, 50, 4, 5), 0.02);
    ck_assert_double_eq(loss_weight(LOSS_AGGREGATION_seq_mean, 50, 4, 5), 0.05);
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
                                         .behave_kl = 0.5};
    loss_sums_add(&sums, &part);
    loss_sums_add(&sums, &part);
    for (int i = 0; i < 98; i++) loss_gap_add(&sums, 0);
    loss_gap_add(&sums, 0.01);
    loss_gap_add(&sums, 1e9);
    struct diagnostics d = {0};
    diagnostics_from_sums(&d, &sums, 2);
    ck_assert_double_eq(d.loss, 2);
    ck_assert_double_eq(d.entropy, 0.5);
    ck_assert_double_eq(d.ratio_mean, 1);
    ck_assert_double_eq(d.clip_share, 0.25);
    ck_assert_double_eq(d.mean_w, 0.75);
    ck_assert_double_eq(d.truncated_share, 0.5);
    ck_assert_double_eq(d.ess, 36.0 / 40.0);
    ck_assert_double_eq(d.kl_first_pass, 0.25);
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
    tcase_add_test(tcase, prox_defaults_to_theta);
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
