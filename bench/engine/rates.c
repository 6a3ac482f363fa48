/* What this machine allows: matrix products, and reading memory. */
#include "bench/engine/engine.h"
#include "trainer/model/kernels.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS 0.25 /* per figure */
#define TIMES   4    /* products in a round */

struct products {
    struct gemm gemm;
    float *a, *b, *scratch[64], *c[64];
    size_t threads;
};

static void products_init(struct products *p, size_t threads, size_t M, size_t N, size_t K)
{
    *p = (struct products){.threads = threads, .a = engine_take(M * K * 4), .b = engine_take(N * K * 4)};
    p->gemm = (struct gemm){GEMM_nt, M, N, K, p->a, K, p->b, K, NULL, N, NULL};
    for (size_t i = 0; i < threads; i++) {
        p->scratch[i] = engine_take(GEMM_PACK_FLOATS * 4);
        p->c[i] = engine_take(M * N * 4);
    }
}

static void products_fini(struct products *p)
{
    for (size_t i = 0; i < p->threads; i++) {
        free(p->scratch[i]);
        free(p->c[i]);
    }
    free(p->a);
    free(p->b);
}

static void multiply(void *ctx, size_t index, size_t worker)
{
    const struct products *p = ctx;
    struct gemm g = p->gemm;
    (void)index;
    g.c = p->c[worker];
    for (int i = 0; i < TIMES; i++) kernels()->gemm(&g, p->scratch[worker]);
}

static double flops(const struct products *p)
{
    return 2.0 * TIMES * (double)(p->gemm.M * p->gemm.N * p->gemm.K);
}

static void round_of_ours(struct meter *meter, struct products *p)
{
    meter_start(meter);
    pool_run(meter->bench->pool, p->threads, true, multiply, p);
    meter_stop(meter, (double)p->threads * flops(p));
}

/* Debian's serial build may not be called from two threads: one, times the threads */
static void round_of_openblas(struct meter *meter, struct products *p)
{
    const struct gemm *g = &p->gemm;
    meter_start(meter);
    for (int i = 0; i < TIMES; i++)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)g->M, (int)g->N, (int)g->K, 1, p->a, (int)g->K, p->b,
                    (int)g->K, 0, p->c[0], (int)g->N);
    meter_stop(meter, flops(p));
}

void rates_open(struct engine_bench *bench)
{
    static const size_t sizes[][3] = {{1024, 512, 256}, {2048, 512, 128}, {768, 768, 768}, {2048, 1536, 576}};
    double own = 0, openblas = 0, probe = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct products p;
        products_init(&p, bench->threads, sizes[i][0], sizes[i][1], sizes[i][2]);
        struct meter ours = {.bench = bench, .threads = bench->threads}, theirs = {.bench = bench, .threads = 1};
        for (double end = engine_wall() + SECONDS; engine_wall() < end;) {
            round_of_ours(&ours, &p);
            round_of_openblas(&theirs, &p);
        }
        double blas = (double)bench->threads * meter_rate(&theirs);
        if (i == 0) probe = meter_rate(&ours);
        if (meter_rate(&ours) > own) own = meter_rate(&ours);
        if (blas > openblas) openblas = blas;
        products_fini(&p);
    }
    bench->best_product = (own > openblas ? own : openblas) / probe;
    bench->probe = engine_take(sizeof *bench->probe);
    products_init(bench->probe, bench->threads, sizes[0][0], sizes[0][1], sizes[0][2]);
    (void)printf("products  OpenBLAS %.0f, kernels %s %.0f GFLOP/s on %zu threads\n", openblas * 1e-9, kernels()->name,
                 own * 1e-9, bench->threads);
    engine_row(bench, json_pack("{s:s s:s s:i s:f s:f}", "what", "products", "kernels", kernels()->name, "threads",
                                (int)bench->threads, "own_gflops", own * 1e-9, "openblas_gflops", openblas * 1e-9));
}

void rates_close(struct engine_bench *bench)
{
    products_fini(bench->probe);
    free(bench->probe);
}

void rates_probe(const struct engine_bench *bench, struct meter *meter, double seconds)
{
    for (double end = engine_wall() + seconds; engine_wall() < end || meter->work <= 0;) round_of_ours(meter, bench->probe);
}

double rates_products(const struct engine_bench *bench, const struct meter *meter)
{
    return meter_rate(meter) * bench->best_product;
}

typedef uint64_t wide __attribute__((vector_size(64), may_alias));

struct reading {
    const uint8_t *data;
    size_t bytes, threads, rounds;
    uint64_t sink[64];
};

/* each thread its share, 512 bytes a turn */
__attribute__((target_clones("avx512f", "avx2", "default"))) static void read_share(void *ctx, size_t index, size_t worker)
{
    struct reading *r = ctx;
    size_t share = r->bytes / r->threads / 512 * 512;
    const wide *from = (const wide *)(const void *)(r->data + index * share), *end = from + share / sizeof *from;
    wide sum[8] = {{0}};
    for (size_t round = 0; round < r->rounds; round++) {
        for (const wide *p = from; p < end; p += 8) {
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) sum[i] ^= p[i];
        }
        __asm__ volatile("" ::: "memory");
    }
    for (int i = 1; i < 8; i++) sum[0] ^= sum[i];
    r->sink[worker] += sum[0][0] ^ sum[0][3];
}

double rates_read(const struct engine_bench *bench, size_t bytes)
{
    const size_t most = (size_t)1 << 30; /* no cache holds that */
    if (bytes > most) bytes = most;
    size_t rounds = ((size_t)1 << 26) / bytes + 1; /* long enough for the clock, and for what waking a thread takes */
    struct reading r = {engine_take(bytes), bytes, bench->threads, rounds, {0}};
    struct meter meter = {.bench = bench, .threads = bench->threads};
    memset((void *)(uintptr_t)r.data, 1, bytes);
    for (double end = engine_wall() + SECONDS / 2; engine_wall() < end || meter.work <= 0;) {
        meter_start(&meter);
        pool_run(bench->pool, bench->threads, true, read_share, &r);
        meter_stop(&meter, (double)bytes * (double)rounds);
    }
    free((void *)(uintptr_t)r.data);
    return meter_rate(&meter);
}
