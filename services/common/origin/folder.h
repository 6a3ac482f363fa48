/* A Hugging Face directory, its files mapped: what policy.init.path names.
 *
 * Every error names the file. The digest covers config.json, generation_config.json, tokenizer.json, tokenizer_config.json
 * and chat_template.jinja, which decide what tokens mean; weights have digests of their own once they are a policy. */
#ifndef PAL_ORIGIN_FOLDER_H
#define PAL_ORIGIN_FOLDER_H

#include "services/common/base/digest.h"
#include "trainer/model/hf_config.h"
#include "trainer/model/hf_weights.h"
#include "trainer/model/tokenizer.h"

#define FOLDER_PATH_BYTES 1024

/* A file in memory; size 0: it is not there. */
struct map {
    void *data;
    size_t size;
};

/* Maps a whole file to read. ERR_not_found when there is none, ERR_too_large past max_bytes; both name the path. */
err_t map_open(const char *path, size_t max_bytes, struct map *ret) MUST_USE;
void map_fini(struct map *map);
static inline struct span map_span(const struct map *map)
{
    return span_of(map->data, map->size);
}

enum folder_file {
    FOLDER_FILE_config,
    FOLDER_FILE_generation,
    FOLDER_FILE_tokenizer,
    FOLDER_FILE_tokenizer_config,
    FOLDER_FILE_chat_template,
    FOLDER_FILE_COUNT
};

const char *folder_file_name(enum folder_file file);

struct folder {
    char path[FOLDER_PATH_BYTES];
    struct map files[FOLDER_FILE_COUNT]; /* config and tokenizer are there, the others may be */
    struct digest sha256;                /* of these files */
};

err_t folder_open(const char *path, struct folder *ret) MUST_USE;
void folder_fini(struct folder *folder);

/* config.json with the eos ids of generation_config.json. model.vocab and tied are settled by the following two. */
err_t folder_config(const struct folder *folder, struct hf_config *ret) MUST_USE;
/* The tokenizer with the config's eos ids; config's vocab becomes the tokenizer's. */
err_t folder_tokenizer(const struct folder *folder, struct hf_config *config, struct tokenizer **ret) MUST_USE;
/* The Jinja template in the arena-like buf, from chat_template.jinja or tokenizer_config.json. ERR_not_found: there is none.
 */
err_t folder_chat_template(const struct folder *folder, struct buf *out) MUST_USE;

/* Opens the weights: settles whether the head is tied and checks every tensor's presence, shape and type; with model (of the
 * settled config) it is filled too. */
err_t folder_weights(const struct folder *folder, struct model_config *config, struct model *model) MUST_USE;

#endif
