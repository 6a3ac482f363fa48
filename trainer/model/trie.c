#include "trainer/model/trie.h"

#include <stdlib.h>

#define FIRST_CAPACITY 1024

void trie_fini(struct trie *trie)
{
    free(trie->nodes);
    *trie = (struct trie){0};
}

/* the child of node by this byte, or 0 */
static uint32_t child_of(const struct trie *t, uint32_t node, uint8_t byte)
{
    if (node == 0) return t->root[byte];
    uint32_t at = t->nodes[node].child;
    while (at != 0 && t->nodes[at].byte != byte) at = t->nodes[at].sibling;
    return at;
}

static err_t grow(struct trie *t)
{
    uint32_t capacity = t->capacity ? t->capacity * 2 : FIRST_CAPACITY;
    struct trie_node *nodes = realloc(t->nodes, capacity * sizeof *nodes);
    if (!nodes) return err_set(ERR_memory, "a trie of %u nodes", capacity);
    t->nodes = nodes;
    t->capacity = capacity;
    if (t->count == 0) t->nodes[t->count++] = (struct trie_node){.id = -1};
    return ERR_ok;
}

static err_t add_child(struct trie *t, uint32_t node, uint8_t byte, uint32_t *ret)
{
    if (t->count == t->capacity) TRY(grow(t));
    uint32_t made = t->count++;
    t->nodes[made] = (struct trie_node){.byte = byte, .id = -1};
    if (node == 0) {
        t->root[byte] = made;
    } else {
        t->nodes[made].sibling = t->nodes[node].child;
        t->nodes[node].child = made;
    }
    *ret = made;
    return ERR_ok;
}

err_t trie_add(struct trie *trie, struct span text, int32_t id, int32_t *ret_id)
{
    uint32_t node = 0;
    BUG_IF(text.size == 0 || id < 0);
    for (size_t i = 0; i < text.size; i++) {
        uint32_t next = child_of(trie, node, text.data[i]);
        if (next == 0) TRY(add_child(trie, node, text.data[i], &next));
        node = next;
    }
    if (trie->nodes[node].id < 0) trie->nodes[node].id = id;
    *ret_id = trie->nodes[node].id;
    return ERR_ok;
}

int32_t trie_longest(const struct trie *trie, struct span text, size_t *ret_size)
{
    int32_t id = -1;
    uint32_t node = 0;
    for (size_t i = 0; i < text.size; i++) {
        node = child_of(trie, node, text.data[i]);
        if (node == 0) break;
        if (trie->nodes[node].id < 0) continue;
        id = trie->nodes[node].id;
        *ret_size = i + 1;
    }
    return id;
}
