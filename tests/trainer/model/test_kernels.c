/* LABELS: unit
 * Every layer, for every instruction set this machine has: forward against formulas in double, backward against central
 * finite differences of those formulas in double. Sizes are odd on purpose: every loop has its tail. */
#include "tests/trainer/model/each_build.h"
#include "trainer/model/half.h"

#include <stdio.h>

#define STEP 1e-5

/* compares grad [n] with the central difference of loss(ctx) over x [n] */
static void assert_gradient(const char *what, const float *grad, double *x, size_t n, double (*loss)(void *), void *ctx)
{
    for (size_t i = 0; i < n; i++) {
        double keep = x[i];
        x[i] = keep + STEP;
        double up = loss(ctx);
        x[i] = keep - STEP;
        double down = loss(ctx);
        x[i] = keep;
        char name[64];
        (void)snprintf(name, sizeof name, "%s[%zu]", what, i);
        assert_near(name, (double)grad[i], (up - down) / (2 * STEP), 2e-5);
    }
}

struct norm_case {
    size_t T, D;
    double *x, *w, *dy, *y;
};

static double norm_loss(void *ctx)
{
    struct norm_case *n = ctx;
    double loss = 0;
    for (size_t t = 0; t < n->T; t++) {
        ref_norm(n->y, n->x + t * n->D, n->w, n->D, 1e-5);
        for (size_t i = 0; i < n->D; i++) loss += n->y[i] * n->dy[t * n->D + i];
    }
    return loss;
}

static void rmsnorm_once(void)
{
    enum { T = 3, D = 37 };
    float x[T * D], w[D], dy[T * D], y[T * D], rstd[T], dx[T * D], dw[D];
    fill(x, T * D, 1);
    fill(w, D, 1);
    fill(dy, T * D, 1);
    k->rmsnorm_forward(y, rstd, x, w, T, D, 1e-5f);
    struct norm_case n = {T, D, widened(x, T * D), widened(w, D), widened(dy, T * D), doubles(D)};
    double loss = 0;
    for (size_t i = 0; i < T * D; i++) loss += (double)y[i] * (double)dy[i];
    assert_near("rmsnorm", loss, norm_loss(&n), 1e-5);
    memset(dw, 0, sizeof dw);
    memset(dx, 0, sizeof dx);
    k->rmsnorm_backward(dx, dw, dy, x, rstd, w, T, D);
    assert_gradient("rmsnorm dx", dx, n.x, T * D, norm_loss, &n);
    assert_gradient("rmsnorm dw", dw, n.w, D, norm_loss, &n);
    float twice = dx[0] * 2;
    k->rmsnorm_backward(dx, dw, dy, x, rstd, w, T, D);
    assert_near("rmsnorm adds", (double)dx[0], (double)twice, 1e-6);
    free(n.x);
    free(n.w);
    free(n.dy);
    free(n.y);
}

START_TEST(rmsnorm_has_its_gradient)
{
    each_build(rmsnorm_once);
}
END_TEST

struct swiglu_case {
    size_t T, F;
    double *gu, *dy;
};

static double swiglu_loss(void *ctx)
{
    struct swiglu_case *s = ctx;
    double loss = 0;
    for (size_t t = 0; t < s->T; t++) {
        const double *g = s->gu + t * 2 * s->F, *u = g + s->F;
        for (size_t i = 0; i < s->F; i++) loss += g[i] / (1 + exp(-g[i])) * u[i] * s->dy[t * s->F + i];
    }
    return loss;
}

static void swiglu_once(void)
{
    enum { T = 2, F = 43 };
    float gu[T * 2 * F], dy[T * F], y[T * F], dgu[T * 2 * F];
    fill(gu, T * 2 * F, 2);
    fill(dy, T * F, 1);
    k->swiglu_forward(y, gu, T, F);
    struct swiglu_case s = {T, F, widened(gu, T * 2 * F), widened(dy, T * F)};
    double loss = 0;
    for (size_t i = 0; i < T * F; i++) loss += (double)y[i] * (double)dy[i];
    assert_near("swiglu", loss, swiglu_loss(&s), 1e-5);
    float again[T * F];
    k->swiglu_backward(dgu, again, dy, gu, T, F);
    ck_assert_mem_eq(again, y, sizeof again);
    assert_gradient("swiglu dgu", dgu, s.gu, T * 2 * F, swiglu_loss, &s);
    gu[1] = NAN;
    k->swiglu_forward(y, gu, T, F);
    ck_assert(isnan(y[1]));
    free(s.gu);
    free(s.dy);
}

START_TEST(swiglu_has_its_gradient)
{
    each_build(swiglu_once);
}
END_TEST

static void rope_once(void)
{
    enum { T = 4, HEADS = 3, E = 34, STRIDE = HEADS * E + 5 };
    float x[T * STRIDE], was[T * STRIDE], table[8 * E];
    const int32_t position[T] = {0, 1, 7, 3};
    fill(x, T * STRIDE, 1);
    memcpy(was, x, sizeof x);
    for (size_t p = 0; p < 8; p++) {
        for (size_t i = 0; i < E / 2; i++) {
            double angle = (double)p * pow(100.0, -2.0 * (double)i / E);
            table[p * E + i] = (float)cos(angle);
            table[p * E + E / 2 + i] = (float)sin(angle);
        }
    }
    k->rope(x, STRIDE, T, HEADS, E, position, table, 1);
    for (size_t t = 0; t < T; t++) {
        double *want = widened(was + t * STRIDE, STRIDE);
        for (size_t h = 0; h < HEADS; h++) ref_rope(want + h * E, E, (size_t)position[t], 100);
        for (size_t i = 0; i < STRIDE; i++) assert_near("rope", (double)x[t * STRIDE + i], want[i], 1e-6);
        free(want);
    }
    /* a rotation's gradient is the inverse rotation */
    k->rope(x, STRIDE, T, HEADS, E, position, table, -1);
    for (size_t i = 0; i < T * STRIDE; i++) assert_near("rope back", (double)x[i], (double)was[i], 1e-6);
}

START_TEST(rope_rotates_and_back)
{
    each_build(rope_once);
}
END_TEST

struct attention_case {
    size_t H, K, E, sequences;
    const uint32_t *start;
    double *qkv, *dout, *out;
};

static double attention_loss(void *ctx)
{
    struct attention_case *a = ctx;
    size_t A = a->H * a->E, S = A + 2 * a->K * a->E;
    double loss = 0;
    for (size_t s = 0; s < a->sequences; s++) {
        for (size_t t = a->start[s]; t < a->start[s + 1]; t++) {
            for (size_t h = 0; h < a->H; h++) {
                const double *key = a->qkv + a->start[s] * S + A + h / (a->H / a->K) * a->E;
                double *out = a->out + t * A + h * a->E;
                ref_attend(out, a->qkv + t * S + h * a->E, key, key + a->K * a->E, t - a->start[s] + 1, S, a->E);
                for (size_t i = 0; i < a->E; i++) loss += out[i] * a->dout[t * A + h * a->E + i];
            }
        }
    }
    return loss;
}

static void attention_once(void)
{
    enum { H = 6, K = 2, E = 6, T = 45, A = H * E, S = (H + 2 * K) * E };
    const uint32_t start[] = {0, 1, 38, T};
    float *qkv = floats(T * S), *dqkv = floats(T * S), *out = floats(T * A), *dout = floats(T * A), *lse = floats(T * H);
    float *scratch = floats(attention_scratch_floats(H, K, E, T)), *pack = floats(GEMM_PACK_FLOATS);
    fill(qkv, T * S, 1.5);
    fill(dout, T * A, 1);
    const struct attention a = {H, K, E, 3, start, scratch, pack};
    k->attention_forward(&a, out, lse, qkv);
    struct attention_case c = {H, K, E, 3, start, widened(qkv, T * S), widened(dout, T * A), doubles(T * A)};
    (void)attention_loss(&c);
    for (size_t i = 0; i < T * A; i++) assert_near("attention", (double)out[i], c.out[i], 1e-5);
    fill(dqkv, T * S, 1); /* backward sets */
    k->attention_backward(&a, dqkv, dout, out, lse, qkv);
    assert_gradient("attention dqkv", dqkv, c.qkv, T * S, attention_loss, &c);
    free(qkv);
    free(dqkv);
    free(out);
    free(dout);
    free(lse);
    free(scratch);
    free(pack);
    free(c.qkv);
    free(c.dout);
    free(c.out);
}

START_TEST(attention_has_its_gradient)
{
    each_build(attention_once);
}
END_TEST

static void kv_as(bool half)
{
    enum { H = 10, E = 40, N = 71, PANELS = (N + KV_PANEL - 1) / KV_PANEL };
    float *keys = floats(PANELS * KV_PANEL * E), *values = floats(PANELS * KV_PANEL * E),
          *scores = floats(H * PANELS * KV_PANEL);
    float q[H * E], key[N * E], value[N * E], out[H * E];
    fill(q, H * E, 1);
    fill(key, N * E, 1);
    fill(value, N * E, 1);
    fill(keys, PANELS * KV_PANEL * E, 1e30); /* what is past n must not matter */
    const struct kv kv = {keys, values, half};
    for (size_t i = 0; i < N; i++) k->kv_write(&kv, i, key + i * E, value + i * E, E);
    for (size_t i = 0; half && i < N * E; i++) { /* exactly what the cache holds */
        key[i] = half_from_fp16(half_to_fp16(key[i]));
        value[i] = half_from_fp16(half_to_fp16(value[i]));
    }
    double *dq = widened(q, H * E), *dk = widened(key, N * E), *dv = widened(value, N * E), want[E];
    for (size_t n = 1; n <= N; n += 10) {
        k->kv_attend(&kv, n, q, H, E, scores, out);
        for (size_t h = 0; h < H; h++) {
            ref_attend(want, dq + h * E, dk, dv, n, E, E);
            for (size_t i = 0; i < E; i++) assert_near("kv_attend", (double)out[h * E + i], want[i], 1e-5);
        }
    }
    free(keys);
    free(values);
    free(scores);
    free(dq);
    free(dk);
    free(dv);
}

static void kv_once(void)
{
    kv_as(false);
    kv_as(true);
}

START_TEST(kv_attend_reads_the_cache)
{
    each_build(kv_once);
}
END_TEST

struct head_case {
    double *z;
    double dlogp, dentropy, temperature, logp, entropy;
    size_t V, token;
};

static double head_loss(void *ctx)
{
    struct head_case *h = ctx;
    ref_softmax(h->z, h->V, h->temperature, h->token, &h->logp, &h->entropy);
    return h->dlogp * h->logp + h->dentropy * h->entropy;
}

/* a row of logits in parts of at most `part` */
static void head_forward(struct head_row *row, const float *z, size_t V, size_t part, struct head_grad *grad, float *logp)
{
    for (size_t from = 0; from < V; from += part) k->head_add(row, z + from, from, V - from < part ? V - from : part);
    k->head_end(row, &grad->lse, logp, &grad->entropy);
}

static void head_once(void)
{
    enum { V = 53 };
    const double temperatures[] = {1, 0.5, 1.7};
    for (size_t i = 0; i < 12; i++) {
        const size_t part = (const size_t[]){V, 17, 1, 32}[i / 3];
        float z[V], logp;
        fill(z, V, 3);
        struct head_case h = {widened(z, V), 0.7, -1.3, temperatures[i % 3], 0, 0, V, 11};
        (void)head_loss(&h);
        struct head_row row = {.inverse_temperature = (float)(1 / temperatures[i % 3]), .token = 11};
        struct head_grad grad = {.dlogp = 0.7f, .dentropy = -1.3f};
        head_forward(&row, z, V, part, &grad, &logp);
        assert_near("head logp", (double)logp, h.logp, 1e-6);
        assert_near("head entropy", (double)grad.entropy, h.entropy, 1e-6);
        float *dz = floats(V);
        memcpy(dz, z, sizeof z);
        for (size_t from = 0; from < V; from += part)
            k->head_backward(&row, dz + from, from, V - from < part ? V - from : part, &grad);
        assert_gradient("head dz", dz, h.z, V, head_loss, &h);
        free(dz);
        free(h.z);
        for (size_t at = 3; at < V; at += 31) { /* in the first part, and in a later one */
            float keep = z[at];
            z[at] = NAN;
            head_forward(&row, z, V, part, &grad, &logp);
            ck_assert(isnan(grad.lse) && isnan(logp) && isnan(grad.entropy));
            z[at] = keep;
        }
    }
}

START_TEST(head_has_its_gradient)
{
    each_build(head_once);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernels");
    TCase *tcase = tcase_create("kernels");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, rmsnorm_has_its_gradient);
    tcase_add_test(tcase, swiglu_has_its_gradient);
    tcase_add_test(tcase, rope_rotates_and_back);
    tcase_add_test(tcase, attention_has_its_gradient);
    tcase_add_test(tcase, kv_attend_reads_the_cache);
    tcase_add_test(tcase, head_has_its_gradient);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
