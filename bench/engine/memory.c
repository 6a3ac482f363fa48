/* Memory: what trainer and rollout take at their fullest, in a process of its own each, beside what is predicted of it. */
#include "bench/engine/engine.h"
#include "bench/support/rig.h"
#include "trainer/model/decoder.h"
#include "trainer/trainee.h"
#include "trainer/update.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONTEXT  256
#define SLOTS    16
#define VERSIONS 2

struct load {
    const struct engine_bench *bench;
    struct trainee_config trainee;
    struct decoder_options decoder;
};

/* one update of full micro-batches, two for each worker */
static void load_trainer(const struct load *load)
{
    size_t length = CONTEXT, count = 2 * load->bench->threads * load->trainee.max_tokens / length;
    int32_t *tokens = engine_take(length * sizeof *tokens);
    uint8_t *targets = engine_take(length);
    float *logp = engine_take(length * sizeof *logp);
    uint16_t *turns = engine_take(length * sizeof *turns);
    struct episode *episodes = engine_take(count * sizeof *episodes);
    for (size_t i = 0; i < length; i++) {
        tokens[i] = (int32_t)(i * 7 % ENGINE_VOCAB);
        targets[i] = i > 0;
        logp[i] = i > 0 ? -5 : 0;
    }
    for (size_t i = 0; i < count; i++)
        episodes[i] = (struct episode){.id = i,
                                       .group = i / 2,
                                       .signal = true,
                                       .sampled = true,
                                       .count = (uint32_t)length,
                                       .action_tokens = (uint32_t)length - 1,
                                       .token = tokens,
                                       .target = targets,
                                       .turn = turns,
                                       .turns = 1,
                                       .logp = logp,
                                       .advantage = i % 2 ? 1 : -1};
    const struct update_config config = {
        .terms = {.clip_low = 0.2, .clip_high = 0.28, .importance = LOSS_IMPORTANCE_tis, .cap = 1},
        .minibatches = 1,
        .epochs = 1,
        .tokens_per_microbatch = load->trainee.max_tokens,
        .temperature = 1,
        .schedule = {.kind = SCHEDULE_constant, .peak = 1e-5}};
    const struct update_batch batch = {
        .update = 1, .episodes = episodes, .count = count, .norm_tokens = (double)(count * (length - 1))};
    struct trainee *trainee = NULL;
    enum update_outcome outcome;
    struct diagnostics figures;
    engine_must(trainee_new(&trainee, &load->trainee, load->bench->pool));
    engine_must(update_run(trainee, &config, &batch, NULL, &outcome, &figures));
}

/* every slot filled, under each of two versions */
static void load_rollout(const struct load *load)
{
    const struct engine_shape shape = {"", load->trainee.model};
    struct decoder *decoder = NULL;
    int32_t *tokens = engine_take(CONTEXT * sizeof *tokens);
    engine_must(decoder_new(&decoder, &shape.config, &load->decoder, load->bench->pool));
    for (uint32_t i = 0; i < CONTEXT; i++) tokens[i] = (int32_t)(i * 11 % ENGINE_VOCAB);
    for (uint64_t version = 1; version <= VERSIONS; version++) {
        struct model *model = shape_model(&shape, version);
        for (uint32_t slot = 0; slot < SLOTS; slot++) decoder_reset(decoder, slot);
        const struct decoder_item item = {0, tokens, CONTEXT, NULL};
        engine_must(decoder_step(decoder, model, version, &item, 1));
        for (uint32_t slot = 1; slot < SLOTS; slot++) decoder_share(decoder, slot, 0, CONTEXT);
    }
}

/* peak of a child that does this, less that of one that does nothing */
static double measure(const struct load *load, void (*work)(const struct load *load))
{
    struct rusage usage;
    int status = 0;
    double bytes[2];
    for (int i = 0; i < 2; i++) {
        (void)fflush(stdout);
        pid_t pid = fork();
        if (pid < 0) rig_die("fork", "failed");
        if (pid == 0) {
            struct load own = *load;
            struct engine_bench bench = *load->bench;
            own.bench = &bench;
            engine_must(pool_new(&bench.pool, bench.threads)); /* threads do not survive a fork */
            if (i == 1) work(&own);
            _exit(0);
        }
        if (wait4(pid, &status, 0, &usage) != pid || status != 0) rig_die("a child that measures memory", "failed");
        bytes[i] = (double)usage.ru_maxrss * 1024;
    }
    return bytes[1] - bytes[0];
}

static void report(struct engine_bench *bench, const struct engine_shape *shape, const char *what, double predicted,
                   double measured)
{
    double parameters = (double)model_parameters(&shape->config);
    (void)printf("memory    %-5s %-26s predicted %7.0f MiB, measured %7.0f MiB (%+.0f %%), %.0f bytes a parameter\n",
                 shape->name, what, predicted / 1048576, measured / 1048576, 100 * (predicted / measured - 1),
                 measured / parameters);
    engine_row(bench, json_pack("{s:s s:s s:s s:f s:f s:f}", "what", "memory", "shape", shape->name, "of", what, "predicted",
                                predicted, "measured", measured, "per_parameter", measured / parameters));
}

void memory_bench(struct engine_bench *bench, const struct engine_shape *shape)
{
    struct load load = {.bench = bench,
                        .trainee = {.model = shape->config, .adamw = ADAMW_DEFAULTS, .max_tokens = 1024, .seed = 1}};
    if (shape->config.layers > 10) load.trainee.max_tokens = 512;
    for (int recompute = 1; recompute >= 0; recompute--) {
        load.trainee.recompute = recompute;
        report(bench, shape, recompute ? "trainer, recompute" : "trainer",
               (double)trainee_bytes_of(&load.trainee, bench->threads, 0), measure(&load, load_trainer));
    }
    for (int half = 0; half <= 1; half++) {
        load.decoder = (struct decoder_options){SLOTS, CONTEXT, half};
        size_t weights = VERSIONS * model_parameters(&shape->config) * sizeof(float);
        report(bench, shape, half ? "rollout, fp16 cache" : "rollout",
               (double)(weights + decoder_bytes_of(&shape->config, &load.decoder, bench->threads, VERSIONS)),
               measure(&load, load_rollout));
    }
    (void)printf("memory    %-5s a cached token takes %zu bytes, with halves %zu\n", shape->name,
                 decoder_token_bytes(&shape->config, false), decoder_token_bytes(&shape->config, true));
}
