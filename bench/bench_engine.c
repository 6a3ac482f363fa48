/* bench_engine: how fast the embedded engine trains and plays, beside what this machine's matrix products allow.
 * Share is of OpenBLAS' SGEMM on one thread, measured in this run, times the workers: above 100 % means that our products
 * are faster than its. Ends with one JSON object under --json. */
#include "services/common/base/pool.h"
#include "trainer/model/decoder.h"
#include "trainer/model/kernels.h"
#include "trainer/model/layout.h"
#include "trainer/model/learner.h"

#include <cblas.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SECONDS      0.35 /* per figure */
#define VOCAB        279
#define BATCH_TOKENS 2048 /* per worker */

static json_t *rows; /* one object per figure */

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(err_t err)
{
    if (err == ERR_ok) return;
    (void)fprintf(stderr, "bench_engine: %s\n", err_text());
    exit(1);
}

/* best of many short runs: the machine is shared */
static double gflops(bool openblas, size_t M, size_t N, size_t K)
{
    float *a = calloc(M * K, 4), *b = calloc(N * K, 4), *c = calloc(M * N, 4), *pack = calloc(GEMM_PACK_FLOATS, 4);
    if (!a || !b || !c || !pack) must(err_set(ERR_memory, "a product"));
    const struct gemm g = {GEMM_nt, M, N, K, a, K, b, K, c, N, false};
    double best = 0, end = now() + SECONDS;
    while (now() < end) {
        double t = now();
        for (int i = 0; i < 4; i++) {
            if (openblas)
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)M, (int)N, (int)K, 1, a, (int)K, b, (int)K, 0, c,
                            (int)N);
            else
                kernels()->gemm(&g, pack);
        }
        double rate = 4 * 2e-9 * (double)(M * N * K) / (now() - t);
        if (rate > best) best = rate;
    }
    free(a);
    free(b);
    free(c);
    free(pack);
    return best;
}

struct training {
    struct learner *learner;
    const struct model *model;
    struct learner_batch batch;
    float *logp[2], *entropy[2], *ones;
};

static void train(void *ctx, size_t index, size_t worker)
{
    struct training *t = ctx;
    (void)worker;
    struct learner_out out = {t->logp[index], t->entropy[index], NULL};
    struct learner_grad grad = {t->ones, t->ones, NULL};
    must(learner_forward(t->learner, index, t->model, &t->batch, &out));
    learner_backward(t->learner, index, t->model, &t->batch, &grad);
}

/* multiplications and additions of one trained token, forward and backward */
static double flops_per_token(const struct model_config *c, size_t sequence)
{
    double matrices = 0;
    struct tensor t;
    for (struct tensor_iter iter = {0}; tensor_next(c, &iter, &t);) {
        if (t.rows > 1) matrices += (double)(t.rows * t.cols);
    }
    return 6 * matrices + 6 * (double)c->layers * (double)(c->heads * c->head_dim) * (double)sequence;
}

static void bench_training(const char *preset, size_t sequence, size_t workers, size_t every, double peak)
{
    struct model_config config;
    struct model *model = NULL;
    struct pool *pool = NULL;
    struct training t = {0};
    static uint32_t start[BATCH_TOKENS + 1], target[BATCH_TOKENS];
    static int32_t tokens[BATCH_TOKENS];
    static float floats[5][BATCH_TOKENS];
    must(model_preset(preset, VOCAB, &config));
    must(model_new(&model, &config));
    model_init(model, 1);
    must(pool_new(&pool, workers));
    must(learner_new(&t.learner, &config, workers, BATCH_TOKENS, true));
    size_t sequences = BATCH_TOKENS / sequence, targets = 0, count = sequences * sequence;
    for (size_t i = 0; i <= sequences; i++) start[i] = (uint32_t)(i * sequence);
    for (size_t i = 0; i < count; i++) {
        tokens[i] = (int32_t)(i * 7 % VOCAB);
        floats[4][i] = 0.001f;
        if (i % sequence != 0 && i % every == 0) target[targets++] = (uint32_t)i;
    }
    t.model = model;
    t.batch = (struct learner_batch){sequences, start, tokens, targets, target, 1};
    for (size_t i = 0; i < 2; i++) {
        t.logp[i] = floats[i];
        t.entropy[i] = floats[2 + i];
    }
    t.ones = floats[4];
    pool_run(pool, workers, true, train, &t);
    double begin = now(), took = 0;
    size_t done = 0;
    for (; took < SECONDS; took = now() - begin, done += count * workers) pool_run(pool, workers, true, train, &t);
    double rate = (double)done / took, share = rate * flops_per_token(&config, sequence) / (peak * 1e9 * (double)workers);
    if (every == 1)
        (void)printf("train   %-10s seq %3zu  %zu worker%s  %9.0f tokens/s  %3.0f %%\n", preset, sequence, workers,
                     workers > 1 ? "s" : " ", rate, 100 * share);
    else
        (void)printf("train   %-10s seq %3zu  %zu worker%s  %9.0f tokens/s  (a target every %zu tokens)\n", preset, sequence,
                     workers, workers > 1 ? "s" : " ", rate, every);
    (void)json_array_append_new(rows, json_pack("{s:s s:s s:i s:i s:i s:f s:f}", "what", "train", "model", preset, "sequence",
                                                (int)sequence, "workers", (int)workers, "target_every", (int)every,
                                                "tokens_per_s", rate, "share", share));
    learner_free(&t.learner);
    pool_free(&pool);
    model_free(&model);
}

static void bench_decoding(const char *preset, uint32_t batch, size_t threads)
{
    enum { FROM = 144, TO = 176 };
    struct model_config config;
    struct model *model = NULL;
    struct pool *pool = NULL;
    struct decoder *decoder = NULL;
    static int32_t tokens[TO];
    static float logits[64][VOCAB];
    struct decoder_item items[64];
    must(model_preset(preset, VOCAB, &config));
    must(model_new(&model, &config));
    model_init(model, 1);
    must(pool_new(&pool, threads));
    must(decoder_new(&decoder, &config, batch, 512, pool));
    for (size_t i = 0; i < TO; i++) tokens[i] = (int32_t)(i * 11 % VOCAB);
    double took = 0;
    size_t done = 0;
    while (took < SECONDS) {
        for (uint32_t i = 0; i < batch; i++) {
            decoder_reset(decoder, i);
            items[i] = (struct decoder_item){i, tokens, FROM, NULL};
        }
        must(decoder_step(decoder, model, 1, items, batch));
        double begin = now();
        for (uint32_t step = FROM; step < TO; step++, done += batch) {
            for (uint32_t i = 0; i < batch; i++) items[i] = (struct decoder_item){i, &tokens[step], 1, logits[i]};
            must(decoder_step(decoder, model, 1, items, batch));
        }
        took += now() - begin;
    }
    double rate = (double)done / took;
    (void)printf("decode  %-10s batch %2u %zu thread%s  %9.0f tokens/s\n", preset, batch, threads, threads > 1 ? "s" : " ",
                 rate);
    (void)json_array_append_new(rows, json_pack("{s:s s:s s:i s:i s:f}", "what", "decode", "model", preset, "batch",
                                                (int)batch, "threads", (int)threads, "tokens_per_s", rate));
    decoder_free(&decoder);
    pool_free(&pool);
    model_free(&model);
}

int main(int argc, char **argv)
{
    static const char *const presets[] = {"tiny-0.4m", "small-3m"};
    rows = json_array();
    double peak = gflops(true, 1024, 512, 256), own = gflops(false, 1024, 512, 256), thin = gflops(false, 1024, 128, 128);
    (void)printf("sgemm   OpenBLAS %.0f GFLOP/s, kernels %s %.0f (128 x 128 weights: %.0f), one thread\n", peak,
                 kernels()->name, own, thin);
    for (size_t p = 0; p < 2; p++) {
        for (size_t workers = 1; workers <= 2; workers++) {
            for (size_t sequence = 64; sequence <= 256; sequence *= 2) bench_training(presets[p], sequence, workers, 1, peak);
        }
        bench_training(presets[p], 64, 2, 4, peak);
        for (size_t threads = 1; threads <= 2; threads++) {
            for (uint32_t batch = 1; batch <= 64; batch *= batch == 1 ? 16 : 4) bench_decoding(presets[p], batch, threads);
        }
    }
    if (argc > 1 && strcmp(argv[1], "--json") == 0) {
        json_t *all = json_pack("{s:s s:f s:f s:s s:O}", "bench", "engine", "openblas_gflops", peak, "gflops", own, "kernels",
                                kernels()->name, "rows", rows);
        (void)json_dumpf(all, stdout, JSON_COMPACT);
        (void)printf("\n");
        json_decref(all);
    }
    json_decref(rows);
    return 0;
}
