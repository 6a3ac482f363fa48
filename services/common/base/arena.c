#include "services/common/base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define ALIGN       32u
#define BLOCK_BYTES 65536u

struct arena_block {
    struct arena_block *next;
    size_t size; /* usable bytes */
    size_t used;
    alignas(ALIGN) uint8_t bytes[];
};

#if defined(__SANITIZE_ADDRESS__)
#define ONE_EACH 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ONE_EACH 1
#endif
#endif
#ifndef ONE_EACH
#define ONE_EACH 0
#endif

void arena_init(struct arena *arena, size_t max_bytes)
{
    *arena = (struct arena){.max_bytes = max_bytes};
}

static void drop(struct arena_block *block)
{
    while (block) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
}

void arena_fini(struct arena *arena)
{
    drop(arena->head);
    arena->head = NULL;
    arena->used_bytes = 0;
}

void arena_clear(struct arena *arena)
{
    arena->used_bytes = 0;
    if (ONE_EACH || !arena->head) {
        arena_fini(arena);
        return;
    }
    drop(arena->head->next);
    arena->head->next = NULL;
    arena->head->used = 0;
}

static struct arena_block *grow(struct arena *arena, size_t need)
{
    size_t size = ONE_EACH || need > BLOCK_BYTES / 4 ? need : BLOCK_BYTES;
    struct arena_block *block = NULL;
    size_t total = (sizeof *block + size + ALIGN - 1) / ALIGN * ALIGN;
    block = aligned_alloc(ALIGN, total);
    if (!block) return NULL;
    *block = (struct arena_block){.size = size};
    /* an oversize block goes behind the head, so the head keeps serving small requests */
    if (!ONE_EACH && arena->head && size == need) {
        block->next = arena->head->next;
        arena->head->next = block;
    } else {
        block->next = arena->head;
        arena->head = block;
    }
    return block;
}

void *arena_take(struct arena *arena, size_t count, size_t size)
{
    size_t want = 0;
    if (__builtin_mul_overflow(count, size, &want) || want > SIZE_MAX / 2) {
        (void)err_set(ERR_too_large, "%zu items of %zu bytes", count, size);
        return NULL;
    }
    size_t need = (want + ALIGN - 1) / ALIGN * ALIGN;
    if (need == 0) need = ALIGN;
    if (arena->max_bytes && need > arena->max_bytes - arena->used_bytes) {
        (void)err_set(ERR_too_large, "%zu bytes more than the arena's limit of %zu", need, arena->max_bytes);
        return NULL;
    }
    struct arena_block *block = arena->head;
    if (ONE_EACH || !block || block->size - block->used < need) block = grow(arena, need);
    if (!block) {
        (void)err_set(ERR_memory, "%zu bytes", need);
        return NULL;
    }
    void *place = block->bytes + block->used;
    block->used += need;
    arena->used_bytes += need;
    return memset(place, 0, need);
}

char *arena_text(struct arena *arena, struct span text)
{
    char *copy = arena_take(arena, text.size + 1, 1);
    if (copy && text.size) memcpy(copy, text.data, text.size);
    return copy;
}

char *arena_printf(struct arena *arena, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0) {
        (void)err_set(ERR_invalid, "format %s", fmt);
        return NULL;
    }
    char *text = arena_take(arena, (size_t)n + 1, 1);
    if (!text) return NULL;
    va_start(args, fmt);
    (void)vsnprintf(text, (size_t)n + 1, fmt, args);
    va_end(args);
    return text;
}
