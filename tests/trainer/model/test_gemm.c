/* LABELS: unit
 * The products in every storage order, plain and prepacked, with edges in all dimensions; the exponential's accuracy. */
#include "tests/trainer/model/each_build.h"

static void exp_once(void)
{
    enum { N = 200001 };
    float *x = floats(N), *y = floats(N);
    for (size_t i = 0; i < N; i++) x[i] = -86.9f + 175.6f * (float)i / (float)(N - 1);
    k->exp_all(y, x, N);
    for (size_t i = 0; i < N; i++) {
        double want = exp((double)x[i]);
        if (!(fabs((double)y[i] - want) <= 2e-7 * want))
            ck_abort_msg("%s: exp(%.9g) = %.9g", k->name, (double)x[i], (double)y[i]);
    }
    const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, 89.0f, -104.0f, 0.0f, -0.0f, 3e38f, -3e38f};
    k->exp_all(y, odd, 10);
    ck_assert(isnan(y[0]) && isnan(y[1]) && isinf(y[2]) && y[2] > 0 && isinf(y[4]) && isinf(y[8]));
    ck_assert(y[3] <= 0 && y[3] >= 0 && y[5] <= 0 && y[9] <= 0);
    ck_assert_double_eq((double)y[6], 1.0);
    ck_assert_double_eq((double)y[7], 1.0);
    free(x);
    free(y);
}

START_TEST(exp_is_accurate_and_keeps_nan)
{
    each_build(exp_once);
}
END_TEST

static double element(const float *x, size_t ld, bool transposed, size_t row, size_t col)
{
    return (double)(transposed ? x[col * ld + row] : x[row * ld + col]);
}

static void gemm_shape(enum gemm_op op, size_t M, size_t N, size_t K, bool add)
{
    bool at = op == GEMM_tn, bt = op == GEMM_nt;
    size_t lda = (at ? M : K) + 3, ldb = (bt ? K : N) + 1, ldc = N + 2;
    float *a = floats((at ? K : M) * lda), *b = floats((bt ? N : K) * ldb), *c = floats(M * ldc), *was = floats(M * ldc);
    float *pack = floats(GEMM_PACK_FLOATS);
    fill(a, (at ? K : M) * lda, 1);
    fill(b, (bt ? N : K) * ldb, 1);
    fill(c, M * ldc, 1);
    memcpy(was, c, M * ldc * sizeof *c);
    const struct gemm g = {op, M, N, K, a, lda, b, ldb, c, ldc, add ? c : NULL};
    k->gemm(&g, pack);
    for (size_t i = 0; i < M; i++) {
        for (size_t j = 0; j < ldc; j++) {
            double want = (double)was[i * ldc + j];
            if (j < N) {
                if (!add) want = 0;
                for (size_t d = 0; d < K; d++) want += element(a, lda, at, i, d) * element(b, ldb, bt, d, j);
            }
            assert_near("gemm", (double)c[i * ldc + j], want, 5e-5);
        }
    }
    free(a);
    free(b);
    free(c);
    free(was);
    free(pack);
}

static void gemm_once(void)
{
    const size_t shapes[][3] = {{1, 1, 1},     {1, 70, 33},  {7, 5, 9},    {13, 65, 300},
                                {250, 33, 20}, {9, 530, 40}, {8, 32, 512}, {130, 340, 400}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int op = 0; op < 3; op++) {
            gemm_shape((enum gemm_op)op, shapes[i][0], shapes[i][1], shapes[i][2], false);
            gemm_shape((enum gemm_op)op, shapes[i][0], shapes[i][1], shapes[i][2], true);
        }
    }
}

START_TEST(gemm_multiplies)
{
    each_build(gemm_once);
}
END_TEST

static void prepacked_once(void)
{
    enum { M = 11, N = 600, K = 300 };
    float *a = floats(M * K), *b = floats(N * K), *c = floats(M * N), *d = floats(M * N);
    float *pack = floats(GEMM_PACK_FLOATS), *packed = floats(gemm_packed_floats(N, K));
    fill(a, M * K, 1);
    fill(b, N * K, 1);
    struct gemm g = {GEMM_nt, M, N, K, a, K, b, K, c, N, NULL};
    k->gemm(&g, pack);
    k->gemm_pack(packed, b, N, K);
    g.c = d;
    g.b = NULL;
    k->gemm_prepacked(&g, packed, 0, N);
    ck_assert_mem_eq(c, d, M * N * sizeof *c);
    const size_t ranges[][2] = {{0, 32}, {32, 300}, {320, 280}, {288, 64}, {576, 24}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        k->gemm_prepacked(&g, packed, ranges[i][0], ranges[i][1]);
        for (size_t r = 0; r < M; r++) ck_assert_mem_eq(c + r * N + ranges[i][0], d + r * N, ranges[i][1] * sizeof *c);
    }
    free(a);
    free(b);
    free(c);
    free(d);
    free(pack);
    free(packed);
}

START_TEST(gemm_prepacked_is_the_same)
{
    each_build(prepacked_once);
}
END_TEST

/* what a row is multiplied together with changes no bit of it */
static void rows_once(void)
{
    enum { M = 19, N = 200, K = 500 };
    float *a = floats(M * K), *b = floats(N * K), *all = floats(M * N), *some = floats(M * N);
    float *packed = floats(gemm_packed_floats(N, K));
    fill(a, M * K, 1);
    fill(b, N * K, 1);
    k->gemm_pack(packed, b, N, K);
    struct gemm g = {GEMM_nt, M, N, K, a, K, NULL, K, all, N, NULL};
    k->gemm_prepacked(&g, packed, 0, N);
    g.c = some;
    for (g.M = 1; g.M <= M / 2; g.M++) {
        for (size_t from = 0; from + g.M <= M; from += g.M) {
            g.a = a + from * K;
            k->gemm_prepacked(&g, packed, 0, N);
            if (memcmp(some, all + from * N, g.M * N * sizeof *all) != 0) ck_abort_msg("%s: %zu rows differ", k->name, g.M);
        }
    }
    free(a);
    free(b);
    free(all);
    free(some);
    free(packed);
}

START_TEST(gemm_rows_do_not_depend_on_each_other)
{
    each_build(rows_once);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gemm");
    TCase *tcase = tcase_create("gemm");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, exp_is_accurate_and_keeps_nan);
    tcase_add_test(tcase, gemm_multiplies);
    tcase_add_test(tcase, gemm_prepacked_is_the_same);
    tcase_add_test(tcase, gemm_rows_do_not_depend_on_each_other);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
