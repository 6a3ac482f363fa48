/* LABELS: unit
 * optim_adamw and schedule: the published update in double, the clip, decay on its ranges, refusal of what is not finite,
 * the same bits for any number of threads. */
#include "services/common/base/rng.h"
#include "trainer/model/model.h"
#include "trainer/optim_adamw.h"
#include "trainer/schedule.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define N 40001 /* three pieces, the last one short */

static const struct adamw_config CONFIG = {.beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-6f, .weight_decay = 0.1f, .clip = 3.0f};
static const struct adamw_range DECAYED[] = {{10, 5}, {16000, 20000}};

static bool decays(size_t i)
{
    return (i >= 10 && i < 15) || (i >= 16000 && i < 36000);
}

static void fill(float *x, struct rng *rng, double scale)
{
    for (size_t i = 0; i < N; i++) x[i] = (float)(scale * rng_normal(rng));
}

START_TEST(steps_are_the_published_ones)
{
    struct rng rng;
    rng_init(&rng, 4, 4);
    AUTO_PTR(adamw) adamw = NULL;
    ck_assert_int_eq(adamw_new(&adamw, &CONFIG, N, DECAYED, 2), ERR_ok);
    static float w[N], g[N];
    static double want[N], m[N], v[N];
    fill(w, &rng, 1);
    for (size_t i = 0; i < N; i++) want[i] = (double)w[i];
    for (int t = 1; t <= 5; t++) {
        fill(g, &rng, t == 3 ? 0.001 : 0.1); /* the third is under the clip */
        double norm = 0, got = 0, lr = 0.01 / t;
        for (size_t i = 0; i < N; i++) norm += (double)g[i] * (double)g[i];
        norm = sqrt(norm);
        double scale = norm > 3 ? 3 / norm : 1;
        for (size_t i = 0; i < N; i++) {
            double gi = (double)g[i] * scale;
            m[i] = 0.9 * m[i] + 0.1 * gi;
            v[i] = 0.99 * v[i] + 0.01 * gi * gi;
            want[i] -= decays(i) ? lr * 0.1 * want[i] : 0;
            want[i] -= lr * (m[i] / (1 - pow(0.9, t))) / (sqrt(v[i] / (1 - pow(0.99, t))) + 1e-6);
        }
        ck_assert_int_eq(adamw_step(adamw, (float)lr, w, g, NULL, &got), ERR_ok);
        ck_assert_double_eq_tol(got, norm, 1e-9 * norm);
        for (size_t i = 0; i < N; i++) ck_assert_double_eq_tol((double)w[i], want[i], 1e-5);
    }
    ck_assert_uint_eq(adamw->step, 5);
    adamw_reset(adamw);
    ck_assert_uint_eq(adamw->step, 0);
    ck_assert(adamw->m[7] >= 0 && adamw->m[7] <= 0);
}
END_TEST

START_TEST(a_gradient_that_is_not_finite_changes_nothing)
{
    struct rng rng;
    rng_init(&rng, 5, 4);
    AUTO_PTR(adamw) adamw = NULL;
    ck_assert_int_eq(adamw_new(&adamw, &CONFIG, N, NULL, 0), ERR_ok);
    static float w[N], g[N], was[N], m[N];
    double norm = 0;
    fill(w, &rng, 1);
    fill(g, &rng, 1);
    ck_assert_int_eq(adamw_step(adamw, 0.1f, w, g, NULL, &norm), ERR_ok);
    memcpy(was, w, sizeof w);
    memcpy(m, adamw->m, sizeof m);
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        g[N - 1 - i * 17000] = bad[i];
        ck_assert_int_eq(adamw_step(adamw, 0.1f, w, g, NULL, &norm), ERR_numeric);
        g[N - 1 - i * 17000] = 0;
    }
    ck_assert_int_eq(adamw_step(adamw, NAN, w, g, NULL, &norm), ERR_numeric);
    ck_assert_mem_eq(was, w, sizeof w);
    ck_assert_mem_eq(m, adamw->m, sizeof m);
    ck_assert_uint_eq(adamw->step, 1);
}
END_TEST

START_TEST(threads_do_not_change_the_bits)
{
    static float w[2][N], g[N];
    double norm[2];
    for (size_t threads = 1; threads <= 2; threads++) {
        struct rng rng;
        rng_init(&rng, 6, 4);
        AUTO_PTR(adamw) adamw = NULL;
        AUTO_PTR(pool) pool = NULL;
        ck_assert_int_eq(pool_new(&pool, threads), ERR_ok);
        ck_assert_int_eq(adamw_new(&adamw, &CONFIG, N, DECAYED, 2), ERR_ok);
        fill(w[threads - 1], &rng, 1);
        for (int t = 0; t < 3; t++) {
            fill(g, &rng, 1);
            ck_assert_int_eq(adamw_step(adamw, 0.01f, w[threads - 1], g, pool, &norm[threads - 1]), ERR_ok);
        }
    }
    ck_assert_mem_eq(w[0], w[1], sizeof w[0]);
    ck_assert_mem_eq(&norm[0], &norm[1], sizeof norm[0]);
}
END_TEST

START_TEST(wrong_settings_are_refused)
{
    struct adamw *none = NULL;
    struct adamw_config bad = CONFIG;
    bad.beta1 = 1;
    ck_assert_int_eq(adamw_new(&none, &bad, N, NULL, 0), ERR_invalid);
    bad = CONFIG;
    bad.weight_decay = NAN;
    ck_assert_int_eq(adamw_new(&none, &bad, N, NULL, 0), ERR_invalid);
    bad = CONFIG;
    bad.eps = 0;
    ck_assert_int_eq(adamw_new(&none, &bad, N, NULL, 0), ERR_invalid);
    ck_assert_int_eq(adamw_new(&none, &CONFIG, 30000, DECAYED, 2), ERR_invalid);
    ck_assert_int_eq(adamw_new(&none, &CONFIG, 0, NULL, 0), ERR_invalid);
    ck_assert_ptr_null(none);
}
END_TEST

START_TEST(matrices_decay_and_norms_do_not)
{
    struct model_config c;
    ck_assert_int_eq(model_preset("tiny-0.1m", 279, &c), ERR_ok);
    AUTO_PTR(model) model = NULL;
    AUTO_PTR(adamw) adamw = NULL;
    ck_assert_int_eq(model_new(&model, &c), ERR_ok);
    ck_assert_int_eq(adamw_new_model(&adamw, &CONFIG, &c), ERR_ok);
    model_init(model, 1);
    size_t last = model->count - 1, matrix = 288 * 64 + 64;
    float *zero = calloc(model->count, sizeof *zero), was = model->weights[matrix];
    double norm = 1;
    ck_assert_int_eq(adamw_step(adamw, 0.5f, model->weights, zero, NULL, &norm), ERR_ok);
    ck_assert_double_eq_tol((double)model->weights[matrix], 0.95 * (double)was, 1e-7);
    ck_assert_double_eq((double)model->weights[last], 1.0);         /* final norm */
    ck_assert_double_eq((double)model->weights[288 * 64 + 3], 1.0); /* first layer's norm */
    ck_assert(norm >= 0 && norm <= 0);
    free(zero);
}
END_TEST

START_TEST(schedules_rise_and_fall)
{
    struct schedule s = {SCHEDULE_linear, 2.0, 4, 104};
    ck_assert_double_eq_tol(schedule_rate(&s, 0), 0.5, 1e-12);
    ck_assert_double_eq_tol(schedule_rate(&s, 3), 2.0, 1e-12);
    ck_assert_double_eq_tol(schedule_rate(&s, 4), 2.0, 1e-12);
    ck_assert_double_eq_tol(schedule_rate(&s, 103), 0.2, 1e-12);
    ck_assert_double_eq_tol(schedule_rate(&s, 500), 0.2, 1e-12);
    for (uint64_t u = 5; u < 104; u++) ck_assert_double_lt(schedule_rate(&s, u), schedule_rate(&s, u - 1));
    s = (struct schedule){SCHEDULE_constant, 2.0, 0, 0};
    ck_assert_double_eq_tol(schedule_rate(&s, 0), 2.0, 1e-12);
    enum schedule_kind kind;
    ck_assert_int_eq(schedule_kind_of("linear", &kind), ERR_ok);
    ck_assert_int_eq(kind, SCHEDULE_linear);
    ck_assert_int_eq(schedule_kind_of("cosine", &kind), ERR_invalid);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("optim");
    TCase *tcase = tcase_create("optim");
    tcase_add_test(tcase, steps_are_the_published_ones);
    tcase_add_test(tcase, a_gradient_that_is_not_finite_changes_nothing);
    tcase_add_test(tcase, threads_do_not_change_the_bits);
    tcase_add_test(tcase, wrong_settings_are_refused);
    tcase_add_test(tcase, matrices_decay_and_norms_do_not);
    tcase_add_test(tcase, schedules_rise_and_fall);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
