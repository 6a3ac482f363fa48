/* What this machine allows: matrix products, and reading memory. */
#include "bench/engine/engine.h"
#include "trainer/model/kernels.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS 0.25 /* per figure */

struct products {
    struct gemm gemm;
    float *scratch[64];
    float *c[64];
};

static void multiply(void *ctx, size_t index, size_t worker)
{
    const struct products *p = ctx;
    struct gemm g = p->gemm;
    (void)index;
    g.c = p->c[worker];
    kernels()->gemm(&g, p->scratch[worker]);
}

/* FLOP/s of our product on all threads at once, and of OpenBLAS on one, times the threads: Debian's serial build may not be
 * called from two. */
static void measure(const struct engine_bench *bench, size_t M, size_t N, size_t K, double *own, double *openblas)
{
    float *a = engine_take(M * K * 4), *b = engine_take(N * K * 4);
    struct products p = {.gemm = {GEMM_nt, M, N, K, a, K, b, K, NULL, N, NULL}};
    for (size_t i = 0; i < bench->threads; i++) {
        p.scratch[i] = engine_take(GEMM_PACK_FLOATS * 4);
        p.c[i] = engine_take(M * N * 4);
    }
    double flops = 2.0 * (double)(M * N * K), threads = (double)bench->threads;
    struct meter ours = {.bench = bench, .threads = bench->threads}, theirs = {.bench = bench, .threads = 1};
    for (double end = engine_wall() + SECONDS; engine_wall() < end;) {
        meter_start(&ours);
        for (int i = 0; i < 4; i++) pool_run(bench->pool, bench->threads, true, multiply, &p);
        meter_stop(&ours, 4 * flops * threads);
        meter_start(&theirs);
        for (int i = 0; i < 4; i++)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)M, (int)N, (int)K, 1, a, (int)K, b, (int)K, 0, p.c[0],
                        (int)N);
        meter_stop(&theirs, 4 * flops);
    }
    if (meter_rate(&ours) > *own) *own = meter_rate(&ours);
    if (threads * meter_rate(&theirs) > *openblas) *openblas = threads * meter_rate(&theirs);
    for (size_t i = 0; i < bench->threads; i++) {
        free(p.scratch[i]);
        free(p.c[i]);
    }
    free(a);
    free(b);
}

void rates_gemm(struct engine_bench *bench)
{
    static const size_t sizes[][3] = {{1024, 512, 256}, {2048, 512, 128}, {768, 768, 768}, {2048, 1536, 576}};
    double own = 0, openblas = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        measure(bench, sizes[i][0], sizes[i][1], sizes[i][2], &own, &openblas);
    bench->gemm = own > openblas ? own : openblas;
    (void)printf("products  OpenBLAS %.0f, kernels %s %.0f GFLOP/s on %zu threads\n", openblas * 1e-9, kernels()->name,
                 own * 1e-9, bench->threads);
    engine_row(bench, json_pack("{s:s s:s s:i s:f s:f}", "what", "gemm", "kernels", kernels()->name, "threads",
                                (int)bench->threads, "own_gflops", own * 1e-9, "openblas_gflops", openblas * 1e-9));
}

typedef uint64_t wide __attribute__((vector_size(64), may_alias));

struct reading {
    const uint8_t *data;
    size_t bytes, threads;
    uint64_t sink[64];
};

/* each thread its share, 512 bytes a turn */
__attribute__((target_clones("avx512f", "avx2", "default"))) static void read_share(void *ctx, size_t index, size_t worker)
{
    struct reading *r = ctx;
    size_t share = r->bytes / r->threads / 512 * 512;
    const wide *p = (const wide *)(const void *)(r->data + index * share), *end = p + share / sizeof *p;
    wide sum[8] = {{0}};
    for (; p < end; p += 8) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) sum[i] ^= p[i];
    }
    for (int i = 1; i < 8; i++) sum[0] ^= sum[i];
    r->sink[worker] += sum[0][0] ^ sum[0][3];
}

double rates_read(const struct engine_bench *bench, size_t bytes)
{
    const size_t most = (size_t)1 << 30; /* no cache holds that */
    if (bytes > most) bytes = most;
    struct reading r = {engine_take(bytes), bytes, bench->threads, {0}};
    struct meter meter = {.bench = bench, .threads = bench->threads};
    size_t rounds = ((size_t)1 << 23) / bytes + 1; /* long enough for the clock, and for what waking a thread takes */
    memset((void *)(uintptr_t)r.data, 1, bytes);
    for (double end = engine_wall() + SECONDS / 2; engine_wall() < end || meter.work <= 0;) {
        meter_start(&meter);
        for (size_t i = 0; i < rounds; i++) pool_run(bench->pool, bench->threads, true, read_share, &r);
        meter_stop(&meter, (double)bytes * (double)rounds);
    }
    free((void *)(uintptr_t)r.data);
    return meter_rate(&meter);
}
