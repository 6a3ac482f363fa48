/* The presets' tokenizer: greedy longest match over newline, printable ASCII and words. */
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

/* gives the text the next id, unless it has one */
static err_t add_token(struct words *w, struct span text)
{
    int32_t id = -1;
    TRY(trie_add(&w->trie, text, w->base.vocab, &id));
    if (id != w->base.vocab) return ERR_ok;
    struct token *token = &w->tokens[w->base.vocab++];
    memcpy(token->text, text.data, text.size);
    token->size = text.size;
    return ERR_ok;
}

static err_t add_word(struct words *w, const char *word)
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
    TRY(add_token(w, text));
    return add_token(w, span_of(spaced, text.size + 1));
}

static err_t words_init(struct words *w, const char *const *words, size_t count)
{
    size_t most = TOKENIZER_FIRST_WORD + 2 * count;
    w->tokens = calloc(most, sizeof *w->tokens);
    w->base.ends = calloc(most, sizeof *w->base.ends);
    if (!w->tokens || !w->base.ends) return err_set(ERR_memory, "a tokenizer");
    w->base.vocab = TOKENIZER_FIRST;
    w->base.ends[TOKENIZER_NEWLINE] = TOKENIZER_END_newline;
    TRY(add_token(w, span_text("\n")));
    for (char byte = PRINTABLE_MIN; byte <= PRINTABLE_MAX; byte++) TRY(add_token(w, span_of(&byte, 1)));
    for (size_t i = 0; i < count; i++) TRY(add_word(w, words[i]));
    return ERR_ok;
}

static void words_free(struct tokenizer *tokenizer)
{
    struct words *w = (struct words *)tokenizer;
    trie_fini(&w->trie);
    free(w->tokens);
    free(w);
}

static err_t words_encode(const struct tokenizer *tokenizer, struct span text, bool special, struct tokenizer_sink *sink)
{
    const struct words *w = (const struct words *)tokenizer;
    (void)special; /* no text names padding or unknown */
    for (size_t at = 0, size = 0; at < text.size; at += size) {
        int32_t id = trie_longest(&w->trie, span_of(text.data + at, text.size - at), &size);
        if (id < 0) size = 1;
        TRY(tokenizer_put(sink, id < 0 ? TOKENIZER_UNKNOWN : id));
    }
    return ERR_ok;
}

static err_t words_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, struct buf *out)
{
    const struct words *w = (const struct words *)tokenizer;
    for (size_t i = 0; i < count; i++) {
        const struct token *token = &w->tokens[ids[i]];
        if (ids[i] == TOKENIZER_UNKNOWN)
            TRY(buf_text(out, "?"));
        else if (token->size > 0)
            TRY(buf_append(out, token->text, token->size));
    }
    return ERR_ok;
}

static int32_t words_special(const struct tokenizer *tokenizer, struct span name)
{
    (void)tokenizer;
    (void)name;
    return -1;
}

static const struct tokenizer_class WORDS = {words_free, words_encode, words_decode, words_export, words_special};

err_t tokenizer_new_words(struct tokenizer **ret, const char *const *words, size_t count)
{
    if (count > MAX_WORDS) return err_set(ERR_too_large, "%zu words; at most %d are allowed", count, MAX_WORDS);
    struct words *w = calloc(1, sizeof *w);
    if (!w) return err_set(ERR_memory, "a tokenizer");
    w->base.class = &WORDS;
    err_t err = words_init(w, words, count);
    struct tokenizer *t = &w->base;
    if (err != ERR_ok)
        tokenizer_free(&t);
    else
        *ret = t;
    return err;
}
