/* Borrowed bytes and text: a pointer and a length, owned by somebody else. */
#ifndef PAL_BASE_SPAN_H
#define PAL_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const uint8_t *data; /* may be NULL when size is 0 */
    size_t size;         /* bytes */
};

static inline struct span span_of(const void *data, size_t size)
{
    return (struct span){data, size};
}

/* The bytes of a terminated string, without the terminator; NULL gives the empty span. */
static inline struct span span_text(const char *text)
{
    return (struct span){(const uint8_t *)text, text ? strlen(text) : 0};
}

static inline bool span_equal(struct span a, struct span b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool span_is(struct span a, const char *text)
{
    return span_equal(a, span_text(text));
}

/* For printf("%.*s", SPAN_ARG(s)). */
#define SPAN_ARG(s) (int)(s).size, (const char *)(s).data

#endif
