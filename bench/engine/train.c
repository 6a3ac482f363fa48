/* Training: tokens/s beside the matrix products of this run. */
#include "bench/engine/engine.h"
#include "trainer/model/learner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct training {
    struct learner *learner;
    const struct model *model;
    struct learner_batch batch;
    size_t times; /* micro-batches that each worker computes in a round */
    float *logp[64], *entropy[64], *coefficient;
};

static void train(void *ctx, size_t index, size_t worker)
{
    struct training *t = ctx;
    (void)worker;
    const struct learner_out out = {t->logp[index], t->entropy[index], NULL};
    const struct learner_grad grad = {t->coefficient, t->coefficient, NULL};
    for (size_t i = 0; i < t->times; i++) {
        engine_must(learner_forward(t->learner, index, t->model, &t->batch, &out));
        learner_backward(t->learner, index, t->model, &t->batch, &grad);
    }
}

/* Products of the forward pass and twice those for the backward one; attention sees half of the positions on average. */
double train_flops(const struct model_config *c, size_t length)
{
    return 6 * shape_matrices(c) + 6 * (double)c->layers * (double)(c->heads * c->head_dim) * (double)length;
}

static void fill(struct training *t, const struct engine_bench *bench, size_t batch, size_t length)
{
    size_t count = batch * length, targets = 0;
    uint32_t *start = engine_take((batch + 1) * sizeof *start), *target = engine_take(count * sizeof *target);
    int32_t *tokens = engine_take(count * sizeof *tokens);
    t->coefficient = engine_take(count * sizeof(float));
    for (size_t i = 0; i <= batch; i++) start[i] = (uint32_t)(i * length);
    for (size_t i = 0; i < count; i++) {
        tokens[i] = (int32_t)(i * 7 % ENGINE_VOCAB);
        t->coefficient[i] = 0.001f;
        if (i % length != 0) target[targets++] = (uint32_t)i;
    }
    for (size_t i = 0; i < bench->threads; i++) {
        t->logp[i] = engine_take(count * sizeof(float));
        t->entropy[i] = engine_take(count * sizeof(float));
    }
    t->batch = (struct learner_batch){batch, start, tokens, targets, target, 1};
}

static struct train_check check_of(const struct engine_bench *bench, struct training *t, size_t parameters)
{
    struct train_check check = {0};
    double squares = 0;
    learner_zero(t->learner);
    pool_run(bench->pool, bench->threads, true, train, t);
    const float *gradient = learner_reduce(t->learner);
    for (size_t i = 0; i < parameters; i++) squares += (double)gradient[i] * (double)gradient[i];
    for (size_t i = 0; i < t->batch.targets; i++) {
        check.logp += (double)t->logp[0][i] / (double)t->batch.targets;
        check.entropy += (double)t->entropy[0][i] / (double)t->batch.targets;
    }
    check.norm = sqrt(squares);
    return check;
}

double train_rate(const struct engine_bench *bench, const struct engine_shape *shape, size_t batch, size_t length,
                  size_t times, double *ret_products, struct train_check *ret_check)
{
    struct training t = {.times = times};
    struct model *model = shape_model(shape, 1);
    engine_must(learner_new(&t.learner, &shape->config, bench->threads, batch * length, LEARNER_KIND_gradient));
    t.model = model;
    fill(&t, bench, batch, length);
    struct meter meter = {.bench = bench, .threads = bench->threads}, products = meter;
    pool_run(bench->pool, bench->threads, true, train, &t); /* the first one takes the pages */
    size_t rounds = 0;
    for (double end = engine_wall() + (bench->quick ? 0.3 : 1.2); engine_wall() < end || meter.work <= 0; rounds++) {
        rates_probe(bench, &products, 0.1 * meter.seconds / (double)(rounds + 1) + 0.002);
        meter_start(&meter);
        pool_run(bench->pool, bench->threads, true, train, &t);
        meter_stop(&meter, (double)(batch * length * times * bench->threads));
    }
    *ret_products = rates_products(bench, &products);
    if (ret_check) *ret_check = check_of(bench, &t, model->count);
    free((void *)(uintptr_t)t.batch.start);
    free((void *)(uintptr_t)t.batch.target);
    free((void *)(uintptr_t)t.batch.tokens);
    free(t.coefficient);
    for (size_t i = 0; i < bench->threads; i++) {
        free(t.logp[i]);
        free(t.entropy[i]);
    }
    learner_free(&t.learner);
    model_free(&model);
    return meter_rate(&meter);
}

void train_bench(struct engine_bench *bench, const struct engine_shape *shape)
{
    for (size_t length = 128; length <= 512; length *= 2) {
        if (bench->quick && length != 256) continue;
        size_t batch = (bench->tokens ? bench->tokens : ENGINE_TOKENS) / length;
        double products, rate = train_rate(bench, shape, batch, length, 1, &products, NULL);
        double share = rate * train_flops(&shape->config, length) / products;
        (void)printf("train     %-5s %zu x %zu sequences of %3zu %24.0f tokens/s   %3.0f %% of the products\n", shape->name,
                     bench->threads, batch, length, rate, 100 * share);
        engine_row(bench, json_pack("{s:s s:s s:i s:i s:i s:f s:f}", "what", "train", "shape", shape->name, "workers",
                                    (int)bench->threads, "batch", (int)batch, "length", (int)length, "tokens_per_s", rate,
                                    "share", share));
    }
}
