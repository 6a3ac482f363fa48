/* bench_update: what an update costs beside the engine's own forward and backward over the same micro-batches.
 * 16 groups of 8 episodes of about 60 tokens, a third of them targets; best of several. Ends with one JSON object under
 * --json. */
#include "bench/support/rig.h"
#include "trainer/packing.h"
#include "trainer/update.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EPISODES 128
#define TOKENS   80
#define VOCAB    279
#define ROUNDS   8

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void must(err_t err)
{
    if (err == ERR_ok) return;
    (void)fprintf(stderr, "bench_update: %s\n", err_text());
    exit(1);
}

struct data {
    int32_t token[EPISODES][TOKENS];
    uint8_t target[EPISODES][TOKENS];
    float logp[EPISODES][TOKENS];
    struct episode episodes[EPISODES];
    double norm_tokens, tokens;
};

static void fill(struct data *d)
{
    struct rng rng;
    rng_init(&rng, 1, 1);
    for (size_t i = 0; i < EPISODES; i++) {
        uint32_t n = 45 + rng_below(&rng, 30), targets = 0, last = 0;
        for (uint32_t t = 0; t < n; t++) {
            d->token[i][t] = (int32_t)(1 + rng_below(&rng, VOCAB - 1));
            d->target[i][t] = t % 12 >= 8;
            d->logp[i][t] = d->target[i][t] ? -5.6f : 0;
            targets += d->target[i][t];
            if (d->target[i][t]) last = t + 1;
        }
        d->episodes[i] = (struct episode){.id = i,
                                          .group = i / 8,
                                          .signal = true,
                                          .sampled = true,
                                          .count = n,
                                          .action_tokens = targets,
                                          .token = d->token[i],
                                          .target = d->target[i],
                                          .logp = d->logp[i],
                                          .turns = 1,
                                          .advantage = rng_normal(&rng)};
        d->norm_tokens += targets;
        d->tokens += last;
    }
}

struct raw {
    struct trainee *trainee;
    struct packing packing;
};

static void run_raw(void *ctx, size_t index, size_t worker)
{
    struct raw *raw = ctx;
    struct microbatch *m = &raw->packing.microbatches[index];
    const struct learner_out out = {.logp = m->theta, .entropy = m->entropy};
    const struct learner_grad grad = {.dlogp = m->dlogp, .dentropy = m->dentropy};
    must(learner_forward(raw->trainee->learner, worker, raw->trainee->model, &m->batch, &out));
    learner_backward(raw->trainee->learner, worker, raw->trainee->model, &m->batch, &grad);
}

/* seconds of forward and backward alone */
static double measure_raw(struct trainee *trainee, const struct data *d, size_t tokens_per_microbatch, struct pool *pool)
{
    struct lesson lessons[EPISODES], *chosen[EPISODES];
    for (size_t i = 0; i < EPISODES; i++) {
        must(lesson_make(&lessons[i], &d->episodes[i], &trainee->arena));
        chosen[i] = &lessons[i];
    }
    const struct packing_options options = {
        .version = -1, .tokens_per_microbatch = tokens_per_microbatch, .workers = pool_threads(pool), .temperature = 1};
    struct raw raw = {.trainee = trainee};
    must(packing_make(chosen, EPISODES, &options, &trainee->arena, &raw.packing));
    for (size_t b = 0; b < raw.packing.count; b++) {
        for (size_t t = 0; t < raw.packing.microbatches[b].batch.targets; t++) raw.packing.microbatches[b].dlogp[t] = 1e-4f;
    }
    double best = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        double start = now();
        learner_zero(trainee->learner);
        pool_run(pool, raw.packing.count, true, run_raw, &raw);
        double took = now() - start;
        if (took < best) best = took;
    }
    arena_clear(&trainee->arena);
    return best;
}

static double measure_update(struct trainee *trainee, const struct data *d, size_t tokens_per_microbatch)
{
    const struct update_config config = {
        .terms = {.clip_low = 0.2, .clip_high = 0.28, .importance = LOSS_IMPORTANCE_tis, .cap = 1, .entropy = 0.003},
        .minibatches = 1,
        .epochs = 1,
        .tokens_per_microbatch = tokens_per_microbatch,
        .temperature = 1,
        .schedule = {.kind = SCHEDULE_constant, .peak = 1e-5}};
    double best = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        const struct update_batch batch = {
            .update = trainee->update + 1, .episodes = d->episodes, .count = EPISODES, .norm_tokens = d->norm_tokens};
        enum update_outcome outcome;
        struct diagnostics figures;
        double start = now();
        must(update_run(trainee, &config, &batch, NULL, &outcome, &figures));
        double took = now() - start;
        if (took < best) best = took;
    }
    return best;
}

static void measure(const char *preset, size_t threads, size_t tokens_per_microbatch, const struct data *d, json_t *rows)
{
    AUTO_PTR(pool) pool = NULL;
    AUTO_PTR(trainee) trainee = NULL;
    struct trainee_config config = {.adamw = ADAMW_DEFAULTS, .max_tokens = tokens_per_microbatch, .seed = 1};
    must(pool_new(&pool, threads));
    must(model_preset(preset, VOCAB, &config.model));
    must(trainee_new(&trainee, &config, pool));
    double raw = measure_raw(trainee, d, tokens_per_microbatch, pool),
           update = measure_update(trainee, d, tokens_per_microbatch);
    (void)printf("%-10s %7zu %10zu %12.1f %10.1f %9.0f %% %14.0f\n", preset, threads, tokens_per_microbatch, 1e3 * raw,
                 1e3 * update, 1e2 * (update / raw - 1), d->tokens / update);
    (void)json_array_append_new(rows, json_pack("{s:s, s:i, s:i, s:f, s:f, s:f}", "preset", preset, "threads", (int)threads,
                                                "tokens_per_microbatch", (int)tokens_per_microbatch, "engine_ms", 1e3 * raw,
                                                "update_ms", 1e3 * update, "tokens_per_second", d->tokens / update));
}

static const struct rig_words options[] = {{"--json", "ends with one JSON object"}, {NULL, NULL}};

int main(int argc, char **argv)
{
    rig_usage(argc, argv, options);
    static struct data data;
    fill(&data);
    json_t *rows = json_array();
    (void)printf("%.0f tokens, %.0f targets\n", data.tokens, data.norm_tokens);
    (void)printf("%-10s %7s %10s %12s %10s %11s %14s\n", "preset", "threads", "microbatch", "engine ms", "update ms",
                 "overhead", "tokens/s");
    for (size_t threads = 1; threads <= 2; threads++) {
        for (size_t size = 256; size <= 4096; size *= 4) measure("tiny-0.4m", threads, size, &data, rows);
    }
    measure("small-3m", 2, 1024, &data, rows);
    if (argc > 1 && strcmp(argv[1], "--json") == 0) {
        json_t *all = json_pack("{s:s, s:o}", "bench", "update", "rows", rows);
        (void)json_dumpf(all, stdout, JSON_COMPACT);
        (void)printf("\n");
        json_decref(all);
    } else {
        json_decref(rows);
    }
    return 0;
}
