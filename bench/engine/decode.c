/* Decoding: tokens/s beside the roofline, the larger of the time to read weights and cache once and the time to multiply. */
#include "bench/engine/engine.h"
#include "trainer/model/decoder.h"
#include "trainer/model/layout.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define STEPS 16 /* at about the same context */

/* One slot is fed, the others share its beginning: what is in a cache does not matter for the time. */
static void prepare(struct decoder *decoder, const struct model *model, const int32_t *tokens, uint32_t batch,
                    uint32_t context)
{
    const struct decoder_item item = {0, tokens, context, NULL};
    engine_must(decoder_step(decoder, model, 1, &item, 1));
    for (uint32_t i = 1; i < batch; i++) decoder_share(decoder, i, 0, context);
}

double decode_rate(const struct engine_bench *bench, const struct engine_shape *shape, uint32_t batch, uint32_t context,
                   double *ret_products)
{
    size_t vocab = (size_t)shape->config.vocab;
    struct model *model = shape_model(shape, 1);
    struct decoder *decoder = NULL;
    const struct decoder_options options = {batch, context + STEPS, bench->half};
    engine_must(decoder_new(&decoder, &shape->config, &options, bench->pool));
    int32_t *tokens = engine_take((context + STEPS) * sizeof *tokens);
    float *logits = engine_take(batch * vocab * sizeof *logits);
    struct decoder_item *items = engine_take(batch * sizeof *items);
    for (size_t i = 0; i < context + STEPS; i++) tokens[i] = (int32_t)(i * 11 % ENGINE_VOCAB);
    struct meter meter = {.bench = bench, .threads = bench->threads}, products = meter;
    double end = engine_wall() + (bench->quick ? 0.2 : 0.6);
    prepare(decoder, model, tokens, batch, context);
    for (uint32_t step = 0; engine_wall() < end || step < STEPS; step++) {
        for (uint32_t i = 0; step % STEPS == 0 && i < batch; i++) decoder_cut(decoder, i, context);
        for (uint32_t i = 0; i < batch; i++)
            items[i] = (struct decoder_item){i, &tokens[context + step % STEPS], 1, logits + i * vocab};
        if (step % (8 * STEPS) == 0) rates_probe(bench, &products, 0.03);
        meter_start(&meter);
        engine_must(decoder_step(decoder, model, 1, items, batch));
        meter_stop(&meter, batch);
    }
    free(tokens);
    free(logits);
    free(items);
    decoder_free(&decoder);
    model_free(&model);
    *ret_products = rates_products(bench, &products);
    return meter_rate(&meter);
}

static void bench_one(struct engine_bench *bench, const struct engine_shape *shape, uint32_t batch, uint32_t context)
{
    const struct model_config *c = &shape->config;
    double weights = shape_matrices(c), positions = (double)batch * context;
    double cache = positions * (double)decoder_token_bytes(c, bench->half), bytes = 4 * weights + cache;
    double flops = 2 * weights * batch + 4 * positions * (double)(c->layers * c->heads * c->head_dim);
    double products, rate = decode_rate(bench, shape, batch, context, &products);
    double reading = bytes / rates_read(bench, (size_t)bytes), multiplying = flops / products;
    double limit = batch / (reading > multiplying ? reading : multiplying);
    (void)printf("decode    %-5s batch %2u, context %4u %26.0f tokens/s   %3.0f %% of the roofline (%s)\n", shape->name,
                 batch, context, rate, 100 * rate / limit, reading > multiplying ? "reading" : "products");
    engine_row(bench, json_pack("{s:s s:s s:i s:i s:i s:f s:f s:s}", "what", "decode", "shape", shape->name, "threads",
                                (int)bench->threads, "batch", (int)batch, "context", (int)context, "tokens_per_s", rate,
                                "share", rate / limit, "bound", reading > multiplying ? "reading" : "products"));
}

/* Weights with as much spread as trained ones: with those of a new model every distribution is flat, whatever the cache. */
static struct model *spread_model(const struct engine_shape *shape)
{
    struct model *model = shape_model(shape, 1);
    struct tensor t;
    for (struct tensor_iter iter = {0}; tensor_next(&shape->config, &iter, &t);) {
        if (t.rows == 1) continue;
        float scale = t.kind == TENSOR_KIND_embedding ? 25.0f : 40.0f / sqrtf((float)t.cols);
        for (size_t i = 0; i < t.rows * t.cols; i++) model->weights[t.offset + i] *= scale;
    }
    return model;
}

static double log_sum(const float *logits, size_t n)
{
    double high = (double)logits[0], sum = 0;
    for (size_t i = 1; i < n; i++) high = (double)logits[i] > high ? (double)logits[i] : high;
    for (size_t i = 0; i < n; i++) sum += exp((double)logits[i] - high);
    return high + log(sum);
}

/* Largest difference in log-prob, of any id, between a cache of floats and one of halves, after FED tokens and each of the
 * next STEPS. */
static void half_error(struct engine_bench *bench, const struct engine_shape *shape)
{
    enum { FED = 112 };
    size_t vocab = (size_t)shape->config.vocab;
    struct model *model = spread_model(shape);
    struct decoder *decoders[2] = {NULL, NULL};
    float *logits = engine_take(2 * vocab * sizeof *logits);
    int32_t tokens[FED + STEPS];
    double worst = 0;
    for (int i = 0; i < FED + STEPS; i++) tokens[i] = (int32_t)(i * 37 % ENGINE_VOCAB);
    for (int half = 0; half < 2; half++) {
        const struct decoder_options options = {1, FED + STEPS, half};
        engine_must(decoder_new(&decoders[half], &shape->config, &options, bench->pool));
    }
    for (int at = 0; at < FED + STEPS; at += at ? 1 : FED) {
        double sums[2];
        for (int half = 0; half < 2; half++) {
            const struct decoder_item item = {0, tokens + at, at ? 1 : FED, logits + (size_t)half * vocab};
            engine_must(decoder_step(decoders[half], model, 1, &item, 1));
            sums[half] = log_sum(item.logits, vocab);
        }
        for (size_t i = 0; i < vocab; i++) {
            double gap = fabs(((double)logits[i] - sums[0]) - ((double)logits[vocab + i] - sums[1]));
            if (gap > worst) worst = gap;
        }
    }
    (void)printf("decode    %-5s with a cache of halves log-probs differ by at most %.2g\n", shape->name, worst);
    engine_row(bench, json_pack("{s:s s:s s:f}", "what", "half_error", "shape", shape->name, "logp", worst));
    for (int half = 0; half < 2; half++) decoder_free(&decoders[half]);
    free(logits);
    model_free(&model);
}

/* A group of eight begins: its prompt fed by each, and by one whose slot the others share. */
static void share_bench(struct engine_bench *bench, const struct engine_shape *shape)
{
    enum { GROUP = 8, PROMPT = 128 };
    const struct decoder_options options = {GROUP, PROMPT, bench->half};
    size_t vocab = (size_t)shape->config.vocab;
    struct model *model = shape_model(shape, 1);
    struct decoder *decoder = NULL;
    float *logits = engine_take(GROUP * vocab * sizeof *logits);
    int32_t tokens[PROMPT];
    struct decoder_item items[GROUP];
    engine_must(decoder_new(&decoder, &shape->config, &options, bench->pool));
    for (int i = 0; i < PROMPT; i++) tokens[i] = i * 11 % ENGINE_VOCAB;
    struct meter each = {.bench = bench, .threads = bench->threads}, shared = each;
    for (double end = engine_wall() + 0.4; engine_wall() < end || each.work <= 0;) {
        for (uint32_t i = 0; i < GROUP; i++) {
            decoder_reset(decoder, i);
            items[i] = (struct decoder_item){i, tokens, PROMPT, logits + i * vocab};
        }
        meter_start(&each);
        engine_must(decoder_step(decoder, model, 1, items, GROUP));
        meter_stop(&each, 1);
        for (uint32_t i = 0; i < GROUP; i++) decoder_reset(decoder, i);
        meter_start(&shared);
        engine_must(decoder_step(decoder, model, 1, items, 1));
        for (uint32_t i = 1; i < GROUP; i++) {
            decoder_share(decoder, i, 0, PROMPT - 1);
            items[i] = (struct decoder_item){i, tokens + PROMPT - 1, 1, logits + i * vocab};
        }
        engine_must(decoder_step(decoder, model, 1, items + 1, GROUP - 1));
        meter_stop(&shared, 1);
    }
    double gain = meter_rate(&shared) / meter_rate(&each);
    (void)printf("decode    %-5s a group of %d begins its prompt of %d tokens in %.2f ms, shared in %.2f ms, %.1fx\n",
                 shape->name, GROUP, PROMPT, 1e3 / meter_rate(&each), 1e3 / meter_rate(&shared), gain);
    engine_row(bench, json_pack("{s:s s:s s:i s:i s:f}", "what", "shared_prompt", "shape", shape->name, "group", GROUP,
                                "prompt", PROMPT, "ratio", gain));
    free(logits);
    decoder_free(&decoder);
    model_free(&model);
}

void decode_bench(struct engine_bench *bench, const struct engine_shape *shape)
{
    static const uint32_t batches[] = {1, 16, 64}, contexts[] = {64, 256, 1024};
    for (size_t b = 0; b < 3; b++) {
        for (size_t n = 0; n < 3; n++) {
            if (!bench->quick || n == 1) bench_one(bench, shape, batches[b], contexts[n]);
        }
    }
    half_error(bench, shape);
    share_bench(bench, shape);
}
