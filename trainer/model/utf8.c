#include "trainer/model/utf8.h"

#include <stdlib.h>
#include <utf8proc.h>

/* What may follow a lead byte (Unicode Standard, table 3-7): the second byte's bounds, and the length. */
struct lead {
    uint8_t size;
    uint8_t low;
    uint8_t high;
};

static struct lead lead_of(uint8_t byte)
{
    if (byte >= 0xc2 && byte <= 0xdf) return (struct lead){2, 0x80, 0xbf};
    if (byte == 0xe0) return (struct lead){3, 0xa0, 0xbf};
    if (byte == 0xed) return (struct lead){3, 0x80, 0x9f}; /* no surrogates */
    if (byte >= 0xe1 && byte <= 0xef) return (struct lead){3, 0x80, 0xbf};
    if (byte == 0xf0) return (struct lead){4, 0x90, 0xbf};
    if (byte >= 0xf1 && byte <= 0xf3) return (struct lead){4, 0x80, 0xbf};
    if (byte == 0xf4) return (struct lead){4, 0x80, 0x8f}; /* to U+10FFFF */
    return (struct lead){0, 0, 0};
}

size_t utf8_read(struct span text, uint32_t *ret)
{
    uint8_t first = text.data[0];
    if (first < 0x80) {
        *ret = first;
        return 1;
    }
    struct lead lead = lead_of(first);
    uint32_t code = first & (0x7fu >> lead.size);
    size_t at = 1;
    for (; at < lead.size && at < text.size; at++) {
        uint8_t byte = text.data[at];
        if (byte < (at == 1 ? lead.low : 0x80) || byte > (at == 1 ? lead.high : 0xbf)) break;
        code = code << 6 | (byte & 0x3fu);
    }
    bool whole = lead.size > 0 && at == lead.size;
    *ret = whole ? code : (uint32_t)at;
    return whole ? at : 0;
}

err_t utf8_append(struct buf *out, uint32_t code)
{
    uint8_t bytes[4];
    BUG_IF(code > 0x10ffff);
    return buf_append(out, bytes, (size_t)utf8proc_encode_char((utf8proc_int32_t)code, bytes));
}

err_t utf8_mend(struct span text, struct buf *out)
{
    size_t good = 0; /* bytes read and not yet appended */
    for (size_t at = 0; at < text.size;) {
        uint32_t code = 0;
        size_t n = utf8_read(span_of(text.data + at, text.size - at), &code);
        at += n > 0 ? n : code;
        good += n;
        if (n > 0) continue;
        TRY(buf_append(out, text.data + at - code - good, good));
        TRY(utf8_append(out, 0xfffd));
        good = 0;
    }
    return good > 0 ? buf_append(out, text.data + text.size - good, good) : ERR_ok;
}

err_t utf8_compose(struct span text, struct buf *out)
{
    utf8proc_uint8_t *composed = NULL;
    if (text.size == 0) return ERR_ok;
    utf8proc_ssize_t n = utf8proc_map(text.data, (utf8proc_ssize_t)text.size, &composed,
                                      (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (n < 0) return err_set(ERR_memory, "normal form C: %s", utf8proc_errmsg(n));
    err_t err = buf_append(out, composed, (size_t)n);
    free(composed);
    return err;
}

bool utf8_is_space(uint32_t code)
{
    if (code >= 0x2000 && code <= 0x200a) return true;
    return (code >= 9 && code <= 13) || code == 0x20 || code == 0x85 || code == 0xa0 || code == 0x1680 || code == 0x2028 ||
           code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}
