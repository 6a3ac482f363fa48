/* Cutting text into pieces by regular expressions, as a tokenizer.json's pre_tokenizer says.
 *
 * Each splitter cuts every piece of the one before into its matches and what stands between them (behaviour Isolated). The
 * files' expressions are written for Oniguruma; they run on PCRE2 with Unicode properties. Where the two differ the pattern
 * is rewritten (\s is the property White_Space, not PCRE2's) or refused by name (\w, \h, anchors, nested classes): a pattern
 * that would cut differently is worse than none. */
#ifndef PAL_TRAINER_MODEL_SPLIT_H
#define PAL_TRAINER_MODEL_SPLIT_H

#include "services/common/base/buf.h"

#define SPLIT_PATTERN_BYTES 65536
#define SPLIT_MOST          8

struct split;

/* ERR_unsupported for a construct that is not translated, ERR_malformed when the pattern is none. */
err_t split_new(struct split **ret, struct span pattern) MUST_USE;
void split_free(struct split **split);

/* Calls piece(ctx, piece) for each piece of UTF-8 text in order, none of them empty; stops at its first error. ERR_too_large
 * when the expression needs more steps than a text may cost. */
err_t split_each(struct split *const *splits, size_t count, struct span text, err_t (*piece)(void *ctx, struct span piece),
                 void *ctx) MUST_USE;

/* Appends the pattern as PCRE2 is given it (for tests). */
err_t split_translate(struct span pattern, struct buf *out) MUST_USE;

#endif
