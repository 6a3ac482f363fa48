#include "services/common/base/pool.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t start; /* a new round, or stopping */
    pthread_cond_t done;  /* a worker has left the round */
    size_t threads;       /* workers, the caller included */
    pthread_t *handles;   /* threads - 1 */
    size_t made;
    uint64_t round;
    size_t busy; /* workers other than the caller still in the round */
    bool stopping;
    size_t count, next;
    bool fixed;
    pool_work_t work;
    void *ctx;
};

struct pool_worker {
    struct pool *pool;
    size_t index;
};

static bool take(struct pool *pool, size_t *ret)
{
    (void)pthread_mutex_lock(&pool->lock);
    bool some = pool->next < pool->count;
    *ret = pool->next;
    if (some) pool->next++;
    (void)pthread_mutex_unlock(&pool->lock);
    return some;
}

static void play(struct pool *pool, size_t worker)
{
    if (pool->fixed) {
        for (size_t i = worker; i < pool->count; i += pool->threads) pool->work(pool->ctx, i, worker);
        return;
    }
    for (size_t i = 0; take(pool, &i);) pool->work(pool->ctx, i, worker);
}

static void *thread_main(void *arg)
{
    struct pool_worker self = *(struct pool_worker *)arg;
    free(arg);
    struct pool *pool = self.pool;
    uint64_t seen = 0;
    (void)pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->round == seen && !pool->stopping) (void)pthread_cond_wait(&pool->start, &pool->lock);
        if (pool->stopping) break;
        seen = pool->round;
        (void)pthread_mutex_unlock(&pool->lock);
        play(pool, self.index);
        (void)pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0) (void)pthread_cond_signal(&pool->done);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return NULL;
}

err_t pool_new(struct pool **ret, size_t threads)
{
    if (threads < 1 || threads > 256) return err_set(ERR_invalid, "a pool of %zu threads; 1 to 256 are allowed", threads);
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool) return err_set(ERR_memory, "a thread pool");
    pool->threads = threads;
    (void)pthread_mutex_init(&pool->lock, NULL);
    (void)pthread_cond_init(&pool->start, NULL);
    (void)pthread_cond_init(&pool->done, NULL);
    pool->handles = calloc(threads, sizeof *pool->handles);
    bool good = pool->handles != NULL;
    for (size_t i = 1; good && i < threads; i++) {
        struct pool_worker *worker = malloc(sizeof *worker);
        if (worker) *worker = (struct pool_worker){pool, i};
        good = worker && pthread_create(&pool->handles[pool->made], NULL, thread_main, worker) == 0;
        if (good)
            pool->made++;
        else
            free(worker);
    }
    if (!good) {
        pool_free(&pool);
        return err_set(ERR_memory, "a thread pool of %zu", threads);
    }
    *ret = pool;
    return ERR_ok;
}

void pool_free(struct pool **pool)
{
    struct pool *p = *pool;
    *pool = NULL;
    if (!p) return;
    (void)pthread_mutex_lock(&p->lock);
    p->stopping = true;
    (void)pthread_cond_broadcast(&p->start);
    (void)pthread_mutex_unlock(&p->lock);
    for (size_t i = 0; i < p->made; i++) (void)pthread_join(p->handles[i], NULL);
    (void)pthread_cond_destroy(&p->start);
    (void)pthread_cond_destroy(&p->done);
    (void)pthread_mutex_destroy(&p->lock);
    free(p->handles);
    free(p);
}

size_t pool_threads(const struct pool *pool)
{
    return pool->threads;
}

void pool_run(struct pool *pool, size_t count, bool fixed, pool_work_t work, void *ctx)
{
    (void)pthread_mutex_lock(&pool->lock);
    pool->count = count;
    pool->next = 0;
    pool->fixed = fixed;
    pool->work = work;
    pool->ctx = ctx;
    bool wake = pool->threads > 1 && count > 1;
    if (wake) {
        pool->busy = pool->threads - 1;
        pool->round++;
        (void)pthread_cond_broadcast(&pool->start);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    if (!wake) {
        for (size_t i = 0; i < count; i++) work(ctx, i, 0);
        return;
    }
    play(pool, 0);
    (void)pthread_mutex_lock(&pool->lock);
    while (pool->busy > 0) (void)pthread_cond_wait(&pool->done, &pool->lock);
    (void)pthread_mutex_unlock(&pool->lock);
}
