/* A set of byte strings with ids, and the longest of them that a text begins with. */
#ifndef PAL_TRAINER_MODEL_TRIE_H
#define PAL_TRAINER_MODEL_TRIE_H

#include "services/common/base/err.h"
#include "services/common/base/span.h"

/* A byte of some string; node 0 is the root, whose children are in a table of their own. */
struct trie_node {
    uint8_t byte;
    int32_t id; /* of the string that ends here, or -1 */
    uint32_t child;
    uint32_t sibling;
};

struct trie {
    struct trie_node *nodes;
    uint32_t count; /* 0: nothing was added yet */
    uint32_t capacity;
    uint32_t root[256];
};

void trie_fini(struct trie *trie);
/* id >= 0. A string (of at least one byte) that is there keeps its id: *ret_id is the one it has. */
err_t trie_add(struct trie *trie, struct span text, int32_t id, int32_t *ret_id) MUST_USE;
/* Its id, or -1 when text begins with none; *ret_size is its length. */
int32_t trie_longest(const struct trie *trie, struct span text, size_t *ret_size);

#endif
