/* LABELS: unit thread
 * barrier: nobody passes before all have come, and what was written before is seen after; with more threads than processors,
 * so that some sleep. */
#include "services/common/base/barrier.h"
#include "services/common/base/pool.h"

#include <check.h>

#define THREADS  5
#define MEETINGS 2000

struct relay {
    struct barrier barrier;
    uint64_t written[THREADS]; /* not atomic: the barrier orders them */
    uint64_t wrong;
};

static void run(void *ctx, size_t index, size_t worker)
{
    struct relay *relay = ctx;
    uint64_t wrong = 0;
    (void)worker;
    for (uint64_t meeting = 1; meeting <= MEETINGS; meeting++) {
        relay->written[index] = meeting;
        barrier_wait(&relay->barrier);
        for (size_t i = 0; i < THREADS; i++) wrong += relay->written[i] != meeting;
        barrier_wait(&relay->barrier);
    }
    __atomic_fetch_add(&relay->wrong, wrong, __ATOMIC_RELAXED);
}

START_TEST(all_meet)
{
    struct relay relay = {.barrier = {.threads = THREADS}};
    struct pool *pool = NULL;
    ck_assert_int_eq(pool_new(&pool, THREADS), ERR_ok);
    pool_run(pool, THREADS, true, run, &relay);
    ck_assert_uint_eq(relay.wrong, 0);
    ck_assert_uint_eq(relay.barrier.phase, 2 * MEETINGS);
    ck_assert_uint_eq(relay.barrier.arrived, 0);
    pool_free(&pool);
}
END_TEST

START_TEST(alone_nobody_waits)
{
    struct barrier barrier = {.threads = 1};
    for (int i = 0; i < 3; i++) barrier_wait(&barrier);
    ck_assert_uint_eq(barrier.phase, 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("barrier");
    TCase *tcase = tcase_create("barrier");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, all_meet);
    tcase_add_test(tcase, alone_nobody_waits);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
