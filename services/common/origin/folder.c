#include "services/common/origin/folder.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TEMPLATE_BYTES ((size_t)256 << 10)
#define SHARD_BYTES    ((size_t)1 << 42)
#define SINGLE         "model.safetensors"
#define INDEX          SINGLE ".index.json"

static const struct {
    const char *name;
    size_t max_bytes;
    bool optional;
} FILES[FOLDER_FILE_COUNT] = {
    [FOLDER_FILE_config] = {"config.json", HF_CONFIG_BYTES, false},
    [FOLDER_FILE_generation] = {"generation_config.json", HF_CONFIG_BYTES, true},
    [FOLDER_FILE_tokenizer] = {"tokenizer.json", TOKENIZER_FILE_BYTES, false},
    [FOLDER_FILE_tokenizer_config] = {"tokenizer_config.json", TOKENIZER_FILE_BYTES, true},
    [FOLDER_FILE_chat_template] = {"chat_template.jinja", TEMPLATE_BYTES, true},
};

const char *folder_file_name(enum folder_file file)
{
    return FILES[file].name;
}

static err_t join(const struct folder *folder, const char *name, char *ret, size_t size)
{
    int n = snprintf(ret, size, "%s/%s", folder->path, name);
    return n > 0 && (size_t)n < size ? ERR_ok : err_set(ERR_too_large, "the path %s is too long", folder->path);
}

static err_t open_file(struct folder *folder, enum folder_file file)
{
    char path[FOLDER_PATH_BYTES + 64];
    TRY(join(folder, FILES[file].name, path, sizeof path));
    err_t err = map_open(path, FILES[file].max_bytes, &folder->files[file]);
    return err == ERR_not_found && FILES[file].optional ? ERR_ok : err;
}

/* "config.json 852\n", bytes, and so on: which files there are is part of it */
static err_t digest(const struct folder *folder, struct digest *ret)
{
    char heads[FOLDER_FILE_COUNT][64];
    struct span spans[2 * FOLDER_FILE_COUNT];
    for (size_t i = 0; i < FOLDER_FILE_COUNT; i++) {
        int n = snprintf(heads[i], sizeof heads[i], "%s %zu\n", FILES[i].name, folder->files[i].size);
        spans[2 * i] = span_of(heads[i], (size_t)n);
        spans[2 * i + 1] = map_span(&folder->files[i]);
    }
    return digest_spans(spans, 2 * FOLDER_FILE_COUNT, ret);
}

static err_t open_files(struct folder *folder)
{
    for (size_t i = 0; i < FOLDER_FILE_COUNT; i++) TRY(open_file(folder, (enum folder_file)i));
    return digest(folder, &folder->sha256);
}

err_t folder_open(const char *path, struct folder *ret)
{
    struct folder folder = {.path = ""};
    if (strlen(path) >= sizeof folder.path) return err_set(ERR_too_large, "the path %.80s... is too long", path);
    (void)snprintf(folder.path, sizeof folder.path, "%s", path);
    err_t err = open_files(&folder);
    if (err != ERR_ok)
        folder_fini(&folder);
    else
        *ret = folder;
    return err;
}

void folder_fini(struct folder *folder)
{
    for (size_t i = 0; i < FOLDER_FILE_COUNT; i++) map_fini(&folder->files[i]);
}

static err_t in_file(err_t err, enum folder_file file)
{
    return err == ERR_ok ? err : err_prefix(err, "%s", FILES[file].name);
}

err_t folder_config(const struct folder *folder, struct hf_config *ret)
{
    const struct map *generation = &folder->files[FOLDER_FILE_generation];
    TRY(in_file(hf_config_parse(map_span(&folder->files[FOLDER_FILE_config]), ret), FOLDER_FILE_config));
    if (generation->size == 0) return ERR_ok;
    return in_file(hf_generation_parse(map_span(generation), &ret->ends), FOLDER_FILE_generation);
}

err_t folder_tokenizer(const struct folder *folder, struct hf_config *config, struct tokenizer **ret)
{
    AUTO_PTR(tokenizer) t = NULL;
    TRY(in_file(tokenizer_open(map_span(&folder->files[FOLDER_FILE_tokenizer]), &t), FOLDER_FILE_tokenizer));
    if (tokenizer_vocab(t) > config->model.vocab_padded)
        return err_set(ERR_malformed, "tokenizer.json has ids up to %d, config.json's vocab_size is %d",
                       tokenizer_vocab(t) - 1, config->model.vocab_padded);
    config->model.vocab = tokenizer_vocab(t);
    if (tokenizer_set_eos(t, config->ends.ids, config->ends.count) != ERR_ok)
        return err_prefix(ERR_malformed, "eos_token_id");
    *ret = t;
    t = NULL;
    return ERR_ok;
}

/* a text, or a list of named ones of which "default" is meant */
static const json_t *template_of(const json_t *root)
{
    json_t *value = json_object_get(root, "chat_template"), *row = NULL;
    size_t i = 0;
    if (!json_is_array(value)) return value;
    json_array_foreach(value, i, row)
    {
        const char *name = json_string_value(json_object_get(row, "name"));
        if (name && strcmp(name, "default") == 0) return json_object_get(row, "template");
    }
    return NULL;
}

err_t folder_chat_template(const struct folder *folder, struct buf *out)
{
    const struct map *own = &folder->files[FOLDER_FILE_chat_template], *config = &folder->files[FOLDER_FILE_tokenizer_config];
    if (own->size > 0) return buf_append(out, own->data, own->size);
    json_error_t error;
    json_t *root = config->size > 0 ? json_loadb(config->data, config->size, JSON_REJECT_DUPLICATES, &error) : NULL;
    if (config->size > 0 && !root) return err_set(ERR_malformed, "tokenizer_config.json: not JSON: %.100s", error.text);
    const char *text = json_string_value(template_of(root));
    err_t err = text ? buf_text(out, text)
                     : err_set(ERR_not_found, "neither chat_template.jinja nor tokenizer_config.json has a chat template");
    json_decref(root);
    return err;
}

/* ---- weights ---- */

struct weights {
    struct hf_shard *shards; /* [HF_SHARDS] */
    struct map *maps;        /* [HF_SHARDS] */
    struct safetensors **files;
    size_t count;
};

static void weights_fini(struct weights *w)
{
    for (size_t i = 0; i < w->count; i++) {
        if (w->files) safetensors_free(&w->files[i]);
        if (w->maps) map_fini(&w->maps[i]);
    }
    free(w->shards);
    free(w->maps);
    free((void *)w->files);
}

static err_t name_shards(const struct folder *folder, struct weights *w)
{
    char path[FOLDER_PATH_BYTES + 64];
    struct map index = {0};
    TRY(join(folder, SINGLE, path, sizeof path));
    if (access(path, F_OK) == 0) {
        w->shards[0] = (struct hf_shard){.name = SINGLE};
        w->count = 1;
        return ERR_ok;
    }
    TRY(join(folder, INDEX, path, sizeof path));
    err_t err = map_open(path, HF_INDEX_BYTES, &index);
    if (err == ERR_not_found) return err_set(ERR_not_found, "%s has neither " SINGLE " nor " INDEX, folder->path);
    if (err == ERR_ok) err = hf_index_parse(map_span(&index), w->shards, &w->count);
    map_fini(&index);
    return err == ERR_ok ? err : err_prefix(err, INDEX);
}

static err_t open_shards(const struct folder *folder, struct weights *w)
{
    w->shards = calloc(HF_SHARDS, sizeof *w->shards);
    w->maps = calloc(HF_SHARDS, sizeof *w->maps);
    w->files = calloc(HF_SHARDS, sizeof(struct safetensors *));
    if (!w->shards || !w->maps || !w->files) return err_set(ERR_memory, "a table of shards");
    TRY(name_shards(folder, w));
    for (size_t i = 0; i < w->count; i++) {
        char path[FOLDER_PATH_BYTES + HF_SHARD_NAME_BYTES + 2];
        TRY(join(folder, w->shards[i].name, path, sizeof path));
        TRY(map_open(path, SHARD_BYTES, &w->maps[i]));
        err_t err = safetensors_open(map_span(&w->maps[i]), &w->files[i]);
        if (err != ERR_ok) return err_prefix(err, "%s", w->shards[i].name);
        w->shards[i].file = w->files[i];
    }
    return ERR_ok;
}

err_t folder_weights(const struct folder *folder, struct model_config *config, struct model *model)
{
    AUTO(weights) w = {0};
    TRY(open_shards(folder, &w));
    hf_weights_settle_head(w.shards, w.count, config);
    TRY(hf_weights_check(w.shards, w.count, config));
    if (!model) return ERR_ok;
    BUG_IF(!model_config_equal(&model->config, config));
    return hf_weights_load(w.shards, w.count, model);
}
