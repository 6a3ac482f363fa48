/* Per-batch memory: many allocations, one release.
 *
 * Blocks are zeroed and live until arena_clear or arena_fini. An arena has a maximum, so what a peer sends can never take
 * more than its limit. Under AddressSanitizer each allocation is a malloc of its own, so overruns are seen. */
#ifndef PAL_BASE_ARENA_H
#define PAL_BASE_ARENA_H

#include "services/common/base/err.h"
#include "services/common/base/span.h"

struct arena_block;

struct arena {
    struct arena_block *head;
    size_t used_bytes;
    size_t max_bytes; /* 0: no limit */
};

void arena_init(struct arena *arena, size_t max_bytes);
void arena_fini(struct arena *arena);
void arena_clear(struct arena *arena); /* keeps one block for reuse */

/* count * size zeroed bytes, aligned to 32; NULL when past the maximum or out of memory (err_set is done). */
void *arena_take(struct arena *arena, size_t count, size_t size) MUST_USE;
#define arena_array(arena, type, count) ((type *)arena_take((arena), (count), sizeof(type)))

/* A terminated copy; NULL as above. */
char *arena_text(struct arena *arena, struct span text) MUST_USE;
char *arena_printf(struct arena *arena, const char *fmt, ...) PRINTF(2, 3) MUST_USE;

#endif
