/* A model's weights out of safetensors files, one or many shards, and the index that names them.
 *
 * Every tensor of the model must be in exactly one shard with its shape; tensors that the model does not have are refused by
 * name (a Qwen3 norm ignored would be another model), except the few that are only stored (rotary inv_freq) and the head of
 * a model that is tied. */
#ifndef PAL_TRAINER_MODEL_HF_WEIGHTS_H
#define PAL_TRAINER_MODEL_HF_WEIGHTS_H

#include "trainer/model/layout.h"
#include "trainer/model/safetensors.h"

#define HF_SHARDS           1024
#define HF_SHARD_NAME_BYTES 128
#define HF_INDEX_BYTES      ((size_t)16 << 20)

struct hf_shard {
    char name[HF_SHARD_NAME_BYTES]; /* the file's, without a folder */
    const struct safetensors *file;
};

/* The shards that a model.safetensors.index.json names, each once, to ret [HF_SHARDS]; file is left NULL. */
err_t hf_index_parse(struct span json, struct hf_shard *ret, size_t *ret_count) MUST_USE;

/* A file without lm_head.weight has a tied head, whatever its config says or leaves out. */
void hf_weights_settle_head(const struct hf_shard *shards, size_t count, struct model_config *config);
/* Presence, shape and type of every tensor, without touching the data. Errors name file, tensor and reason. */
err_t hf_weights_check(const struct hf_shard *shards, size_t count, const struct model_config *config) MUST_USE;
/* Fills the model after hf_weights_check; ERR_numeric for elements that are not finite. */
err_t hf_weights_load(const struct hf_shard *shards, size_t count, struct model *model) MUST_USE;

/* A tensor of the model as an entry of a file of that type. */
void hf_weights_describe(const struct tensor *tensor, enum safetensors_type type, struct safetensor *ret);

#endif
