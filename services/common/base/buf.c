#include "services/common/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void buf_init(struct buf *buf, size_t max_bytes)
{
    *buf = (struct buf){.max_bytes = max_bytes};
}

void buf_fini(struct buf *buf)
{
    free(buf->data);
    buf->data = NULL;
    buf->size = buf->capacity = 0;
}

void buf_clear(struct buf *buf)
{
    buf->size = 0;
    if (buf->data) buf->data[0] = 0;
}

err_t buf_reserve(struct buf *buf, size_t more)
{
    size_t limit = buf->max_bytes ? buf->max_bytes : BUF_DEFAULT_MAX_BYTES;
    if (more > limit || buf->size > limit - more) return err_set(ERR_too_large, "a buffer of %zu bytes is full", limit);
    size_t need = buf->size + more + 1;
    if (need <= buf->capacity) return ERR_ok;
    size_t capacity = buf->capacity ? buf->capacity * 2 : 256;
    if (capacity < need) capacity = need;
    uint8_t *data = realloc(buf->data, capacity);
    if (!data) return err_set(ERR_memory, "%zu bytes", capacity);
    buf->data = data;
    buf->capacity = capacity;
    return ERR_ok;
}

err_t buf_append(struct buf *buf, const void *bytes, size_t size)
{
    TRY(buf_reserve(buf, size));
    if (size) memcpy(buf->data + buf->size, bytes, size);
    buf->size += size;
    buf->data[buf->size] = 0;
    return ERR_ok;
}

err_t buf_text(struct buf *buf, const char *text)
{
    return buf_append(buf, text, strlen(text));
}

err_t buf_printf(struct buf *buf, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0) return err_set(ERR_invalid, "format %s", fmt);
    TRY(buf_reserve(buf, (size_t)n));
    va_start(args, fmt);
    (void)vsnprintf((char *)buf->data + buf->size, (size_t)n + 1, fmt, args);
    va_end(args);
    buf->size += (size_t)n;
    return ERR_ok;
}
