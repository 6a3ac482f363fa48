/* LABELS: unit
 * the value head: values and FAU by hand, gradients against finite differences in double; advantages over turns by hand. */
#include "services/common/base/rng.h"
#include "trainer/returns.h"
#include "trainer/value.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define D     5
#define U     7
#define N     6
#define COUNT (D * U + 2 * U + 1)
#define SEED  19

START_TEST(gae_by_hand)
{
    const float V[] = {0.5f, 0.25f, 0.75f};
    float A[3], target[3];
    returns_gae(V, 3, 1, 0.9, 0.8, A, target);
    /* delta: .9 .25 - .5, .9 .75 - .25, 1 - .75; A from the end: .25, .425 + .72 .25, -.275 + .72 .605 */
    ck_assert_double_eq_tol((double)A[2], 0.25, 1e-6);
    ck_assert_double_eq_tol((double)A[1], 0.605, 1e-6);
    ck_assert_double_eq_tol((double)A[0], 0.1606, 1e-6);
    ck_assert_double_eq_tol((double)target[0], 0.6606, 1e-6);
    ck_assert_double_eq_tol((double)target[2], 1, 1e-6);
    /* lambda 1, discount 1: the outcome less V; lambda 0: one step */
    returns_gae(V, 3, 0, 1, 1, A, target);
    for (size_t t = 0; t < 3; t++) ck_assert_double_eq_tol((double)A[t], -(double)V[t], 1e-6);
    returns_gae(V, 3, 0, 1, 0, A, target);
    ck_assert_double_eq_tol((double)A[0], -0.25, 1e-6);
    ck_assert_double_eq_tol((double)A[1], 0.5, 1e-6);
    const float high[] = {0.1f, 0.9f};
    returns_gae(high, 2, 1, 1, 1, A, target);
    ck_assert(target[0] <= 1 && target[1] <= 1);
    returns_gae(V, 0, 1, 1, 1, A, target); /* no turn */
}
END_TEST

START_TEST(webrl_advantages_by_hand)
{
    const float V[] = {0.5f, 0.25f, 0.75f};
    float A[3];
    returns_webrl(V, 3, 1, 0.5, A);
    ck_assert_double_eq_tol((double)A[0], 0.5 * (0.25 - 0.5) + 0.5 * (1 - 0.5), 1e-6);
    ck_assert_double_eq_tol((double)A[1], 0.5 * (0.75 - 0.25) + 0.5 * (1 - 0.25), 1e-6);
    ck_assert_double_eq_tol((double)A[2], 0.5 * (1 - 0.75) + 0.5 * (1 - 0.75), 1e-6);
    returns_webrl(V, 3, 0, 0.5, A);
    ck_assert_double_eq_tol((double)A[2], -0.75, 1e-6);
    /* released: a success is positive everywhere, a failure where V rises by at least 0.05 */
    returns_webrl_released(V, 3, 1, A);
    for (size_t t = 0; t < 3; t++) ck_assert_double_eq((double)A[t], 1);
    returns_webrl_released(V, 3, 0, A);
    ck_assert_double_eq_tol((double)A[0], -0.6, 1e-6);
    ck_assert_double_eq((double)A[1], 1); /* .25 -> .75 */
    ck_assert_double_eq_tol((double)A[2], -0.6, 1e-6);
    const float rises[] = {0.5f, 0.54f};
    returns_webrl_released(rises, 2, 0, A);
    ck_assert_double_eq_tol((double)A[0], -0.6, 1e-6); /* by less than 0.05 */
}
END_TEST

START_TEST(a_value_by_hand)
{
    /* two units on two numbers: a = ReLU(h W + b) = ReLU(1 - 2 + .5, 3 + 4 - 1) = (0, 6), z = 6 * .25 + .1 */
    const float weights[] = {1, 3, -1, 2, 0.5f, -1, 9, 0.25f, 0.1f}, hidden[] = {1, 2};
    struct value_head *head = NULL;
    float active[2], value = 0;
    ck_assert_int_eq(value_head_wrap(&head, 2, 2, weights, 9), ERR_ok);
    value_head_forward(head, hidden, 1, active, &value);
    ck_assert_double_eq((double)active[0], 0);
    ck_assert_double_eq((double)active[1], 6);
    ck_assert_double_eq_tol((double)value, 1 / (1 + exp(-1.6)), 1e-6);
    value_head_free(&head);
    ck_assert_ptr_null(head);
    ck_assert_int_eq(value_head_wrap(&head, 2, 3, weights, 9), ERR_invalid);
    ck_assert_int_eq(value_head_new(&head, 2, 0), ERR_invalid);
    ck_assert_int_eq(value_head_new(&head, 2, VALUE_HEAD_UNITS_MOST + 1), ERR_invalid);
}
END_TEST

/* the head's loss, plainly in double */
static double loss_of(const double *weights, const double *hidden, const struct value_state *states)
{
    double loss = 0;
    const double *bias = weights + D * U, *output = bias + U;
    for (size_t s = 0; s < N; s++) {
        double z = output[U];
        for (size_t u = 0; u < U; u++) {
            double a = bias[u];
            for (size_t d = 0; d < D; d++) a += hidden[states[s].target * D + d] * weights[d * U + u];
            z += (a > 0 ? a : 0) * output[u];
        }
        double V = 1 / (1 + exp(-z)), y = (double)states[s].outcome;
        loss -= (double)states[s].weight * (y * log(V) + (1 - y) * log(1 - V));
    }
    return loss;
}

START_TEST(gradients_are_differences)
{
    struct rng rng;
    rng_init(&rng, SEED, 0);
    const struct adamw_config adamw = ADAMW_DEFAULTS;
    const struct value_config config = {.units = U, .lr = 1e-3, .coefficient = 0.7};
    struct value *v = NULL;
    ck_assert_int_eq(value_new(&v, &config, &adamw, D, 2, 8, SEED), ERR_ok);
    ck_assert_uint_eq(v->head->count, COUNT);
    for (size_t i = 0; i < COUNT; i++) v->head->weights[i] = (float)(0.7 * rng_normal(&rng));
    double weights[COUNT], hidden[8 * D];
    for (size_t i = 0; i < 8 * D; i++) {
        v->work[1].hidden[i] = (float)rng_normal(&rng);
        hidden[i] = (double)v->work[1].hidden[i];
    }
    for (size_t i = 0; i < COUNT; i++) weights[i] = (double)v->head->weights[i];
    struct value_state states[N];
    for (size_t s = 0; s < N; s++)
        states[s] = (struct value_state){
            .target = (uint32_t)(s + (s > 2 ? 2 : 0)), .outcome = s % 2 ? 1 : 0.3f, .weight = (float)(0.1 + rng_unit(&rng))};
    struct value_sums sums = {0};
    value_zero(v);
    value_forward(v, 1, states, N, &sums);
    const float *dhidden = value_backward(v, 1, states, N, 8);
    for (size_t i = 0; i < COUNT; i++) {
        double kept = weights[i], h = 1e-6;
        weights[i] = kept + h;
        double above = loss_of(weights, hidden, states);
        weights[i] = kept - h;
        double below = loss_of(weights, hidden, states);
        weights[i] = kept;
        ck_assert_msg(fabs((above - below) / (2 * h) - (double)v->work[1].gradient[i]) < 1e-4, "weight %zu (seed %d)", i,
                      SEED);
    }
    for (size_t i = 0; i < 8 * D; i++) {
        double kept = hidden[i], h = 1e-6;
        hidden[i] = kept + h;
        double above = loss_of(weights, hidden, states);
        hidden[i] = kept - h;
        double below = loss_of(weights, hidden, states);
        hidden[i] = kept;
        ck_assert_msg(fabs(0.7 * (above - below) / (2 * h) - (double)dhidden[i]) < 1e-4, "hidden %zu (seed %d)", i, SEED);
    }
    ck_assert_double_eq(sums.states, N);
    ck_assert_double_eq(sums.units, N * U);
    value_free(&v);
}
END_TEST

START_TEST(workers_add_up_and_steps_descend)
{
    const struct adamw_config adamw = ADAMW_DEFAULTS;
    const struct value_config config = {.units = U, .lr = 1e-2};
    struct value *v = NULL;
    ck_assert_int_eq(value_new(&v, &config, &adamw, D, 2, 4, 1), ERR_ok);
    struct rng rng;
    rng_init(&rng, SEED, 1);
    for (size_t i = 0; i < 4 * D; i++) v->work[0].hidden[i] = v->work[1].hidden[i] = (float)rng_normal(&rng);
    struct value_state states[] = {{.target = 0, .outcome = 1, .weight = 0.5f}, {.target = 3, .outcome = 0, .weight = 0.5f}};
    double first = 0, last = 0;
    for (int i = 0; i < 200; i++) {
        struct value_sums sums = {0};
        value_zero(v);
        for (size_t w = 0; w < 2; w++) { /* one state each: the same as both on one */
            value_forward(v, w, &states[w], 1, &sums);
            ck_assert_ptr_null(value_backward(v, w, &states[w], 1, 4)); /* detached */
        }
        ck_assert_int_eq(value_step(v), ERR_ok);
        last = sums.loss / 2;
        if (i == 0) first = last;
    }
    ck_assert_double_eq_tol(first, log(2), 0.2);
    ck_assert_double_lt(last, 0.1);
    value_keep(v);
    float kept = v->head->weights[3];
    v->head->weights[3] = v->adamw->m[3] = 7;
    value_restore(v);
    ck_assert(v->head->weights[3] == kept && v->adamw->m[3] != 7);
    v->work[0].gradient[0] = NAN;
    ck_assert_int_eq(value_step(v), ERR_numeric);
    value_free(&v);
}
END_TEST

START_TEST(explained_variance_by_hand)
{
    /* outcomes 0 0 1 1, V all 1/2: nothing; V = outcome: all; no variance: not measured */
    struct value_sums s = {.states = 4, .outcome = 2, .outcome_square = 2, .error = 0, .error_square = 1};
    ck_assert_double_eq(value_explained_variance(&s), 0);
    s.error_square = 0;
    ck_assert_double_eq(value_explained_variance(&s), 1);
    s = (struct value_sums){.states = 4, .outcome = 4, .outcome_square = 4, .error = 1, .error_square = 1};
    ck_assert(isnan(value_explained_variance(&s)));
    s = (struct value_sums){0};
    ck_assert(isnan(value_explained_variance(&s)));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("value");
    TCase *tcase = tcase_create("value");
    tcase_add_test(tcase, gae_by_hand);
    tcase_add_test(tcase, webrl_advantages_by_hand);
    tcase_add_test(tcase, a_value_by_hand);
    tcase_add_test(tcase, gradients_are_differences);
    tcase_add_test(tcase, workers_add_up_and_steps_descend);
    tcase_add_test(tcase, explained_variance_by_hand);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
