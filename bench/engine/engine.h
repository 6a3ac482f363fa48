/* What the parts of bench_engine share: shapes, clocks, limits of this machine, rows of the answer.
 *
 * Every limit (matrix products, reading memory) is measured in the same run; a share is the time that the limit allows over
 * the time it took. A figure is the best of several rounds by the wall's clock. With --cpu it is the mean of all rounds by
 * the processor time of this process divided by its threads: on a busy machine that is nearer to what a free one would show,
 * but a thread that waits for another is not seen. */
#ifndef PAL_BENCH_ENGINE_H
#define PAL_BENCH_ENGINE_H

#include "services/common/base/pool.h"
#include "trainer/model/model.h"

#include <jansson.h>

#define ENGINE_TOKENS 512 /* of a micro-batch: its arrays then stay in the caches */
#define ENGINE_VOCAB  279 /* ids of the presets' tokenizer in the demo's job */

struct engine_bench {
    size_t threads;
    bool quick;
    bool cpu;            /* the clock is processor time */
    size_t tokens;       /* of a micro-batch; 0: ENGINE_TOKENS */
    bool half;           /* the decoder's cache holds halves */
    char python[600];    /* the peer's; empty without a peer */
    struct pool *pool;   /* of `threads` */
    double best_product; /* rate of the best matrix product over that of the probe */
    struct products *probe;
    json_t *rows;
};

struct engine_shape {
    const char *name;
    struct model_config config;
};

/* index 0 to 3; false past the last */
bool shape_at(size_t index, struct engine_shape *ret);
double shape_matrices(const struct model_config *config); /* weights that a token is multiplied with, the head included */
struct model *shape_model(const struct engine_shape *shape, uint64_t seed);

double engine_wall(void); /* seconds */
/* One figure: rounds of meter_start, work, meter_stop; then meter_rate. */
struct meter {
    const struct engine_bench *bench;
    size_t threads; /* that work in a round */
    double started, best, work, seconds;
};
void meter_start(struct meter *meter);
void meter_stop(struct meter *meter, double work);
double meter_rate(const struct meter *meter); /* work per second */

void engine_must(err_t err);                              /* ends the program with the sentence */
void *engine_take(size_t bytes);                          /* zeroed, 64-byte aligned */
void engine_row(struct engine_bench *bench, json_t *row); /* takes it */

/* Ours beside OpenBLAS: prints a line and readies the probe. */
void rates_open(struct engine_bench *bench);
void rates_close(struct engine_bench *bench);
/* Products of ours on all threads for some seconds, to be measured between the rounds of a figure; and what the best product
 * would then be worth, in FLOP/s. */
void rates_probe(const struct engine_bench *bench, struct meter *meter, double seconds);
double rates_products(const struct engine_bench *bench, const struct meter *meter);
/* Bytes/s of a loop that reads `bytes` again and again, split over the threads. */
double rates_read(const struct engine_bench *bench, size_t bytes);

/* Means over a worker's targets, and the norm of all workers' gradient. */
struct train_check {
    double logp, entropy, norm;
};
/* Tokens/s of forward and backward of `times` micro-batches of `batch` sequences of `length` on each worker, every token a
 * target; what the products could do meanwhile, in FLOP/s. */
double train_rate(const struct engine_bench *bench, const struct engine_shape *shape, size_t batch, size_t length,
                  size_t times, double *ret_products, struct train_check *ret_check);
void train_bench(struct engine_bench *bench, const struct engine_shape *shape);
double train_flops(const struct model_config *config, size_t length); /* of one token, forward and backward */

void decode_bench(struct engine_bench *bench, const struct engine_shape *shape);
/* Tokens/s of `batch` slots that have `context` tokens each and get one more a step; products as above. */
double decode_rate(const struct engine_bench *bench, const struct engine_shape *shape, uint32_t batch, uint32_t context,
                   double *ret_products);

void memory_bench(struct engine_bench *bench, const struct engine_shape *shape);

/* Finds or makes the peer's Python, or ends the program. */
void peer_open(struct engine_bench *bench, const char *peer);
void peer_bench(struct engine_bench *bench, const struct engine_shape *shape);

#endif
