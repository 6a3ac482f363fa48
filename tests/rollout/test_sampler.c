/* LABELS: unit
 * sampler: frequencies follow the tempered softmax, log-prob and entropy are those of the full vocabulary, seeds repeat. */
#include "rollout/sampler.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#define VOCAB 12

static const float logits[VOCAB] = {0.3f, -1.2f, 2.0f, 0.0f, 0.7f, -0.4f, 1.1f, -2.5f, 0.2f, 0.9f, -0.8f, 1.6f};

static double probability(size_t i, double temperature)
{
    double sum = 0;
    for (size_t k = 0; k < VOCAB; k++) sum += exp((double)logits[k] / temperature);
    return exp((double)logits[i] / temperature) / sum;
}

static struct sampled draw(float temperature, struct rng *rng)
{
    float scratch[VOCAB];
    struct sampled drawn;
    ck_assert_int_eq(sampler_draw(logits, VOCAB, temperature, rng, scratch, &drawn), ERR_ok);
    return drawn;
}

/* chi-square with 11 degrees of freedom: 31.3 is exceeded once in a thousand; the seed is fixed */
START_TEST(frequencies_follow_the_softmax)
{
    static const float temperatures[] = {0.5f, 1.0f, 2.0f};
    for (size_t t = 0; t < 3; t++) {
        enum { DRAWS = 100000 };
        size_t seen[VOCAB] = {0};
        struct rng rng;
        double chi = 0;
        rng_init(&rng, 7, t);
        for (int i = 0; i < DRAWS; i++) seen[draw(temperatures[t], &rng).token]++;
        for (size_t i = 0; i < VOCAB; i++) {
            double expected = DRAWS * probability(i, (double)temperatures[t]);
            chi += ((double)seen[i] - expected) * ((double)seen[i] - expected) / expected;
        }
        ck_assert_msg(chi < 31.3, "temperature %g: chi-square %g", (double)temperatures[t], chi);
    }
}
END_TEST

START_TEST(figures_are_of_the_whole_distribution)
{
    struct rng rng;
    rng_init(&rng, 3, 0);
    for (int i = 0; i < 200; i++) {
        float temperature = 0.3f + 0.02f * (float)i;
        struct sampled drawn = draw(temperature, &rng);
        double entropy = 0;
        for (size_t k = 0; k < VOCAB; k++) {
            double p = probability(k, (double)temperature);
            entropy -= p * log(p);
        }
        ck_assert_double_eq_tol((double)drawn.logp, log(probability((size_t)drawn.token, (double)temperature)), 1e-5);
        ck_assert_double_eq_tol((double)drawn.entropy, entropy, 1e-5);
    }
}
END_TEST

START_TEST(a_seed_repeats)
{
    struct rng a, b;
    rng_init(&a, 5, 1);
    rng_init(&b, 5, 1);
    for (int i = 0; i < 100; i++) ck_assert_int_eq(draw(1, &a).token, draw(1, &b).token);
}
END_TEST

START_TEST(what_is_not_finite_is_refused)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        float broken[VOCAB] = {0}, scratch[VOCAB];
        struct sampled drawn;
        struct rng rng;
        rng_init(&rng, 1, 1);
        broken[VOCAB - 1] = bad[i];
        ck_assert_int_eq(sampler_draw(broken, VOCAB, 1, &rng, scratch, &drawn), ERR_numeric);
    }
}
END_TEST

/* a certain token: probability 1, entropy 0, never below or above */
START_TEST(certainty_is_exact)
{
    float sure[VOCAB] = {0}, scratch[VOCAB];
    struct sampled drawn;
    struct rng rng;
    rng_init(&rng, 1, 1);
    sure[4] = 500;
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(sampler_draw(sure, VOCAB, 1, &rng, scratch, &drawn), ERR_ok);
        ck_assert_int_eq(drawn.token, 4);
        ck_assert(drawn.logp <= 0 && drawn.logp > -1e-6f && drawn.entropy >= 0 && drawn.entropy < 1e-6f);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sampler");
    TCase *tcase = tcase_create("sampler");
    tcase_add_test(tcase, frequencies_follow_the_softmax);
    tcase_add_test(tcase, figures_are_of_the_whole_distribution);
    tcase_add_test(tcase, a_seed_repeats);
    tcase_add_test(tcase, what_is_not_finite_is_refused);
    tcase_add_test(tcase, certainty_is_exact);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
