/* What both kinds of tokenizer have in common. */
#include "trainer/model/tokenizer_impl.h"

#include <stdlib.h>

void tokenizer_free(struct tokenizer **tokenizer)
{
    struct tokenizer *t = *tokenizer;
    *tokenizer = NULL;
    if (!t) return;
    free(t->ends);
    t->class->free(t);
}

int32_t tokenizer_vocab(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab;
}

enum tokenizer_end tokenizer_end(const struct tokenizer *tokenizer, int32_t id)
{
    BUG_IF(id < 0 || id >= tokenizer->vocab);
    return (enum tokenizer_end)tokenizer->ends[id];
}

err_t tokenizer_set_eos(struct tokenizer *tokenizer, const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= tokenizer->vocab)
            return err_set(ERR_invalid, "eos token %d is not within the vocabulary of %d", ids[i], tokenizer->vocab);
        tokenizer->ends[ids[i]] = TOKENIZER_END_eos;
    }
    return ERR_ok;
}

const int32_t *tokenizer_opening(const struct tokenizer *tokenizer, size_t *ret_count)
{
    *ret_count = tokenizer->opening_count;
    return tokenizer->opening;
}

int32_t tokenizer_special(const struct tokenizer *tokenizer, const char *name)
{
    return tokenizer->class->special(tokenizer, span_text(name));
}

static err_t encode(const struct tokenizer *t, struct span text, bool special, int32_t *ids, size_t capacity, size_t *count)
{
    struct tokenizer_sink sink = {ids, capacity, 0};
    TRY(t->class->encode(t, text, special, &sink));
    *count = sink.count;
    return ERR_ok;
}

err_t tokenizer_encode(const struct tokenizer *tokenizer, struct span text, int32_t *ids, size_t capacity, size_t *ret_count)
{
    return encode(tokenizer, text, false, ids, capacity, ret_count);
}

err_t tokenizer_encode_special(const struct tokenizer *tokenizer, struct span text, int32_t *ids, size_t capacity,
                               size_t *ret_count)
{
    return encode(tokenizer, text, true, ids, capacity, ret_count);
}

err_t tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= tokenizer->vocab)
            return err_set(ERR_invalid, "token %d is not within the vocabulary of %d", ids[i], tokenizer->vocab);
    }
    return tokenizer->class->decode(tokenizer, ids, count, out);
}

err_t tokenizer_export(const struct tokenizer *tokenizer, struct buf *out)
{
    return tokenizer->class->export(tokenizer, out);
}
