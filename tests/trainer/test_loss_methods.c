/* LABELS: unit
 * losses of the methods: sequence ratios (gspo), hinted sequences (guide), WebRL's regression; gradients against central
 * finite differences, values computed by hand. */
#include "tests/trainer/loss_fixture.h"

#include "trainer/loss_guide.h"

#include <stdlib.h>
#include <string.h>

static struct data d;

static struct loss_batch filled(uint64_t stream)
{
    struct rng rng;
    rng_init(&rng, SEED, stream);
    fill(&d, &rng);
    return view(&d, N);
}

/* ---- gspo ---- */

static double sequence_ratio(const struct loss_batch *b, size_t s, const struct loss_terms *terms)
{
    double sum = 0, n = 0;
    for (size_t t = 0; t < b->sequence[s].count; t++) {
        const struct loss_turn *turn = &b->turn[b->sequence[s].first + t];
        for (size_t i = turn->first; i < turn->first + turn->count; i++) {
            bool recorded = b->behave[i] < LOSS_UNRECORDED;
            sum += (double)b->theta[i] - (double)(terms->behave_ratio && recorded ? b->behave[i] : b->prox[i]);
            n += 1;
        }
    }
    return exp(sum / n);
}

static void check_gspo(struct loss_terms terms)
{
    struct loss_batch batch = filled(3);
    (void)run(LOSS_gspo, &terms, &d, &batch, NULL);
    size_t checked = 0;
    for (size_t s = 0; s < batch.sequences; s++) {
        double ratio = sequence_ratio(&batch, s, &terms);
        if (fabs(ratio - 1 + terms.clip_low) < 0.002 || fabs(ratio - 1 - terms.clip_high) < 0.002) continue;
        const struct loss_turn *turn = &batch.turn[batch.sequence[s].first];
        for (size_t i = turn->first; i < turn->first + turn->count; i++) check_target(LOSS_gspo, &terms, &d, &batch, i);
        checked++;
    }
    ck_assert_uint_gt(checked, batch.sequences / 2);
}

START_TEST(gspo_gradients_are_differences)
{
    struct loss_terms terms = TERMS;
    terms.clip_low = terms.clip_high = 0.03; /* so that some are clipped */
    check_gspo(terms);
    terms.importance = LOSS_IMPORTANCE_masked;
    check_gspo(terms);
    terms.importance = LOSS_IMPORTANCE_off;
    terms.behave_ratio = true;
    check_gspo(terms);
}
END_TEST

START_TEST(gspo_is_the_published_objective)
{
    /* two sequences, each 1/2: ratios exp(mean(.3, -.1)) = 1.10517 with A = 2, and exp(.4) = 1.49182 with A = 1, clipped */
    memset(&d, 0, sizeof d);
    const float theta[] = {-0.7f, -1.1f, -0.6f, -0.6f}, advantage[] = {2, 2, 1, 1};
    for (size_t i = 0; i < 4; i++) {
        d.theta[i] = theta[i];
        d.prox[i] = d.behave[i] = -1;
        d.advantage[i] = advantage[i];
        d.weight[i] = 0.25f; /* seq_mean: 1 / (2 sequences of 2) */
    }
    struct loss_batch batch = view(&d, 4);
    batch.reference = NULL;
    batch.turns = batch.sequences = 2;
    d.turn[0] = (struct loss_turn){0, 2};
    d.turn[1] = (struct loss_turn){2, 2};
    d.sequence[0] = (struct loss_sequence){.first = 0, .count = 1};
    d.sequence[1] = (struct loss_sequence){.first = 1, .count = 1};
    const struct loss_terms terms = {.clip_low = 0.2, .clip_high = 0.28, .cap = 1};
    struct loss_sums sums;
    ck_assert_double_eq_tol(run(LOSS_gspo, &terms, &d, &batch, &sums), -0.5 * (2 * 1.10517) - 0.5 * 1.28, 1e-5);
    for (size_t i = 0; i < 2; i++) ck_assert_double_eq_tol((double)d.dlogp[i], -0.5 * 2 * 1.10517 / 2, 1e-5);
    for (size_t i = 2; i < 4; i++) ck_assert_double_eq((double)d.dlogp[i], 0);
    ck_assert_double_eq(sums.clipped, 2);
    ck_assert_double_eq(sums.plain, 4);
}
END_TEST

/* ---- guide ---- */

static struct loss_terms hinted_terms(enum loss_shaping shaping)
{
    struct loss_terms terms = TERMS;
    terms.guide = (struct loss_guide){.shaping = shaping, .gamma = 0.1, .quantile = 0.9, .power = 0.5, .certain = 0.99};
    return terms;
}

static struct loss_batch hinted(uint64_t stream)
{
    struct loss_batch batch = filled(stream);
    for (size_t s = 0; s < batch.sequences; s++) d.sequence[s].hinted = s % 2 == 0;
    for (size_t i = 0; i < N; i++) d.theta[i] -= i % 5 == 0 ? 3 : 0; /* words that nobody says without the hint */
    return batch;
}

START_TEST(guide_gradients_are_differences)
{
    const enum loss_shaping shapings[] = {LOSS_SHAPING_none, LOSS_SHAPING_constant, LOSS_SHAPING_power};
    for (size_t k = 0; k < 3; k++) {
        for (int clipped = 0; clipped < 2; clipped++) {
            struct loss_terms terms = hinted_terms(shapings[k]);
            terms.guide.clip = clipped ? 0.3 : 0;
            struct loss_batch batch = hinted(4);
            (void)run(LOSS_grpo, &terms, &d, &batch, NULL);
            size_t checked = 0;
            for (size_t i = 0; i < N; i++) {
                double r = exp((double)d.theta[i] - (double)d.prox[i]);
                bool is_hinted = i / (TURN * SEQUENCE) % 2 == 0;
                if (!is_hinted || (clipped && (fabs(r - 0.7) < 0.005 || fabs(r - 1.3) < 0.005))) continue;
                check_target(LOSS_grpo, &terms, &d, &batch, i);
                checked++;
            }
            ck_assert_uint_gt(checked, N / 3);
        }
    }
}
END_TEST

/* One hinted sequence of n targets with these ratios, recorded rho below prox, all weights 1. */
static double one_hinted(const struct loss_terms *terms, const double *r, size_t n, double rho, double advantage,
                         struct loss_sums *sums)
{
    memset(&d, 0, sizeof d);
    for (size_t i = 0; i < n; i++) {
        d.weight[i] = 1;
        d.advantage[i] = (float)advantage;
        d.prox[i] = -2;
        d.theta[i] = (float)(-2 + log(r[i]));
        d.behave[i] = (float)(-2 - log(rho));
    }
    struct loss_batch batch = view(&d, n);
    batch.reference = NULL;
    batch.sequences = 1;
    d.sequence[0] = (struct loss_sequence){.count = (uint32_t)batch.turns, .hinted = true};
    return run(LOSS_grpo, terms, &d, &batch, sums);
}

START_TEST(guide_is_the_published_form)
{
    struct loss_terms terms = hinted_terms(LOSS_SHAPING_constant);
    terms.entropy = terms.kl = 0;
    struct loss_sums sums;
    const double r[] = {0.05, 0.1, 1};
    /* f = r / (r + .1): 1/3, 1/2, 10/11; r f' = r .1 / (r + .1)^2: 2/9, 1/4, .0826446 */
    double f = 1.0 / 3 + 0.5 + 10.0 / 11;
    ck_assert_double_eq_tol(one_hinted(&terms, r, 3, 1, 2, &sums), -2 * f, 1e-5);
    const double slopes[] = {2.0 / 9, 0.25, 0.0826446};
    for (size_t i = 0; i < 3; i++) ck_assert_double_eq_tol((double)d.dlogp[i], -2 * slopes[i], 1e-5);
    ck_assert_double_eq(sums.hinted, 3);
    ck_assert_double_eq_tol(sums.hint_log_ratio, log(0.005), 1e-5);
    ck_assert_double_eq_tol(sums.hint_weight, 2.0 / 9 + 0.25 + 0.0826446, 1e-5);
    ck_assert_double_eq(sums.hint_gamma, 0.1);
    ck_assert_double_eq(sums.plain, 0);
    ck_assert_double_eq(sums.ratio, 0);
    /* w = min(prox / behave, 1) both ways, and none with behave_ratio, where behave is the denominator */
    ck_assert_double_eq_tol(one_hinted(&terms, r, 3, 0.5, 2, &sums), -2 * 0.5 * f, 1e-5);
    ck_assert_double_eq_tol(one_hinted(&terms, r, 3, 3, 2, &sums), -2 * f, 1e-5);
    terms.importance = LOSS_IMPORTANCE_off;
    terms.behave_ratio = true;
    const double half[] = {0.1, 0.2, 2};
    ck_assert_double_eq_tol(one_hinted(&terms, half, 3, 0.5, 2, &sums), -2 * f, 1e-5); /* theta/behave = r / 2 */
}
END_TEST

START_TEST(guide_quantiles_leave_out_what_is_certain)
{
    float numbers[] = {4, 1, 3, 2, 5};
    ck_assert_double_eq_tol(loss_guide_quantile(numbers, 5, 0.9), 4.6, 1e-6); /* as torch.quantile */
    ck_assert_double_eq(loss_guide_quantile(numbers, 5, 1), 5);
    ck_assert_double_eq(loss_guide_quantile(numbers, 5, 0), 1);
    ck_assert_double_eq(loss_guide_quantile(numbers, 1, 0.9), 1);
    struct loss_terms terms = hinted_terms(LOSS_SHAPING_quantile);
    terms.entropy = terms.kl = 0;
    struct loss_sums sums;
    const double r[] = {0.01, 0.02, 0.03, 0.04, 0.06};
    (void)one_hinted(&terms, r, 5, 1, 1, &sums);
    ck_assert_double_eq_tol(sums.hint_gamma, 0.052, 1e-6);
    float kept[5];
    memcpy(kept, d.dlogp, sizeof kept);
    terms.guide.shaping = LOSS_SHAPING_constant; /* no gradient through gamma: that of the constant */
    terms.guide.gamma = 0.052;
    (void)one_hinted(&terms, r, 5, 1, 1, &sums);
    for (size_t i = 0; i < 5; i++) ck_assert_double_eq_tol((double)kept[i], (double)d.dlogp[i], 1e-6);
    /* a newline, certain with and without: without the exclusion it would be gamma */
    terms.guide.shaping = LOSS_SHAPING_quantile;
    memset(&d, 0, sizeof d);
    const float theta[] = {-5, -6, -0.001f}, prox[] = {-0.1f, -0.2f, -0.002f};
    for (size_t i = 0; i < 3; i++) {
        d.weight[i] = 1;
        d.theta[i] = theta[i];
        d.prox[i] = d.behave[i] = prox[i];
    }
    struct loss_batch batch = view(&d, 3);
    batch.reference = NULL;
    d.sequence[0].hinted = true;
    (void)run(LOSS_grpo, &terms, &d, &batch, &sums);
    ck_assert_double_eq_tol(sums.hint_gamma, 0.1 * exp(-5.8) + 0.9 * exp(-4.9), 1e-6);
    terms.guide.certain = 1;
    (void)run(LOSS_grpo, &terms, &d, &batch, &sums);
    ck_assert_double_gt(sums.hint_gamma, 0.7);
    /* all certain: none is left out; and gamma has a floor */
    d.theta[0] = d.theta[1] = d.prox[0] = d.prox[1] = -0.001f;
    terms.guide.certain = 0.99;
    (void)run(LOSS_grpo, &terms, &d, &batch, &sums);
    ck_assert_double_eq_tol(sums.hint_gamma, 1, 0.01);
    for (size_t i = 0; i < 3; i++) d.theta[i] = -15;
    (void)run(LOSS_grpo, &terms, &d, &batch, &sums);
    ck_assert_double_eq(sums.hint_gamma, LOSS_GUIDE_GAMMA_LEAST);
}
END_TEST

START_TEST(guide_clips_and_masks)
{
    struct loss_terms terms = hinted_terms(LOSS_SHAPING_none);
    terms.entropy = terms.kl = 0;
    terms.guide.clip = 0.2;
    struct loss_sums sums;
    const double r[] = {0.5, 1.5};
    ck_assert_double_eq_tol(one_hinted(&terms, r, 2, 1, 1, &sums), -(0.5 + 1.2), 1e-5); /* PPO's: the lower of both */
    ck_assert_double_eq_tol((double)d.dlogp[0], -0.5, 1e-5);
    ck_assert_double_eq((double)d.dlogp[1], 0);
    ck_assert_double_eq(sums.clipped, 1);
    ck_assert_double_eq_tol(one_hinted(&terms, r, 2, 1, -1, &sums), 0.8 + 1.5, 1e-5);
    terms.importance = LOSS_IMPORTANCE_masked;
    ck_assert_double_eq(one_hinted(&terms, r, 2, 3, 1, &sums), 0);
    ck_assert_double_eq(sums.hinted, 0);
    /* what gspo does with a hinted sequence is the same, token by token */
    terms = hinted_terms(LOSS_SHAPING_power);
    struct loss_batch batch = hinted(5);
    for (size_t s = 0; s < batch.sequences; s++) d.sequence[s].hinted = true;
    double by_grpo = run(LOSS_grpo, &terms, &d, &batch, NULL);
    ck_assert_double_eq(run(LOSS_gspo, &terms, &d, &batch, NULL), by_grpo);
}
END_TEST

/* ---- webrl ---- */

START_TEST(webrl_gradients_are_differences)
{
    for (int form = 0; form < 4; form++) {
        struct loss_terms terms = TERMS;
        terms.importance = LOSS_IMPORTANCE_off;
        terms.regression = (struct loss_regression){.beta = 0.3, .mean = form == 1, .released = form == 2};
        struct loss_batch batch = filled(6);
        if (form == 3) terms.kl = 0;
        (void)run(LOSS_webrl, &terms, &d, &batch, NULL);
        for (size_t i = 0; i < 40; i++) {
            double l = 0, reference = 0;
            for (size_t k = i / TURN * TURN; k < i / TURN * TURN + TURN; k++) {
                l += ((double)d.theta[k] - (double)d.reference[k]) / TURN;
                reference += (double)d.reference[k] / TURN;
            }
            /* b is taken as given: differences see it where 1 / |l| holds */
            double b = reference >= log(0.8) ? 5 : 1;
            if (form == 2 && b * fabs(l) > 0.99) continue;
            check_target(LOSS_webrl, &terms, &d, &batch, i);
        }
    }
}
END_TEST

/* one turn of two targets, theta - reference .3 and .1, weight 1/2 each */
static double one_turn(const struct loss_regression *regression, double advantage, double reference)
{
    memset(&d, 0, sizeof d);
    const double away[] = {0.3, 0.1};
    for (size_t i = 0; i < 2; i++) {
        d.weight[i] = 0.5f;
        d.advantage[i] = (float)advantage;
        d.reference[i] = (float)reference;
        d.theta[i] = d.prox[i] = d.behave[i] = (float)(reference + away[i]);
    }
    struct loss_batch batch = view(&d, 2);
    const struct loss_terms terms = {.cap = 1, .regression = *regression};
    return run(LOSS_webrl, &terms, &d, &batch, NULL);
}

START_TEST(webrl_is_the_published_regression)
{
    struct loss_regression r = {.beta = 0.5};
    ck_assert_double_eq_tol(one_turn(&r, 1, -2), (0.5 * 0.4 - 1) * (0.5 * 0.4 - 1), 1e-5);
    for (size_t i = 0; i < 2; i++) ck_assert_double_eq_tol((double)d.dlogp[i], 2 * 0.5 * (0.2 - 1), 1e-5);
    r.mean = true;
    ck_assert_double_eq_tol(one_turn(&r, 1, -2), (0.1 - 1) * (0.1 - 1), 1e-5);
    for (size_t i = 0; i < 2; i++) ck_assert_double_eq_tol((double)d.dlogp[i], 2 * 0.5 * (0.1 - 1) / 2, 1e-5);
    /* released: l = .2, b = 1: SmoothL1(-.8) = .32; where the reference is sure b = 5: 5 l = 1, nothing left */
    r.released = true;
    ck_assert_double_eq_tol(one_turn(&r, 1, -2), 0.32, 1e-5);
    for (size_t i = 0; i < 2; i++) ck_assert_double_eq_tol((double)d.dlogp[i], -0.8 / 2, 1e-5);
    ck_assert_double_eq_tol(one_turn(&r, 1, -0.2), 0, 1e-5);
    ck_assert_double_eq(one_turn(&r, -0.6, -2), 0); /* masked */
    for (size_t i = 0; i < 2; i++) ck_assert_double_eq((double)d.dlogp[i], 0);
}
END_TEST

START_TEST(equal_policies_regress_only_on_the_advantage)
{
    /* theta = reference: the gradient is advantage-scaled imitation, -2 beta A */
    memset(&d, 0, sizeof d);
    for (size_t i = 0; i < N; i++) {
        d.weight[i] = 1;
        d.advantage[i] = i < N / 2 ? 1 : -1;
        d.theta[i] = d.prox[i] = d.behave[i] = d.reference[i] = -1;
    }
    struct loss_batch batch = view(&d, N);
    const struct loss_terms terms = {.cap = 1, .regression = {.beta = 0.1}};
    (void)run(LOSS_webrl, &terms, &d, &batch, NULL);
    for (size_t i = 0; i < N; i++) ck_assert_double_eq_tol((double)d.dlogp[i], (i < N / 2 ? -0.2 : 0.2) * TURN, 1e-6);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loss_methods");
    TCase *tcase = tcase_create("loss_methods");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, gspo_gradients_are_differences);
    tcase_add_test(tcase, gspo_is_the_published_objective);
    tcase_add_test(tcase, guide_gradients_are_differences);
    tcase_add_test(tcase, guide_is_the_published_form);
    tcase_add_test(tcase, guide_quantiles_leave_out_what_is_certain);
    tcase_add_test(tcase, guide_clips_and_masks);
    tcase_add_test(tcase, webrl_gradients_are_differences);
    tcase_add_test(tcase, webrl_is_the_published_regression);
    tcase_add_test(tcase, equal_policies_regress_only_on_the_advantage);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
