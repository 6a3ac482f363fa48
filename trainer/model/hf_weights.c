#include "trainer/model/hf_weights.h"

#include <jansson.h>
#include <stdio.h>

#define HEAD "lm_head.weight"

static err_t add_shard(const char *name, struct hf_shard *shards, size_t *count)
{
    /* a name from a file must not lead out of the folder */
    if (!name || !*name || name[0] == '.' || strchr(name, '/') || strlen(name) >= HF_SHARD_NAME_BYTES)
        return err_set(ERR_malformed, "weight_map names the file \"%.80s\": a plain name is wanted", name ? name : "");
    for (size_t i = 0; i < *count; i++) {
        if (strcmp(shards[i].name, name) == 0) return ERR_ok;
    }
    if (*count == HF_SHARDS) return err_set(ERR_too_large, "weight_map names more than %d files", HF_SHARDS);
    shards[*count] = (struct hf_shard){.file = NULL};
    (void)snprintf(shards[(*count)++].name, HF_SHARD_NAME_BYTES, "%s", name);
    return ERR_ok;
}

static err_t read_map(json_t *map, struct hf_shard *shards, size_t *count)
{
    const char *tensor = NULL;
    json_t *file = NULL;
    if (!json_is_object(map) || json_object_size(map) == 0)
        return err_set(ERR_malformed, "weight_map is not an object of tensors and files");
    json_object_foreach(map, tensor, file)
    {
        err_t err = add_shard(json_string_value(file), shards, count);
        if (err != ERR_ok) return err_prefix(err, "tensor %.80s", tensor);
    }
    return ERR_ok;
}

err_t hf_index_parse(struct span json, struct hf_shard *ret, size_t *ret_count)
{
    json_error_t error;
    if (json.size > HF_INDEX_BYTES)
        return err_set(ERR_too_large, "%zu bytes; at most %zu are allowed", json.size, HF_INDEX_BYTES);
    json_t *root = json_loadb((const char *)json.data, json.size, JSON_REJECT_DUPLICATES, &error);
    if (!root) return err_set(ERR_malformed, "not JSON: %.100s at line %d, column %d", error.text, error.line, error.column);
    *ret_count = 0;
    err_t err = read_map(json_object_get(root, "weight_map"), ret, ret_count);
    json_decref(root);
    return err;
}

/* the only shard that has the tensor, or NULL; *ret_twice another one that has it too */
static const struct safetensor *find(const struct hf_shard *shards, size_t count, const char *name,
                                     const struct hf_shard **ret_shard, const struct hf_shard **ret_twice)
{
    const struct safetensor *found = NULL;
    *ret_twice = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct safetensor *t = safetensors_find(shards[i].file, name);
        if (t && found) *ret_twice = &shards[i];
        if (!t || found) continue;
        found = t;
        *ret_shard = &shards[i];
    }
    return found;
}

void hf_weights_settle_head(const struct hf_shard *shards, size_t count, struct model_config *config)
{
    const struct hf_shard *shard = NULL, *twice = NULL;
    if (!find(shards, count, HEAD, &shard, &twice)) config->tied = true;
}

static void shape_text(const size_t *shape, size_t rank, char *to, size_t size)
{
    size_t n = 0;
    to[0] = 0;
    for (size_t i = 0; i < rank && n < size; i++) {
        int wrote = snprintf(to + n, size - n, "%s%zu", i ? ", " : "", shape[i]);
        n += wrote > 0 ? (size_t)wrote : 0;
    }
}

static size_t shape_of(const struct tensor *t, size_t shape[2])
{
    bool vector = t->kind == TENSOR_KIND_norm || t->kind == TENSOR_KIND_bias;
    shape[0] = vector ? t->cols : t->rows;
    shape[1] = t->cols;
    return vector ? 1 : 2;
}

void hf_weights_describe(const struct tensor *tensor, enum safetensors_type type, struct safetensor *ret)
{
    *ret = (struct safetensor){.type = type, .count = tensor->rows * tensor->cols};
    ret->rank = shape_of(tensor, ret->shape);
    (void)snprintf(ret->name, sizeof ret->name, "%s", tensor->name);
}

static err_t check_tensor(const struct hf_shard *shards, size_t count, const struct tensor *want)
{
    const struct hf_shard *shard = NULL, *twice = NULL;
    const struct safetensor *t = find(shards, count, want->name, &shard, &twice);
    if (!t) return err_set(ERR_malformed, "%s: tensor %s is missing", count == 1 ? shards[0].name : "weights", want->name);
    if (twice) return err_set(ERR_malformed, "tensor %s is in %s and in %s", want->name, shard->name, twice->name);
    size_t shape[2], rank = shape_of(want, shape);
    if (t->rank != rank || memcmp(t->shape, shape, rank * sizeof *shape) != 0) {
        char has[128], wants[64];
        shape_text(t->shape, t->rank, has, sizeof has);
        shape_text(shape, rank, wants, sizeof wants);
        return err_set(ERR_malformed, "%s: tensor %s has shape [%s], the config makes it [%s]", shard->name, want->name, has,
                       wants);
    }
    if (t->type != SAFETENSORS_F32 && t->type != SAFETENSORS_F16 && t->type != SAFETENSORS_BF16)
        return err_set(ERR_unsupported, "%s: tensor %s has type %s; F32, F16 and BF16 can be read", shard->name, want->name,
                       safetensors_type_name(t->type));
    return ERR_ok;
}

static bool only_stored(const char *name, const struct model_config *config)
{
    size_t n = strlen(name), tail = strlen("rotary_emb.inv_freq");
    if (n >= tail && strcmp(name + n - tail, "rotary_emb.inv_freq") == 0) return true;
    return config->tied && strcmp(name, HEAD) == 0;
}

/* how many of the shard's tensors are none of the model's; *ret_name the first of them */
static size_t strangers(const struct hf_shard *shard, const struct model_config *config, const char **ret_name)
{
    size_t all = safetensors_count(shard->file), known = 0;
    struct tensor t;
    for (struct tensor_iter iter = {0}; tensor_next(config, &iter, &t);)
        known += safetensors_find(shard->file, t.name) != NULL;
    for (size_t i = 0; i < all; i++) known += only_stored(safetensors_at(shard->file, i)->name, config);
    for (size_t i = 0; i < all && known < all; i++) {
        const char *name = safetensors_at(shard->file, i)->name;
        bool ours = only_stored(name, config);
        for (struct tensor_iter iter = {0}; !ours && tensor_next(config, &iter, &t);) ours = strcmp(t.name, name) == 0;
        if (ours) continue;
        *ret_name = name;
        break;
    }
    return all - known;
}

err_t hf_weights_check(const struct hf_shard *shards, size_t count, const struct model_config *config)
{
    struct tensor t;
    for (struct tensor_iter iter = {0}; tensor_next(config, &iter, &t);) TRY(check_tensor(shards, count, &t));
    for (size_t i = 0; i < count; i++) {
        const char *name = "";
        size_t n = strangers(&shards[i], config, &name);
        if (n > 0)
            return err_set(ERR_unsupported, "%s: tensor %s is not one of this model's (%zu such)", shards[i].name, name, n);
    }
    return ERR_ok;
}

err_t hf_weights_load(const struct hf_shard *shards, size_t count, struct model *model)
{
    struct tensor t;
    for (struct tensor_iter iter = {0}; tensor_next(&model->config, &iter, &t);) {
        const struct hf_shard *shard = NULL, *twice = NULL;
        const struct safetensor *from = find(shards, count, t.name, &shard, &twice);
        BUG_IF(!from || from->count != t.rows * t.cols);
        err_t err = safetensors_read(shard->file, from, model->weights + t.offset);
        if (err != ERR_ok) return err_prefix(err, "%s", shard->name);
    }
    return ERR_ok;
}
