/* A growable byte buffer born with a maximum.
 *
 * Appends either succeed whole or return ERR_too_large / ERR_memory and change nothing. The bytes are always followed by a
 * zero that size does not count, so data may be used as text. */
#ifndef PAL_BASE_BUF_H
#define PAL_BASE_BUF_H

#include "services/common/base/err.h"
#include "services/common/base/span.h"

struct buf {
    uint8_t *data;
    size_t size;      /* bytes in use */
    size_t capacity;  /* bytes allocated */
    size_t max_bytes; /* most that size may become; 0 means BUF_DEFAULT_MAX_BYTES */
};

#define BUF_DEFAULT_MAX_BYTES ((size_t)256 << 20)

void buf_init(struct buf *buf, size_t max_bytes);
void buf_fini(struct buf *buf);
void buf_clear(struct buf *buf); /* size 0, keeps the memory */

err_t buf_reserve(struct buf *buf, size_t more) MUST_USE;
err_t buf_append(struct buf *buf, const void *bytes, size_t size) MUST_USE;
err_t buf_text(struct buf *buf, const char *text) MUST_USE;
err_t buf_printf(struct buf *buf, const char *fmt, ...) PRINTF(2, 3) MUST_USE;

static inline struct span buf_span(const struct buf *buf)
{
    return (struct span){buf->data, buf->size};
}

/* The bytes as a terminated string, never NULL. */
static inline const char *buf_chars(const struct buf *buf)
{
    return buf->data ? (const char *)buf->data : "";
}

#endif
