/* Text to token ids and back.
 *
 * Two kinds behind the same calls. The presets' (words): greedy longest match over newline, printable ASCII and the declared
 * words (the environments' vocabularies, each with an optional leading space form), about 280 ids; every printable-ASCII text
 * round-trips, other bytes are one reserved `unknown` id, id 0 is padding and never produced. Byte-level BPE, read from a
 * Hugging Face directory's tokenizer.json: every UTF-8 text round-trips (but for normal form C, where the file asks for it);
 * bytes that are not UTF-8 become U+FFFD before anything else.
 *
 * A tokenizer does not change after it is set up and may be used from several threads. */
#ifndef PAL_TRAINER_MODEL_TOKENIZER_H
#define PAL_TRAINER_MODEL_TOKENIZER_H

#include "services/common/base/buf.h"

#define TOKENIZER_FILE_BYTES ((size_t)64 << 20) /* longest tokenizer.json */

struct tokenizer;

/* Duplicate and single-character words are ignored; at most 4,096 words of at most 32 printable bytes. */
err_t tokenizer_new_words(struct tokenizer **ret, const char *const *words, size_t count) MUST_USE;
/* Byte-level BPE, or the words that tokenizer_export wrote. ERR_malformed and ERR_unsupported name what in the file is wrong
 * or is another kind of tokenizer. */
err_t tokenizer_open(struct span json, struct tokenizer **ret) MUST_USE;
void tokenizer_free(struct tokenizer **tokenizer);

int32_t tokenizer_vocab(const struct tokenizer *tokenizer); /* ids are below it; some of a BPE may be unused */

/* What a token does to an action that it is drawn for. */
enum tokenizer_end {
    TOKENIZER_END_none,
    TOKENIZER_END_newline, /* its text contains a newline: the action is what stands before */
    TOKENIZER_END_eos      /* the model ends its turn by it; it is no text */
};
enum tokenizer_end tokenizer_end(const struct tokenizer *tokenizer, int32_t id);
/* Names the eos ids; ERR_invalid for one that is not in the vocabulary. */
err_t tokenizer_set_eos(struct tokenizer *tokenizer, const int32_t *ids, size_t count) MUST_USE;

/* The ids that every text of this model begins with (Llama's begin-of-text), borrowed; none for most. */
const int32_t *tokenizer_opening(const struct tokenizer *tokenizer, size_t *ret_count);
/* The id of a token outside the text ("<|im_end|>"), or -1. */
int32_t tokenizer_special(const struct tokenizer *tokenizer, const char *name);

/* Writes at most capacity ids; *ret_count is the number written. ERR_too_large when they do not fit. The names of special
 * tokens are text like any other here: an observation cannot end a turn by saying "<|im_end|>". */
err_t tokenizer_encode(const struct tokenizer *tokenizer, struct span text, int32_t *ids, size_t capacity,
                       size_t *ret_count) MUST_USE;
/* As above, but names of special tokens become those tokens: for text that is trusted. */
err_t tokenizer_encode_special(const struct tokenizer *tokenizer, struct span text, int32_t *ids, size_t capacity,
                               size_t *ret_count) MUST_USE;
/* UTF-8; special tokens are printed by name. */
err_t tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, struct buf *out) MUST_USE;
/* A tokenizer.json that Hugging Face's tokenizers loads and that gives the same ids for printable ASCII. Words only: the
 * tokenizer.json of a BPE is the one it was opened from (ERR_unsupported). */
err_t tokenizer_export(const struct tokenizer *tokenizer, struct buf *out) MUST_USE;

#endif
