/* Decoding: tokens/s beside the roofline, the larger of the time to read weights and cache once and the time to multiply. */
#include "bench/engine/engine.h"
#include "trainer/model/decoder.h"

#include <stdio.h>
#include <stdlib.h>

#define STEPS 16 /* at about the same context */

/* One slot is fed, the others get a copy of its cache: what is in a cache does not matter for the time. */
static void prepare(struct decoder *decoder, const struct model *model, const int32_t *tokens, uint32_t batch,
                    uint32_t context)
{
    for (uint32_t i = 0; i < batch; i++) {
        decoder_reset(decoder, i);
        const struct decoder_item item = {i, tokens, context, NULL};
        engine_must(decoder_step(decoder, model, 1, &item, 1));
    }
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
        if (step % (8 * STEPS) == 0) rates_probe(bench, &products);
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
    double cache = positions * (double)(2 * c->layers * c->kv_heads * c->head_dim) * 4, bytes = 4 * weights + cache;
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

void decode_bench(struct engine_bench *bench, const struct engine_shape *shape)
{
    static const uint32_t batches[] = {1, 16, 64}, contexts[] = {64, 256, 1024};
    for (size_t b = 0; b < 3; b++) {
        for (size_t n = 0; n < 3; n++) {
            if (!bench->quick || n == 1) bench_one(bench, shape, batches[b], contexts[n]);
        }
    }
}
