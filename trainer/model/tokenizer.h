/* Text to token ids and back.
 *
 * The presets' tokenizer: greedy longest match over newline, printable ASCII and the declared words (the environments'
 * vocabularies, each with an optional leading space form), about 280 ids. Every printable-ASCII text round-trips; other bytes
 * are one reserved `unknown` id. Id 0 is padding and never produced by encoding. Byte-level BPE of Hugging Face
 * directories joins behind the same calls. */
#ifndef PAL_TRAINER_MODEL_TOKENIZER_H
#define PAL_TRAINER_MODEL_TOKENIZER_H

#include "services/common/base/buf.h"

struct tokenizer;

/* Duplicate and single-character words are ignored; at most 4,096 words of at most 32 printable bytes. */
err_t tokenizer_new_words(struct tokenizer **ret, const char *const *words, size_t count) MUST_USE;
void tokenizer_free(struct tokenizer **tokenizer);

int32_t tokenizer_vocab(const struct tokenizer *tokenizer);
int32_t tokenizer_newline(const struct tokenizer *tokenizer); /* the id that ends an action */

/* Writes at most capacity ids; *ret_count is the number written. ERR_too_large when they do not fit. */
err_t tokenizer_encode(const struct tokenizer *tokenizer, struct span text, int32_t *ids, size_t capacity,
                       size_t *ret_count) MUST_USE;
err_t tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, struct buf *out) MUST_USE;
/* A tokenizer.json that Hugging Face's tokenizers loads and that gives the same ids for printable ASCII. */
err_t tokenizer_export(const struct tokenizer *tokenizer, struct buf *out) MUST_USE;

#endif
