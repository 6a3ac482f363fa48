/* The shapes that are measured, and what is common to all parts. */
#include "bench/engine/engine.h"
#include "trainer/model/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

bool shape_at(size_t index, struct engine_shape *ret)
{
    static const struct {
        const char *name, *preset;
    } presets[] = {{"0.5M", "tiny-0.4m"}, {"3M", "small-3m"}, {"10M", "small-10m"}};
    if (index > 3) return false;
    *ret = (struct engine_shape){.name = "135M"};
    if (index < 3) {
        ret->name = presets[index].name;
        engine_must(model_preset(presets[index].preset, ENGINE_VOCAB, &ret->config));
        ret->config.max_positions = 2048;
        return true;
    }
    /* SmolLM2-135M's */
    ret->config = (struct model_config){.vocab = 49152,
                                        .vocab_padded = 49152,
                                        .layers = 30,
                                        .width = 576,
                                        .heads = 9,
                                        .kv_heads = 3,
                                        .head_dim = 64,
                                        .ff = 1536,
                                        .max_positions = 8192,
                                        .rope_theta = 100000,
                                        .rms_eps = 1e-5f,
                                        .tied = true};
    engine_must(model_config_check(&ret->config));
    return true;
}

double shape_matrices(const struct model_config *config)
{
    double matrices = config->tied ? 0 : -(double)config->vocab * config->width;
    struct tensor t;
    for (struct tensor_iter iter = {0}; tensor_next(config, &iter, &t);) {
        if (t.rows > 1)
            matrices += (double)(t.kind == TENSOR_KIND_embedding ? (size_t)config->vocab : t.rows) * (double)t.cols;
    }
    return matrices;
}

struct model *shape_model(const struct engine_shape *shape, uint64_t seed)
{
    struct model *model = NULL;
    engine_must(model_new(&model, &shape->config));
    model_init(model, seed);
    return model;
}

static double read_clock(clockid_t clock)
{
    struct timespec t;
    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double engine_wall(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

void meter_start(struct meter *meter)
{
    meter->started = meter->bench->cpu ? read_clock(CLOCK_PROCESS_CPUTIME_ID) : engine_wall();
}

void meter_stop(struct meter *meter, double work)
{
    double took = meter->bench->cpu ? (read_clock(CLOCK_PROCESS_CPUTIME_ID) - meter->started) / (double)meter->threads
                                    : engine_wall() - meter->started;
    meter->work += work;
    meter->seconds += took;
    if (work / took > meter->best) meter->best = work / took;
}

double meter_rate(const struct meter *meter)
{
    /* the processor time of other threads lags by a tick: only long sums of it are exact */
    return meter->bench->cpu ? meter->work / meter->seconds : meter->best;
}

void engine_must(err_t err)
{
    if (err == ERR_ok) return;
    (void)fprintf(stderr, "bench_engine: %s\n", err_text());
    exit(1);
}

void *engine_take(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) engine_must(err_set(ERR_memory, "%zu bytes", bytes));
    return memset(p, 0, bytes);
}

void engine_row(struct engine_bench *bench, json_t *row)
{
    (void)fflush(stdout);
    (void)json_array_append_new(bench->rows, row);
}
