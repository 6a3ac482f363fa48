#include "trainer/model/tokenizer_impl.h"

#include <stdlib.h>

#define MAX_WORDS      4096
#define MAX_WORD_BYTES 32
#define PRINTABLE_MIN  ' '
#define PRINTABLE_MAX  '~'

static bool printable(uint8_t byte)
{
    return byte >= PRINTABLE_MIN && byte <= PRINTABLE_MAX;
}

/* the child of node by this byte, or 0 */
static uint32_t child_of(const struct tokenizer *t, uint32_t node, uint8_t byte)
{
    if (node == 0) return t->root[byte];
    uint32_t at = t->nodes[node].child;
    while (at != 0 && t->nodes[at].byte != byte) at = t->nodes[at].sibling;
    return at;
}

static err_t add_child(struct tokenizer *t, uint32_t node, uint8_t byte, uint32_t *ret)
{
    if (t->node_count == t->node_capacity) {
        uint32_t capacity = t->node_capacity * 2;
        struct trie_node *nodes = realloc(t->nodes, capacity * sizeof *nodes);
        if (!nodes) return err_set(ERR_memory, "a tokenizer");
        t->nodes = nodes;
        t->node_capacity = capacity;
    }
    uint32_t made = t->node_count++;
    t->nodes[made] = (struct trie_node){.byte = byte};
    if (node == 0) {
        t->root[byte] = made;
    } else {
        t->nodes[made].sibling = t->nodes[node].child;
        t->nodes[node].child = made;
    }
    *ret = made;
    return ERR_ok;
}

/* gives the text the next id, unless it has one */
static err_t add_token(struct tokenizer *t, struct span text)
{
    uint32_t node = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint32_t next = child_of(t, node, text.data[i]);
        if (next == 0) TRY(add_child(t, node, text.data[i], &next));
        node = next;
    }
    if (t->nodes[node].id != 0) return ERR_ok;
    struct token *token = &t->tokens[t->vocab];
    memcpy(token->text, text.data, text.size);
    token->size = text.size;
    t->nodes[node].id = t->vocab++;
    return ERR_ok;
}

static err_t add_word(struct tokenizer *t, const char *word)
{
    struct span text = span_text(word);
    if (text.size == 0 || text.size > MAX_WORD_BYTES)
        return err_set(ERR_invalid, "a word of %zu bytes; 1 to %d are allowed", text.size, MAX_WORD_BYTES);
    for (size_t i = 0; i < text.size; i++) {
        if (!printable(text.data[i])) return err_set(ERR_invalid, "word with byte 0x%02x, not printable ASCII", text.data[i]);
    }
    if (text.size == 1) return ERR_ok;
    char spaced[MAX_WORD_BYTES + 1] = " ";
    memcpy(spaced + 1, word, text.size);
    TRY(add_token(t, text));
    return add_token(t, span_of(spaced, text.size + 1));
}

static err_t tokenizer_init(struct tokenizer *t, const char *const *words, size_t count)
{
    size_t most = TOKENIZER_FIRST_WORD + 2 * count;
    t->tokens = calloc(most, sizeof *t->tokens);
    t->node_capacity = 1024;
    t->nodes = calloc(t->node_capacity, sizeof *t->nodes);
    if (!t->tokens || !t->nodes) return err_set(ERR_memory, "a tokenizer");
    t->node_count = 1; /* 0 is the root */
    t->vocab = TOKENIZER_FIRST;
    TRY(add_token(t, span_text("\n")));
    for (char byte = PRINTABLE_MIN; byte <= PRINTABLE_MAX; byte++) TRY(add_token(t, span_of(&byte, 1)));
    for (size_t i = 0; i < count; i++) TRY(add_word(t, words[i]));
    return ERR_ok;
}

err_t tokenizer_new_words(struct tokenizer **ret, const char *const *words, size_t count)
{
    if (count > MAX_WORDS) return err_set(ERR_too_large, "%zu words; at most %d are allowed", count, MAX_WORDS);
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t) return err_set(ERR_memory, "a tokenizer");
    err_t err = tokenizer_init(t, words, count);
    if (err != ERR_ok)
        tokenizer_free(&t);
    else
        *ret = t;
    return err;
}

void tokenizer_free(struct tokenizer **tokenizer)
{
    struct tokenizer *t = *tokenizer;
    *tokenizer = NULL;
    if (!t) return;
    free(t->nodes);
    free(t->tokens);
    free(t);
}

int32_t tokenizer_vocab(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab;
}

int32_t tokenizer_newline(const struct tokenizer *tokenizer)
{
    (void)tokenizer;
    return TOKENIZER_NEWLINE;
}

/* the longest token that text begins with, and its bytes */
static int32_t longest(const struct tokenizer *t, struct span text, size_t *ret_size)
{
    int32_t id = TOKENIZER_UNKNOWN;
    uint32_t node = 0;
    *ret_size = 1;
    for (size_t i = 0; i < text.size; i++) {
        node = child_of(t, node, text.data[i]);
        if (node == 0) break;
        if (t->nodes[node].id == 0) continue;
        id = t->nodes[node].id;
        *ret_size = i + 1;
    }
    return id;
}

err_t tokenizer_encode(const struct tokenizer *tokenizer, struct span text, int32_t *ids, size_t capacity, size_t *ret_count)
{
    size_t count = 0, size = 0;
    for (size_t at = 0; at < text.size; at += size) {
        if (count == capacity)
            return err_set(ERR_too_large, "a text of %zu bytes takes more than %zu tokens", text.size, capacity);
        ids[count++] = longest(tokenizer, span_of(text.data + at, text.size - at), &size);
    }
    *ret_count = count;
    return ERR_ok;
}

err_t tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= tokenizer->vocab)
            return err_set(ERR_invalid, "token %d is not within the vocabulary of %d", ids[i], tokenizer->vocab);
    }
    for (size_t i = 0; i < count; i++) {
        const struct token *token = &tokenizer->tokens[ids[i]];
        if (ids[i] == TOKENIZER_UNKNOWN)
            TRY(buf_text(out, "?"));
        else if (token->size > 0)
            TRY(buf_append(out, token->text, token->size));
    }
    return ERR_ok;
}
