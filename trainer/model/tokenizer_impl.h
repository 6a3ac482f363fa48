/* A tokenizer's inside: what both kinds have, and the words kind, shared by tokenizer_words.c, tokenizer_export.c
 * and tokenizer_import.c. */
#ifndef PAL_TRAINER_MODEL_TOKENIZER_IMPL_H
#define PAL_TRAINER_MODEL_TOKENIZER_IMPL_H

#include "trainer/model/tokenizer.h"
#include "trainer/model/trie.h"

#include <jansson.h>

/* Ids on their way out. */
struct tokenizer_sink {
    int32_t *ids;
    size_t capacity;
    size_t count;
};

static inline err_t tokenizer_put(struct tokenizer_sink *sink, int32_t id)
{
    if (sink->count == sink->capacity) return err_set(ERR_too_large, "the text takes more than %zu tokens", sink->capacity);
    sink->ids[sink->count++] = id;
    return ERR_ok;
}

struct tokenizer_class {
    void (*free)(struct tokenizer *tokenizer);
    err_t (*encode)(const struct tokenizer *tokenizer, struct span text, bool special, struct tokenizer_sink *sink);
    err_t (*decode)(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, struct buf *out);
    err_t (*export)(const struct tokenizer *tokenizer, struct buf *out);
    int32_t (*special)(const struct tokenizer *tokenizer, struct span name);
};

#define TOKENIZER_OPENING 8

struct tokenizer {
    const struct tokenizer_class *class;
    int32_t vocab;
    uint8_t *ends; /* [vocab] enum tokenizer_end */
    int32_t opening[TOKENIZER_OPENING];
    size_t opening_count;
};

/* ---- words ---- */

#define TOKENIZER_PADDING    0
#define TOKENIZER_UNKNOWN    1
#define TOKENIZER_FIRST      2 /* newline, then printable ASCII in order, then each word and its form after a space */
#define TOKENIZER_NEWLINE    TOKENIZER_FIRST
#define TOKENIZER_FIRST_WORD (TOKENIZER_FIRST + 1 + 95)

struct token {
    char text[40]; /* not terminated */
    size_t size;   /* 0 for padding and unknown */
};

struct words {
    struct tokenizer base;
    struct token *tokens; /* [vocab] */
    struct trie trie;
};

err_t words_export(const struct tokenizer *tokenizer, struct buf *out) MUST_USE;
/* The tokenizer that words_export wrote as root; ERR_malformed, ERR_unsupported for any other. */
err_t words_open(const json_t *root, struct tokenizer **ret) MUST_USE;

#endif
