/* Added tokens of a tokenizer.json: texts that are one token wherever they stand.
 *
 * They are found before anything else, leftmost and longest first: those that are not normalised in the text as it is, then
 * the others in the normalised text. A token with lstrip or rstrip takes the white space beside it. */
#ifndef PAL_TRAINER_MODEL_ADDED_H
#define PAL_TRAINER_MODEL_ADDED_H

#include "trainer/model/trie.h"

struct added_token {
    struct span text; /* owned by the tokenizer */
    int32_t id;
    bool special; /* outside of text: <|im_end|> */
    bool normalized;
    bool lstrip, rstrip;
};

/* Two sets, because they are looked for in different texts; ids of the tries are places in tokens. */
struct added {
    struct added_token *tokens;
    size_t count;
    struct trie raw, normalized;
};

void added_fini(struct added *added);
/* After tokens are there: the tries. ERR_malformed when two tokens have the same text. */
err_t added_index(struct added *added) MUST_USE;

/* Where the next token is in text, at or after byte `from`; special false passes special ones over. NULL: there is none. The
 * token takes bytes [*ret_begin, *ret_end), white space included, never before `from`. */
const struct added_token *added_next(const struct added *added, bool normalized, bool special, struct span text, size_t from,
                                     size_t *ret_begin, size_t *ret_end);

#endif
