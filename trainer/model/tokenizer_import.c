/* tokenizer.json of the presets' kind back into words: what words_export wrote, and nothing else. The words are those of the
 * vocabulary that have no leading space, in order; that they make the same file again is the whole check. */
#include "trainer/model/tokenizer_impl.h"

#include <jansson.h>
#include <stdlib.h>

/* The words by their ids; names belong to vocab. ERR_malformed where ids are not 0, 1, ... */
static err_t list_words(json_t *vocab, const char **words, size_t *ret_count)
{
    size_t size = json_object_size(vocab), count = 0;
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(vocab, name, value)
    {
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || (size_t)id >= size || words[id])
            return err_set(ERR_malformed, "model.vocab: the ids of %zu tokens are not 0 to %zu, each once", size, size - 1);
        words[id] = name;
    }
    for (size_t id = TOKENIZER_FIRST_WORD; id < size; id++) {
        if (words[id][0] != ' ') words[count++] = words[id];
    }
    *ret_count = count;
    return ERR_ok;
}

static err_t make(json_t *vocab, struct tokenizer **ret)
{
    size_t count = 0;
    const char **words = calloc(json_object_size(vocab) + 1, sizeof *words);
    if (!words) return err_set(ERR_memory, "a tokenizer's words");
    err_t err = list_words(vocab, words, &count);
    if (err == ERR_ok) err = tokenizer_new_words(ret, words, count);
    free(words);
    return err;
}

static err_t is_same(const struct tokenizer *t, const json_t *root, bool *ret)
{
    AUTO(buf) text = {0};
    TRY(tokenizer_export(t, &text));
    json_t *made = json_loads(buf_chars(&text), 0, NULL);
    *ret = made && json_equal(made, root);
    json_decref(made);
    return ERR_ok;
}

err_t words_open(const json_t *root, struct tokenizer **ret)
{
    struct tokenizer *t = NULL;
    bool same = false;
    TRY(make(json_object_get(json_object_get(root, "model"), "vocab"), &t));
    err_t err = is_same(t, root, &same);
    if (err == ERR_ok && !same)
        err = err_set(ERR_unsupported, "model \"WordLevel\": only what `pal export` writes of a preset is read");
    if (err != ERR_ok)
        tokenizer_free(&t);
    else
        *ret = t;
    return err;
}
