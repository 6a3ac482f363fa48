/* A process's compute threads: made once, passed to whoever computes.
 *
 * pool_run calls work(ctx, index, worker) once for each index in [0, count) and returns when all are done; the caller's
 * thread is worker 0. With `fixed` assignment index i runs on worker i % threads, so that per-worker reductions are
 * bit-identical from run to run; otherwise idle workers take the next index. Idle threads sleep on a condition variable. */
#ifndef PAL_BASE_POOL_H
#define PAL_BASE_POOL_H

#include "services/common/base/err.h"

struct pool;

typedef void (*pool_work_t)(void *ctx, size_t index, size_t worker);

err_t pool_new(struct pool **ret, size_t threads) MUST_USE; /* threads >= 1, at most 256; 1 makes no thread */
void pool_free(struct pool **pool);
size_t pool_threads(const struct pool *pool);
void pool_run(struct pool *pool, size_t count, bool fixed, pool_work_t work, void *ctx);

#endif
