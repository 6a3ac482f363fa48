/* A meeting point of a fixed number of threads, for phases of a few microseconds: who comes early spins a while, then sleeps.
 *
 * Everything that a thread wrote before its barrier_wait is seen by all after theirs. Zeroed memory is a barrier, once
 * `threads` is set; it may be used again at once. */
#ifndef PAL_BASE_BARRIER_H
#define PAL_BASE_BARRIER_H

#include <stdatomic.h>
#include <stdint.h>

struct barrier {
    uint32_t threads;
    _Atomic uint32_t arrived;
    _Atomic uint32_t phase; /* counts the meetings */
    _Atomic uint32_t asleep;
};

void barrier_wait(struct barrier *barrier);

#endif
