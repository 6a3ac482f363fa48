/* tokenizer.json of Hugging Face's tokenizers: a byte-level BPE out of it, everything else refused by name.
 *
 * Tokens of the vocabulary are written in the byte alphabet (Radford et al. 2019): one printable character for each byte. */
#include "trainer/model/tokenizer_bpe.h"
#include "trainer/model/utf8.h"

#include <jansson.h>
#include <stdlib.h>

#define MAX_VOCAB  (1 << 20)
#define MAX_MERGES (1 << 21)

struct loader {
    struct tokenizer_bpe *t;
    json_t *vocab;          /* text in the byte alphabet -> id */
    int16_t byte_of[0x200]; /* code point of the alphabet -> byte, or -1 */
};

/* ---- small readers ---- */

static bool absent(const json_t *value)
{
    return !value || json_is_null(value);
}

static const char *type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type ? type : "(none)";
}

static bool flag(const json_t *object, const char *key, bool otherwise)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static struct span text_of(const json_t *value)
{
    return json_is_string(value) ? span_of(json_string_value(value), json_string_length(value)) : span_of(NULL, 0);
}

/* ---- the byte alphabet ---- */

/* bytes that are printable stand for themselves, the others for U+0100 on, in ascending order */
static void make_alphabet(struct loader *l)
{
    int next = 0x100;
    for (size_t i = 0; i < 0x200; i++) l->byte_of[i] = -1;
    for (int byte = 0; byte < 256; byte++) {
        bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
        l->byte_of[printable ? byte : next++] = (int16_t)byte;
    }
}

/* the token's bytes, or its text as it is when some character is none of the alphabet's; false then */
static bool bytes_of(const struct loader *l, struct span text, uint8_t *to, size_t *ret_size)
{
    size_t n = 0;
    for (size_t at = 0; at < text.size; n++) {
        uint32_t code = 0;
        size_t size = utf8_read(span_of(text.data + at, text.size - at), &code);
        if (size == 0 || code >= 0x200 || l->byte_of[code] < 0) {
            memcpy(to, text.data, text.size);
            *ret_size = text.size;
            return false;
        }
        to[n] = (uint8_t)l->byte_of[code];
        at += size;
    }
    *ret_size = n;
    return true;
}

/* ---- vocabulary ---- */

static err_t read_id(const json_t *value, const char *what, int32_t *ret)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) >= MAX_VOCAB)
        return err_set(ERR_malformed, "%.80s: its id is not a whole number from 0 to %d", what, MAX_VOCAB - 1);
    *ret = (int32_t)json_integer_value(value);
    return ERR_ok;
}

static err_t size_vocab(struct loader *l, const json_t *added)
{
    const char *text = NULL;
    json_t *value = NULL;
    int32_t id = 0, most = -1;
    size_t i = 0;
    json_object_foreach(l->vocab, text, value)
    {
        TRY(read_id(value, text, &id));
        most = id > most ? id : most;
    }
    for (i = 0; i < json_array_size(added); i++) {
        TRY(read_id(json_object_get(json_array_get(added, i), "id"), "added token", &id));
        most = id > most ? id : most;
    }
    if (most < 1) return err_set(ERR_malformed, "model.vocab has no tokens");
    l->t->base.vocab = most + 1;
    l->t->text = calloc((size_t)most + 1, sizeof *l->t->text);
    l->t->base.ends = calloc((size_t)most + 1, sizeof *l->t->base.ends);
    return l->t->text && l->t->base.ends ? ERR_ok : err_set(ERR_memory, "a vocabulary of %d", most + 1);
}

static err_t set_text(struct tokenizer_bpe *t, int32_t id, struct span bytes)
{
    if (t->text[id].size > 0) return err_set(ERR_malformed, "two tokens have the id %d", id);
    t->text[id] = bytes;
    if (memchr(bytes.data, '\n', bytes.size)) t->base.ends[id] = TOKENIZER_END_newline;
    return ERR_ok;
}

static err_t read_vocab(struct loader *l)
{
    struct tokenizer_bpe *t = l->t;
    const char *text = NULL;
    json_t *value = NULL;
    json_object_foreach(l->vocab, text, value)
    {
        int32_t id = (int32_t)json_integer_value(value), kept = 0;
        size_t size = strlen(text);
        uint8_t *bytes = arena_take(&t->texts, size + 1, 1);
        if (!bytes) return ERR_memory;
        if (size == 0) return err_set(ERR_malformed, "model.vocab: token %d is empty", id);
        bool in_alphabet = bytes_of(l, span_text(text), bytes, &size);
        TRY(set_text(t, id, span_of(bytes, size)));
        if (in_alphabet && size == 1) t->bpe.byte_id[bytes[0]] = id;
        if (in_alphabet && t->ignore_merges) TRY(trie_add(&t->whole, t->text[id], id, &kept));
    }
    return ERR_ok;
}

/* ---- merges ---- */

/* ["a", "b"], or "a b" in old files */
static err_t read_pair(const json_t *merge, char *joined, size_t room, size_t *ret_left, size_t *ret_size)
{
    struct span left = {0}, right = {0};
    if (json_is_array(merge) && json_array_size(merge) == 2) {
        left = text_of(json_array_get(merge, 0));
        right = text_of(json_array_get(merge, 1));
    } else if (json_is_string(merge)) {
        struct span all = text_of(merge);
        const uint8_t *space = memchr(all.data, ' ', all.size);
        if (space) {
            left = span_of(all.data, (size_t)(space - all.data));
            right = span_of(space + 1, all.size - left.size - 1);
        }
    }
    if (left.size == 0 || right.size == 0) return err_set(ERR_malformed, "it is not a pair of tokens");
    if (left.size + right.size >= room)
        return err_set(ERR_malformed, "it makes a token of %zu bytes", left.size + right.size);
    memcpy(joined, left.data, left.size);
    memcpy(joined + left.size, right.data, right.size);
    joined[left.size + right.size] = 0;
    *ret_left = left.size;
    *ret_size = left.size + right.size;
    return ERR_ok;
}

static err_t id_of(const struct loader *l, struct span text, int32_t *ret)
{
    const json_t *id = json_object_getn(l->vocab, (const char *)text.data, text.size);
    if (!id)
        return err_set(ERR_malformed, "\"%.*s\" is not in model.vocab", (int)(text.size < 80 ? text.size : 80),
                       (const char *)text.data);
    *ret = (int32_t)json_integer_value(id);
    return ERR_ok;
}

static err_t add_merge(struct loader *l, const json_t *merge)
{
    char joined[4096];
    size_t left = 0, size = 0;
    int32_t ids[3] = {0};
    TRY(read_pair(merge, joined, sizeof joined, &left, &size));
    TRY(id_of(l, span_of(joined, left), &ids[0]));
    TRY(id_of(l, span_of(joined + left, size - left), &ids[1]));
    TRY(id_of(l, span_of(joined, size), &ids[2]));
    return bpe_add(&l->t->bpe, ids[0], ids[1], ids[2]);
}

static err_t read_merges(struct loader *l, const json_t *merges)
{
    size_t count = json_array_size(merges);
    if (!json_is_array(merges)) return err_set(ERR_malformed, "model.merges is not an array");
    if (count > MAX_MERGES) return err_set(ERR_too_large, "model.merges has %zu; at most %d are allowed", count, MAX_MERGES);
    TRY(bpe_reserve(&l->t->bpe, count));
    for (size_t i = 0; i < count; i++) {
        err_t err = add_merge(l, json_array_get(merges, i));
        if (err != ERR_ok) return err_prefix(err, "model.merges[%zu]", i);
    }
    return ERR_ok;
}

/* ---- model ---- */

static err_t check_empty(const json_t *model, const char *key)
{
    const json_t *value = json_object_get(model, key);
    if (absent(value) || (json_is_string(value) && json_string_length(value) == 0)) return ERR_ok;
    return err_set(ERR_unsupported, "model.%s: only byte-level BPE without it is read", key);
}

static err_t read_model(struct loader *l, const json_t *model, const json_t *added)
{
    const json_t *type = json_object_get(model, "type"), *unknown = json_object_get(model, "unk_token");
    const json_t *dropout = json_object_get(model, "dropout");
    if (!json_is_object(model)) return err_set(ERR_malformed, "model is not an object");
    if (!absent(type) && strcmp(type_of(model), "BPE") != 0)
        return err_set(ERR_unsupported, "model.type is \"%.40s\"; only \"BPE\" is read", type_of(model));
    if (!absent(dropout) && !(json_number_value(dropout) <= 0))
        return err_set(ERR_unsupported, "model.dropout: its ids would be random");
    if (flag(model, "byte_fallback", false))
        return err_set(ERR_unsupported, "model.byte_fallback is true: a SentencePiece tokenizer, not a byte-level one");
    TRY(check_empty(model, "continuing_subword_prefix"));
    TRY(check_empty(model, "end_of_word_suffix"));
    l->t->ignore_merges = flag(model, "ignore_merges", false);
    l->t->bpe.fuse_unknown = flag(model, "fuse_unk", false);
    l->vocab = json_object_get(model, "vocab");
    if (!json_is_object(l->vocab)) return err_set(ERR_malformed, "model.vocab is not an object");
    TRY(size_vocab(l, added));
    TRY(read_vocab(l));
    if (!absent(unknown)) {
        err_t err = id_of(l, text_of(unknown), &l->t->bpe.unknown);
        if (err != ERR_ok) return err_prefix(err, "model.unk_token");
    }
    return read_merges(l, json_object_get(model, "merges"));
}

/* ---- added tokens ---- */

static err_t add_token(struct loader *l, const json_t *object)
{
    struct tokenizer_bpe *t = l->t;
    struct added_token *a = &t->added.tokens[t->added.count];
    struct span text = text_of(json_object_get(object, "content"));
    int32_t id = (int32_t)json_integer_value(json_object_get(object, "id"));
    if (text.size == 0) return err_set(ERR_malformed, "its content is no text");
    const json_t *known = json_object_getn(l->vocab, (const char *)text.data, text.size);
    if (known && json_integer_value(known) != id)
        return err_set(ERR_malformed, "its id is %d, model.vocab says %lld", id, (long long)json_integer_value(known));
    if (flag(object, "single_word", false)) return err_set(ERR_unsupported, "single_word is true");
    *a = (struct added_token){.id = id,
                              .special = flag(object, "special", false),
                              .normalized = flag(object, "normalized", true),
                              .lstrip = flag(object, "lstrip", false),
                              .rstrip = flag(object, "rstrip", false)};
    AUTO(buf) composed = {0};
    if (a->normalized && t->compose) {
        TRY(utf8_compose(text, &composed));
        text = buf_span(&composed);
    }
    const char *kept = arena_text(&t->texts, text);
    if (!kept) return ERR_memory;
    a->text = span_of(kept, text.size);
    t->added.count++;
    /* an added token prints as its content, not in the byte alphabet */
    if (known) t->text[id] = span_of(NULL, 0);
    return set_text(t, id, a->text);
}

static err_t read_added(struct loader *l, const json_t *added)
{
    size_t count = json_array_size(added);
    l->t->added.tokens = calloc(count + 1, sizeof *l->t->added.tokens);
    if (!l->t->added.tokens) return err_set(ERR_memory, "%zu added tokens", count);
    for (size_t i = 0; i < count; i++) {
        const json_t *token = json_array_get(added, i);
        const char *content = json_string_value(json_object_get(token, "content"));
        err_t err = add_token(l, token);
        if (err != ERR_ok) return err_prefix(err, "added_tokens[%zu] \"%.40s\"", i, content ? content : "");
    }
    return added_index(&l->t->added);
}

/* ---- normalizer, pre_tokenizer, post_processor, decoder ---- */

static err_t read_normalizer(struct tokenizer_bpe *t, const json_t *normalizer, int depth)
{
    if (absent(normalizer)) return ERR_ok;
    const char *type = type_of(normalizer);
    if (strcmp(type, "NFC") == 0) {
        t->compose = true;
        return ERR_ok;
    }
    if (strcmp(type, "Sequence") != 0 || depth > 0)
        return err_set(ERR_unsupported, "normalizer \"%.40s\"; only NFC is read", type);
    const json_t *list = json_object_get(normalizer, "normalizers");
    for (size_t i = 0; i < json_array_size(list); i++) TRY(read_normalizer(t, json_array_get(list, i), depth + 1));
    return ERR_ok;
}

#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static err_t add_split(struct tokenizer_bpe *t, struct span pattern)
{
    if (t->split_count == SPLIT_MOST) return err_set(ERR_too_large, "pre_tokenizer: more than %d splits", SPLIT_MOST);
    TRY(split_new(&t->splits[t->split_count], pattern));
    t->split_count++;
    return ERR_ok;
}

static err_t read_split(struct tokenizer_bpe *t, const json_t *object)
{
    const char *behavior = json_string_value(json_object_get(object, "behavior"));
    struct span pattern = text_of(json_object_get(json_object_get(object, "pattern"), "Regex"));
    if (pattern.size == 0) return err_set(ERR_unsupported, "pre_tokenizer Split: a pattern {\"Regex\": ...} is wanted");
    if (!behavior || strcmp(behavior, "Isolated") != 0 || flag(object, "invert", false))
        return err_set(ERR_unsupported, "pre_tokenizer Split: behavior \"%.40s\"; only Isolated, not inverted, is read",
                       behavior ? behavior : "(none)");
    return add_split(t, pattern);
}

static err_t read_byte_level(struct tokenizer_bpe *t, const json_t *object, bool *byte_level)
{
    if (flag(object, "add_prefix_space", true))
        return err_set(ERR_unsupported, "pre_tokenizer ByteLevel: add_prefix_space is true");
    *byte_level = true;
    return flag(object, "use_regex", true) ? add_split(t, span_text(GPT2_PATTERN)) : ERR_ok;
}

static err_t read_pre_tokenizer(struct tokenizer_bpe *t, const json_t *object, int depth, bool *byte_level)
{
    const char *type = type_of(object);
    if (*byte_level) return err_set(ERR_unsupported, "pre_tokenizer \"%.40s\" after ByteLevel", type);
    if (strcmp(type, "ByteLevel") == 0) return read_byte_level(t, object, byte_level);
    if (strcmp(type, "Split") == 0) return read_split(t, object);
    if (strcmp(type, "Digits") == 0)
        return add_split(t, span_text(flag(object, "individual_digits", false) ? "\\p{N}" : "\\p{N}+"));
    if (strcmp(type, "Sequence") != 0 || depth > 0)
        return err_set(ERR_unsupported, "pre_tokenizer \"%.40s\"; Split, Digits and ByteLevel are read", type);
    const json_t *list = json_object_get(object, "pretokenizers");
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY(read_pre_tokenizer(t, json_array_get(list, i), depth + 1, byte_level));
    return ERR_ok;
}

/* {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}} before {"Sequence": ...}: what every text begins with */
static err_t read_template(struct tokenizer_bpe *t, const json_t *object)
{
    const json_t *single = json_object_get(object, "single");
    bool text_seen = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *token = json_object_get(json_array_get(single, i), "SpecialToken");
        if (!token) {
            text_seen = true;
            continue;
        }
        const char *name = json_string_value(json_object_get(token, "id"));
        int32_t id = name ? tokenizer_special(&t->base, name) : -1;
        if (id < 0) return err_set(ERR_malformed, "post_processor: \"%.60s\" is not an added token", name ? name : "");
        if (text_seen) return err_set(ERR_unsupported, "post_processor: \"%.60s\" behind every text", name);
        if (t->base.opening_count == TOKENIZER_OPENING)
            return err_set(ERR_too_large, "post_processor: too many tokens before a text");
        t->base.opening[t->base.opening_count++] = id;
    }
    return ERR_ok;
}

static err_t read_post_processor(struct tokenizer_bpe *t, const json_t *object, int depth)
{
    if (absent(object)) return ERR_ok;
    const char *type = type_of(object);
    if (strcmp(type, "ByteLevel") == 0) return ERR_ok; /* offsets only */
    if (strcmp(type, "TemplateProcessing") == 0) return read_template(t, object);
    if (strcmp(type, "Sequence") != 0 || depth > 0)
        return err_set(ERR_unsupported, "post_processor \"%.40s\"; ByteLevel and TemplateProcessing are read", type);
    const json_t *list = json_object_get(object, "processors");
    for (size_t i = 0; i < json_array_size(list); i++) TRY(read_post_processor(t, json_array_get(list, i), depth + 1));
    return ERR_ok;
}

static err_t read_root(struct loader *l, const json_t *root)
{
    struct tokenizer_bpe *t = l->t;
    bool byte_level = false;
    const json_t *added = json_object_get(root, "added_tokens"), *decoder = json_object_get(root, "decoder");
    if (!json_is_object(root)) return err_set(ERR_malformed, "not a JSON object");
    if (!absent(added) && !json_is_array(added)) return err_set(ERR_malformed, "added_tokens is not an array");
    TRY(read_normalizer(t, json_object_get(root, "normalizer"), 0));
    TRY(read_pre_tokenizer(t, json_object_get(root, "pre_tokenizer"), 0, &byte_level));
    if (!byte_level) return err_set(ERR_unsupported, "pre_tokenizer: it has no ByteLevel; only byte-level BPE is read");
    if (!absent(decoder) && strcmp(type_of(decoder), "ByteLevel") != 0)
        return err_set(ERR_unsupported, "decoder \"%.40s\"; only ByteLevel is read", type_of(decoder));
    TRY(read_model(l, json_object_get(root, "model"), added));
    TRY(read_added(l, added));
    return read_post_processor(t, json_object_get(root, "post_processor"), 0);
}

err_t tokenizer_open(struct span json, struct tokenizer **ret)
{
    struct loader l = {0};
    json_error_t error;
    if (json.size > TOKENIZER_FILE_BYTES)
        return err_set(ERR_too_large, "%zu bytes; at most %zu are allowed", json.size, TOKENIZER_FILE_BYTES);
    json_t *root = json_loadb((const char *)json.data, json.size, JSON_REJECT_DUPLICATES, &error);
    if (!root) return err_set(ERR_malformed, "not JSON: %.100s at line %d, column %d", error.text, error.line, error.column);
    if (strcmp(type_of(json_object_get(root, "model")), "WordLevel") == 0) {
        err_t err = words_open(root, ret);
        json_decref(root);
        return err;
    }
    make_alphabet(&l);
    err_t err = tokenizer_bpe_new(&l.t);
    if (err == ERR_ok) err = read_root(&l, root);
    json_decref(root);
    struct tokenizer *t = l.t ? &l.t->base : NULL;
    if (err != ERR_ok)
        tokenizer_free(&t);
    else
        *ret = t;
    return err;
}
