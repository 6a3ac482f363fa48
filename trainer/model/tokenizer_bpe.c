/* Byte-level BPE at work: added tokens, normal form, pieces, merges (the order of Hugging Face's tokenizers). */
#include "trainer/model/tokenizer_bpe.h"

#include "trainer/model/utf8.h"

#include <stdlib.h>

/* One text on its way through. */
struct encoding {
    const struct tokenizer_bpe *t;
    struct tokenizer_sink *sink;
    bool special;
    struct bpe_scratch scratch;
    int32_t *ids; /* [room] of one piece */
    size_t room;
};

static void encoding_fini(struct encoding *e)
{
    bpe_scratch_fini(&e->scratch);
    free(e->ids);
}

static err_t encode_piece(void *ctx, struct span piece)
{
    struct encoding *e = ctx;
    size_t count = 0, size = 0;
    if (e->t->ignore_merges) {
        int32_t id = trie_longest(&e->t->whole, piece, &size);
        if (id >= 0 && size == piece.size) return tokenizer_put(e->sink, id);
    }
    if (piece.size > e->room) {
        size_t room = piece.size < 64 ? 64 : piece.size;
        int32_t *ids = realloc(e->ids, room * sizeof *ids);
        if (!ids) return err_set(ERR_memory, "a piece of %zu bytes", piece.size);
        e->ids = ids;
        e->room = room;
    }
    TRY(bpe_cut(&e->t->bpe, &e->scratch, piece, e->ids, &count));
    for (size_t i = 0; i < count; i++) TRY(tokenizer_put(e->sink, e->ids[i]));
    return ERR_ok;
}

static err_t encode_text(struct encoding *e, struct span text)
{
    return split_each(e->t->splits, e->t->split_count, text, encode_piece, e);
}

/* between `next`'s finds in text goes on to `rest` */
static err_t around_added(struct encoding *e, bool normalized, struct span text,
                          err_t (*rest)(struct encoding *e, struct span text))
{
    size_t at = 0, begin = 0, end = 0;
    while (at < text.size) {
        const struct added_token *found = added_next(&e->t->added, normalized, e->special, text, at, &begin, &end);
        if (!found) begin = end = text.size;
        if (begin > at) TRY(rest(e, span_of(text.data + at, begin - at)));
        if (found) TRY(tokenizer_put(e->sink, found->id));
        at = end;
    }
    return ERR_ok;
}

static err_t encode_normalized(struct encoding *e, struct span text)
{
    return around_added(e, true, text, encode_text);
}

static err_t encode_raw(struct encoding *e, struct span text)
{
    AUTO(buf) composed = {0};
    if (!e->t->compose) return encode_normalized(e, text);
    TRY(utf8_compose(text, &composed));
    return encode_normalized(e, buf_span(&composed));
}

static err_t bpe_encode(const struct tokenizer *tokenizer, struct span text, bool special, struct tokenizer_sink *sink)
{
    AUTO(encoding) e = {.t = (const struct tokenizer_bpe *)tokenizer, .sink = sink, .special = special};
    AUTO(buf) mended = {0};
    TRY(utf8_mend(text, &mended));
    return around_added(&e, false, buf_span(&mended), encode_raw);
}

static err_t bpe_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, struct buf *out)
{
    const struct tokenizer_bpe *t = (const struct tokenizer_bpe *)tokenizer;
    AUTO(buf) bytes = {0};
    for (size_t i = 0; i < count; i++) {
        if (t->text[ids[i]].size > 0) TRY(buf_append(&bytes, t->text[ids[i]].data, t->text[ids[i]].size));
    }
    return utf8_mend(buf_span(&bytes), out); /* a token may end within a character */
}

static err_t bpe_export(const struct tokenizer *tokenizer, struct buf *out)
{
    (void)tokenizer;
    (void)out;
    return err_set(ERR_unsupported, "a BPE tokenizer's file is the one that it was read from");
}

static int32_t bpe_special(const struct tokenizer *tokenizer, struct span name)
{
    const struct added *added = &((const struct tokenizer_bpe *)tokenizer)->added;
    for (size_t i = 0; i < added->count; i++) {
        if (span_equal(added->tokens[i].text, name)) return added->tokens[i].id;
    }
    return -1;
}

static void bpe_free(struct tokenizer *tokenizer)
{
    struct tokenizer_bpe *t = (struct tokenizer_bpe *)tokenizer;
    for (size_t i = 0; i < t->split_count; i++) split_free(&t->splits[i]);
    added_fini(&t->added);
    trie_fini(&t->whole);
    bpe_fini(&t->bpe);
    arena_fini(&t->texts);
    free(t->text);
    free(t);
}

static const struct tokenizer_class BPE = {bpe_free, bpe_encode, bpe_decode, bpe_export, bpe_special};

err_t tokenizer_bpe_new(struct tokenizer_bpe **ret)
{
    struct tokenizer_bpe *t = calloc(1, sizeof *t);
    if (!t) return err_set(ERR_memory, "a tokenizer");
    t->base.class = &BPE;
    bpe_init(&t->bpe);
    *ret = t;
    return ERR_ok;
}
