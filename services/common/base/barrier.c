#include "services/common/base/barrier.h"

#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPINS 2000 /* some tens of microseconds */

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Sleeps unless the phase has moved on. */
static void sleep_on(_Atomic uint32_t *phase, uint32_t old)
{
    (void)syscall(SYS_futex, phase, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
}

static void wake_all(_Atomic uint32_t *phase)
{
    (void)syscall(SYS_futex, phase, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void barrier_wait(struct barrier *b)
{
    uint32_t phase = atomic_load(&b->phase);
    if (atomic_fetch_add(&b->arrived, 1) + 1 == b->threads) {
        atomic_store(&b->arrived, 0);
        atomic_fetch_add(&b->phase, 1);
        if (atomic_load(&b->asleep) > 0) wake_all(&b->phase);
        return;
    }
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&b->phase) != phase) return;
        relax();
    }
    atomic_fetch_add(&b->asleep, 1);
    while (atomic_load(&b->phase) == phase) sleep_on(&b->phase, phase);
    atomic_fetch_sub(&b->asleep, 1);
}
