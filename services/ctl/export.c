/* pal export: a checkpoint as a Hugging Face directory that transformers, vLLM and llama.cpp's converter load.
 *
 * Everything is written to DIR.partial, synced, and renamed: DIR is whole or not there. A directory that the policy began
 * from gives its tokenizer files byte for byte; a preset's tokenizer is written out. */
#include "services/common/origin/origin.h"
#include "services/common/store/store_read.h"
#include "services/ctl/ctl.h"
#include "services/trainer/file.h"
#include "trainer/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHECKPOINT_BYTES ((size_t)1 << 42)
#define COPIED_BYTES     ((size_t)64 << 20)
#define TENSORS_MOST     (256 * 12 + 3)

struct export
{
    struct ctl *ctl;
    int64_t job, version; /* version -1: the newest */
    enum safetensors_type type;
    char target[CTL_PATH_BYTES], partial[CTL_PATH_BYTES + 16];
    struct job_spec spec;
    struct arena arena;
    struct origin origin;
    struct map file;
    struct checkpoint checkpoint;
};

static void export_fini(struct export *e)
{
    origin_fini(&e->origin);
    map_fini(&e->file);
    arena_fini(&e->arena);
}

/* ---- what is exported ---- */

static err_t pick(const struct export *e, json_t *rows, const json_t **ret)
{
    json_t *row = NULL;
    const json_t *best = NULL;
    size_t i = 0, n = 0;
    char there[256] = "";
    json_array_foreach(rows, i, row)
    {
        int64_t version = (int64_t)ctl_number(row, "version");
        if (access(ctl_text(row, "path"), R_OK) != 0) continue;
        int wrote = n < sizeof there ? snprintf(there + n, sizeof there - n, " %lld", (long long)version) : 0;
        n += wrote > 0 ? (size_t)wrote : 0;
        if (e->version >= 0 && version != e->version) continue;
        bool newer =
            !best || ctl_number(row, "lineage") > ctl_number(best, "lineage") ||
            (ctl_number(row, "lineage") == ctl_number(best, "lineage") && version > (int64_t)ctl_number(best, "version"));
        if (newer) best = row;
    }
    *ret = best;
    if (best) return ERR_ok;
    return err_set(ERR_not_found, "job %lld has no checkpoint of version %lld; those on disk:%s", (long long)e->job,
                   (long long)e->version, there[0] ? there : " none");
}

static err_t open_checkpoint(struct export *e, const json_t *row)
{
    struct digest digest;
    const char *path = ctl_text(row, "path");
    TRY(map_open(path, CHECKPOINT_BYTES, &e->file));
    TRY(digest_bytes(map_span(&e->file), &digest));
    if (strcmp(digest.hex, ctl_text(row, "sha256")) != 0)
        return err_set(ERR_malformed, "%s has SHA-256 %.12s..., %.12s... is on record: it is not the committed file", path,
                       digest.hex, ctl_text(row, "sha256"));
    return checkpoint_open(map_span(&e->file), &e->checkpoint) == ERR_ok ? ERR_ok : err_prefix(ERR_malformed, "%s", path);
}

static err_t read_job(struct export *e, struct store *store)
{
    AUTO(buf) spec = {0};
    AUTO(buf) rows = {0};
    struct job_problems problems;
    const json_t *row = NULL;
    TRY(store_read_spec(store, e->job, &spec));
    TRY(store_read_checkpoints(store, e->job, &rows));
    TRY(job_parse(buf_span(&spec), &e->arena, &e->spec, &problems));
    TRY(origin_open(&e->spec, &e->origin));
    json_t *list = json_loadb(buf_chars(&rows), rows.size, 0, NULL);
    err_t err = pick(e, list, &row);
    if (err == ERR_ok) err = open_checkpoint(e, row);
    json_decref(list);
    TRY(err);
    if (!model_config_equal(&e->checkpoint.config, &e->origin.model))
        return err_set(ERR_conflict, "the checkpoint's model is not that of the job's policy.init");
    return ERR_ok;
}

/* ---- writing ---- */

static err_t put(const struct export *e, const char *name, const struct span *spans, size_t count)
{
    char path[sizeof e->partial + 64];
    (void)snprintf(path, sizeof path, "%s/%s", e->partial, name);
    TRY(file_write(path, spans, count, true));
    return chmod(path, 0644) == 0 ? ERR_ok : err_set(ERR_io, "%s: %s", path, strerror(errno));
}

static err_t put_buf(const struct export *e, const char *name, const struct buf *text)
{
    struct span span = buf_span(text);
    return put(e, name, &span, 1);
}

/* tensors lie in the file in the order in which the checkpoint has them, so fp32 is written as it lies */
static err_t put_weights(const struct export *e)
{
    const struct model_config *c = &e->checkpoint.config;
    size_t count = 0, bytes = safetensors_bits(e->type) / 8;
    struct safetensor *tensors = calloc(TENSORS_MOST, sizeof *tensors);
    uint8_t *converted = e->type == SAFETENSORS_F32 ? NULL : malloc(e->checkpoint.count * bytes);
    AUTO(buf) header = {0};
    struct tensor t;
    err_t err = tensors && (converted || e->type == SAFETENSORS_F32) ? ERR_ok : err_set(ERR_memory, "the weights");
    for (struct tensor_iter iter = {0}; err == ERR_ok && tensor_next(c, &iter, &t);)
        hf_weights_describe(&t, e->type, &tensors[count++]);
    if (err == ERR_ok) err = safetensors_header(tensors, count, &header);
    if (err == ERR_ok && converted) safetensors_write(e->type, e->checkpoint.weights, e->checkpoint.count, converted);
    const void *data = converted ? (const void *)converted : (const void *)e->checkpoint.weights;
    const struct span spans[2] = {buf_span(&header), span_of(data, e->checkpoint.count * bytes)};
    if (err == ERR_ok) err = put(e, "model.safetensors", spans, 2);
    free(converted);
    free(tensors);
    return err;
}

/* a preset says nothing of ends: an action of its tokenizer ends with the newline */
static err_t preset_config(const struct export *e, struct hf_config *ret)
{
    int32_t newline = -1;
    size_t count = 0;
    TRY(tokenizer_encode(e->origin.tokenizer, span_text("\n"), &newline, 1, &count));
    *ret =
        (struct hf_config){.family = HF_FAMILY_llama, .model = e->origin.model, .ends = {{newline}, 1}, .bos = -1, .pad = 0};
    return ERR_ok;
}

static err_t put_config(const struct export *e)
{
    struct hf_config config = e->origin.hf;
    AUTO(buf) text = {0};
    if (!e->origin.pretrained) TRY(preset_config(e, &config));
    TRY(hf_config_write(&config, e->type == SAFETENSORS_F32 ? "float32" : "bfloat16", &text));
    TRY(put_buf(e, "config.json", &text));
    if (e->origin.folder.files[FOLDER_FILE_generation].size > 0) return ERR_ok; /* it is copied */
    buf_clear(&text);
    TRY(hf_generation_write(&config, e->spec.rollout.temperature, &text));
    return put_buf(e, "generation_config.json", &text);
}

/* ERR_not_found: the directory has none */
static err_t copy(const struct export *e, const char *name)
{
    char path[FOLDER_PATH_BYTES + 64];
    struct map map = {0};
    (void)snprintf(path, sizeof path, "%s/%s", e->origin.folder.path, name);
    TRY(map_open(path, COPIED_BYTES, &map));
    struct span span = map_span(&map);
    err_t err = put(e, name, &span, 1);
    map_fini(&map);
    return err;
}

static err_t put_or_copy(const struct export *e, const char *name, const char *otherwise)
{
    err_t err = e->origin.pretrained ? copy(e, name) : ERR_not_found;
    if (err != ERR_not_found || !otherwise) return err == ERR_not_found ? ERR_ok : err;
    struct span span = span_text(otherwise);
    return put(e, name, &span, 1);
}

#define PRESET_TOKENS "\"unk_token\": \"\u27e8unk\u27e9\", \"pad_token\": \"\u27e8pad\u27e9\""

static err_t put_tokenizer(const struct export *e)
{
    static const char *const optional[] = {"generation_config.json", "chat_template.jinja", "vocab.json", "merges.txt",
                                           "added_tokens.json"};
    AUTO(buf) text = {0};
    if (e->origin.pretrained) {
        TRY(copy(e, "tokenizer.json"));
        for (size_t i = 0; i < sizeof optional / sizeof *optional; i++) TRY(put_or_copy(e, optional[i], NULL));
    } else {
        TRY(tokenizer_export(e->origin.tokenizer, &text));
        TRY(put_buf(e, "tokenizer.json", &text));
    }
    const char *tokens = e->origin.pretrained ? "" : ", " PRESET_TOKENS;
    buf_clear(&text);
    TRY(buf_printf(&text, "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", \"model_max_length\": %d%s}\n",
                   e->origin.model.max_positions, tokens));
    TRY(put_or_copy(e, "tokenizer_config.json", buf_chars(&text)));
    return put_or_copy(e, "special_tokens_map.json", e->origin.pretrained ? "{}\n" : "{" PRESET_TOKENS "}\n");
}

/* what an interrupted export left */
static void clear(const char *folder)
{
    DIR *dir = opendir(folder);
    for (struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) {
        char path[CTL_PATH_BYTES + 300];
        (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.') (void)unlink(path);
    }
    if (dir) (void)closedir(dir);
    (void)rmdir(folder);
}

static err_t write_folder(const struct export *e)
{
    clear(e->partial);
    if (mkdir(e->partial, 0755) != 0) return err_set(ERR_io, "mkdir %s: %s", e->partial, strerror(errno));
    TRY(put_config(e));
    TRY(put_tokenizer(e));
    TRY(put_weights(e));
    /* onto an empty directory too, but onto nothing else */
    if (rename(e->partial, e->target) != 0) return err_set(ERR_io, "%s: %s", e->target, strerror(errno));
    return ERR_ok;
}

/* ---- the command ---- */

static err_t run(struct export *e)
{
    struct store *store = NULL;
    struct stat st;
    TRY(ctl_ledger(e->ctl, &store));
    err_t err = read_job(e, store);
    store_close(&store);
    TRY(err);
    if (stat(e->target, &st) == 0 && !S_ISDIR(st.st_mode)) return err_set(ERR_conflict, "%s is not a directory", e->target);
    err = write_folder(e);
    if (err != ERR_ok) clear(e->partial);
    return err;
}

static bool read_arguments(struct export *e)
{
    const char *version = ctl_option(e->ctl, "--version"), *type = ctl_option(e->ctl, "--dtype");
    char *end = NULL, *job_end = NULL;
    e->version = version ? strtoll(version, &end, 10) : -1;
    e->type = type && strcmp(type, "bf16") == 0 ? SAFETENSORS_BF16 : SAFETENSORS_F32;
    bool good = e->ctl->argc == 2 && (!version || (end != version && !*end && e->version >= 0)) &&
                (!type || strcmp(type, "bf16") == 0 || strcmp(type, "fp32") == 0);
    if (good) e->job = strtoll(e->ctl->argv[0], &job_end, 10);
    good = good && job_end != e->ctl->argv[0] && !*job_end;
    if (!good) {
        (void)fprintf(stderr, "pal: a job, a directory, --version N and --dtype fp32 or bf16 are wanted; see --help\n");
        return false;
    }
    size_t size = strlen(e->ctl->argv[1]);
    while (size > 1 && e->ctl->argv[1][size - 1] == '/') size--;
    (void)snprintf(e->target, sizeof e->target, "%s%.*s", strchr(e->ctl->argv[1], '/') ? "" : "./", (int)size,
                   e->ctl->argv[1]);
    (void)snprintf(e->partial, sizeof e->partial, "%s.partial", e->target);
    return true;
}

int command_export(struct ctl *ctl)
{
    AUTO(export) e = {.ctl = ctl};
    if (!read_arguments(&e)) return 2;
    err_t err = run(&e);
    if (err != ERR_ok) return ctl_fail(err);
    if (ctl->json)
        (void)printf("{\"job\": %lld, \"version\": %lld, \"digest\": \"%s\", \"directory\": \"%s\"}\n", (long long)e.job,
                     (long long)e.checkpoint.version, e.checkpoint.digest.hex, e.target);
    else
        (void)printf("version %lld of job %lld (%zu parameters, %s) is in %s\n", (long long)e.checkpoint.version,
                     (long long)e.job, e.checkpoint.count, e.type == SAFETENSORS_F32 ? "fp32" : "bf16", e.target);
    return 0;
}
