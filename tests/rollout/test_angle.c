/* LABELS: unit
 * angle: hand-computed values, the definition's double sum on random states, and the empty cases. */
#include "rollout/angle.h"
#include "services/common/base/rng.h"

#include <check.h>
#include <math.h>

#define COUNT 17
#define WIDTH 5

/* the template (2, 0), the task (0, 3) and (1, 1): C_intra = (1 + 1 + 2 cos 45) / 4, C_inter = (0 + cos 45) / 2 */
START_TEST(hand_computed_values)
{
    const float hidden[3][2] = {{2, 0}, {0, 3}, {1, 1}};
    double scratch[4];
    struct angle angle = angle_measure(hidden[0], 3, 2, 1, scratch);
    ck_assert_double_eq_tol(angle.intra, (2 + sqrt(2)) / 4, 1e-12);
    ck_assert_double_eq_tol(angle.inter, sqrt(0.5) / 2, 1e-12);
}
END_TEST

static double cosine(const float *a, const float *b)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t d = 0; d < WIDTH; d++) {
        ab += (double)a[d] * (double)b[d];
        aa += (double)a[d] * (double)a[d];
        bb += (double)b[d] * (double)b[d];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

START_TEST(the_sums_are_the_definition)
{
    float hidden[COUNT][WIDTH];
    double scratch[2 * WIDTH];
    struct rng rng;
    rng_init(&rng, 4, 0);
    for (size_t template = 0; template <COUNT; template ++) {
        size_t task = COUNT - template;
        double intra = 0, inter = 0;
        for (size_t i = 0; i < COUNT; i++) {
            for (size_t d = 0; d < WIDTH; d++) hidden[i][d] = i == 9 ? 0 : (float)(rng_unit(&rng) - 0.3);
        }
        for (size_t i = template; i < COUNT; i++) {
            for (size_t j = 0; j < COUNT; j++) *(j < template ? &inter : &intra) += cosine(hidden[i], hidden[j]);
        }
        struct angle angle = angle_measure(hidden[0], COUNT, WIDTH, template, scratch);
        ck_assert_double_eq_tol(angle.intra, intra / (double)(task * task), 1e-12);
        ck_assert_double_eq_tol(angle.inter, template ? inter / (double)(task * template) : 0, 1e-12);
        ck_assert(angle.intra >= 0 && angle.intra <= 1 + 1e-12 && fabs(angle.inter) <= 1 + 1e-12);
    }
}
END_TEST

START_TEST(nothing_is_divided_by_zero)
{
    const float hidden[2][2] = {{0, 0}, {0, 0}};
    double scratch[4];
    const size_t cases[][2] = {{0, 0}, {2, 2}, {2, 5}, {2, 0}, {1, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct angle angle = angle_measure(hidden[0], cases[i][0], 2, cases[i][1], scratch);
        ck_assert(angle.intra == 0 && angle.inter == 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("angle");
    TCase *tcase = tcase_create("angle");
    tcase_add_test(tcase, hand_computed_values);
    tcase_add_test(tcase, the_sums_are_the_definition);
    tcase_add_test(tcase, nothing_is_divided_by_zero);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
