/* A tokenizer's inside, shared by tokenizer.c and tokenizer_export.c. */
#ifndef PAL_TRAINER_MODEL_TOKENIZER_IMPL_H
#define PAL_TRAINER_MODEL_TOKENIZER_IMPL_H

#include "trainer/model/tokenizer.h"

#define TOKENIZER_PADDING    0
#define TOKENIZER_UNKNOWN    1
#define TOKENIZER_FIRST      2 /* newline, then printable ASCII in order, then each word and its form after a space */
#define TOKENIZER_NEWLINE    TOKENIZER_FIRST
#define TOKENIZER_FIRST_WORD (TOKENIZER_FIRST + 1 + 95)

struct token {
    char text[40]; /* not terminated */
    size_t size;   /* 0 for padding and unknown */
};

/* A byte of some token's text; node 0 is the root, whose children are in a table of their own. */
struct trie_node {
    uint8_t byte;
    int32_t id; /* of the token that ends here, or 0 */
    uint32_t child;
    uint32_t sibling;
};

struct tokenizer {
    int32_t vocab;
    struct token *tokens; /* [vocab] */
    struct trie_node *nodes;
    uint32_t node_count;
    uint32_t node_capacity;
    uint32_t root[256];
};

#endif
