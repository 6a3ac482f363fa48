#include "trainer/model/added.h"

#include "trainer/model/utf8.h"

#include <stdlib.h>

void added_fini(struct added *added)
{
    trie_fini(&added->raw);
    trie_fini(&added->normalized);
    free(added->tokens);
    *added = (struct added){0};
}

err_t added_index(struct added *added)
{
    for (size_t i = 0; i < added->count; i++) {
        const struct added_token *t = &added->tokens[i];
        int32_t place = -1;
        TRY(trie_add(t->normalized ? &added->normalized : &added->raw, t->text, (int32_t)i, &place));
        if (place != (int32_t)i)
            return err_set(ERR_malformed, "added token %d and added token %d are both \"%.60s\"", added->tokens[place].id,
                           t->id, (const char *)t->text.data);
    }
    return ERR_ok;
}

/* the beginning of the white space that text ends with */
static size_t space_before(struct span text, size_t from)
{
    size_t at = text.size;
    while (at > from) {
        size_t start = at - 1;
        uint32_t code = 0;
        while (start > from && (text.data[start] & 0xc0) == 0x80) start--;
        if (utf8_read(span_of(text.data + start, at - start), &code) == 0 || !utf8_is_space(code)) break;
        at = start;
    }
    return at;
}

static size_t space_after(struct span text, size_t at)
{
    uint32_t code = 0;
    while (at < text.size) {
        size_t n = utf8_read(span_of(text.data + at, text.size - at), &code);
        if (n == 0 || !utf8_is_space(code)) break;
        at += n;
    }
    return at;
}

const struct added_token *added_next(const struct added *added, bool normalized, bool special, struct span text, size_t from,
                                     size_t *ret_begin, size_t *ret_end)
{
    const struct trie *trie = normalized ? &added->normalized : &added->raw;
    for (size_t at = from, size = 0; trie->count > 0 && at < text.size; at++) {
        int32_t place = trie_longest(trie, span_of(text.data + at, text.size - at), &size);
        if (place < 0) continue;
        const struct added_token *t = &added->tokens[place];
        if (t->special && !special) {
            at += size - 1; /* its text is text; nothing within it is looked at */
            continue;
        }
        *ret_begin = t->lstrip ? space_before(span_of(text.data, at), from) : at;
        *ret_end = t->rstrip ? space_after(text, at + size) : at + size;
        return t;
    }
    return NULL;
}
