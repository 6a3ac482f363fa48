/* tokenizer.json: greedy longest match as a WordLevel model behind a Split whose pattern lists every token, longest first.
 * A regular expression takes the first alternative that fits, so that is the longest; the last one takes any other character
 * alone, which the model then finds unknown. The special tokens' names are not ASCII, so no ASCII text contains one. */
#include "trainer/model/tokenizer_impl.h"

#include <jansson.h>
#include <stdlib.h>

#define PADDING_NAME "\xe2\x9f\xa8pad\xe2\x9f\xa9" /* U+27E8, U+27E9: mathematical angle brackets */
#define UNKNOWN_NAME "\xe2\x9f\xa8unk\xe2\x9f\xa9"

static int longer_first(const void *a, const void *b)
{
    const struct token *x = *(const struct token *const *)a, *y = *(const struct token *const *)b;
    if (x->size != y->size) return x->size > y->size ? -1 : 1;
    return memcmp(x->text, y->text, x->size);
}

static err_t append_escaped(struct buf *pattern, const struct token *token)
{
    for (size_t i = 0; i < token->size; i++) {
        char c = token->text[i];
        bool plain = c == ' ' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (c == '\n')
            TRY(buf_text(pattern, "\\n"));
        else
            TRY(buf_printf(pattern, plain ? "%c" : "\\%c", c));
    }
    return ERR_ok;
}

static err_t append_pattern(const struct words *t, const struct token **order, struct buf *pattern)
{
    size_t count = (size_t)t->base.vocab - TOKENIZER_FIRST;
    for (size_t i = 0; i < count; i++) order[i] = &t->tokens[TOKENIZER_FIRST + i];
    qsort(order, count, sizeof *order, longer_first);
    for (size_t i = 0; i < count; i++) {
        TRY(append_escaped(pattern, order[i]));
        TRY(buf_text(pattern, "|"));
    }
    return buf_text(pattern, "[\\s\\S]");
}

static err_t build_pattern(const struct words *t, struct buf *pattern)
{
    const struct token **order = calloc((size_t)t->base.vocab, sizeof *order);
    if (!order) return err_set(ERR_memory, "a tokenizer's pattern");
    err_t err = append_pattern(t, order, pattern);
    free(order);
    return err;
}

static json_t *special(int id, const char *name)
{
    return json_pack("{s:i s:s s:b s:b s:b s:b s:b}", "id", id, "content", name, "single_word", 0, "lstrip", 0, "rstrip", 0,
                     "normalized", 0, "special", 1);
}

static json_t *vocabulary(const struct words *t)
{
    json_t *vocab = json_object();
    int bad = json_object_set_new(vocab, PADDING_NAME, json_integer(TOKENIZER_PADDING));
    bad |= json_object_set_new(vocab, UNKNOWN_NAME, json_integer(TOKENIZER_UNKNOWN));
    for (int32_t id = TOKENIZER_FIRST; id < t->base.vocab; id++) {
        char text[sizeof t->tokens->text + 1] = "";
        memcpy(text, t->tokens[id].text, t->tokens[id].size);
        bad |= json_object_set_new(vocab, text, json_integer(id));
    }
    if (!bad) return vocab;
    json_decref(vocab);
    return NULL;
}

err_t words_export(const struct tokenizer *tokenizer, struct buf *out)
{
    const struct words *w = (const struct words *)tokenizer;
    AUTO(buf) pattern = {0};
    TRY(build_pattern(w, &pattern));
    /* json_pack takes the references and frees them when it fails; a NULL among them makes it fail */
    json_t *json =
        json_pack("{s:s s:n s:n s:[o o] s:n s:{s:s s:{s:s} s:s s:b} s:n s:{s:s} s:{s:s s:o s:s}}", "version", "1.0",
                  "truncation", "padding", "added_tokens", special(TOKENIZER_PADDING, PADDING_NAME),
                  special(TOKENIZER_UNKNOWN, UNKNOWN_NAME), "normalizer", "pre_tokenizer", "type", "Split", "pattern",
                  "Regex", buf_chars(&pattern), "behavior", "Isolated", "invert", 0, "post_processor", "decoder", "type",
                  "Fuse", "model", "type", "WordLevel", "vocab", vocabulary(w), "unk_token", UNKNOWN_NAME);
    char *text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;
    json_decref(json);
    if (!text) return err_set(ERR_memory, "a tokenizer.json");
    err_t err = buf_text(out, text);
    free(text);
    return err;
}
