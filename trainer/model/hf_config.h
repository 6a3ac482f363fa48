/* config.json and generation_config.json of a Hugging Face directory.
 *
 * Both spellings are read (transformers 4: rope_theta, rope_scaling, torch_dtype; 5: rope_parameters, dtype) and both are
 * written, because old converters know only the old one. What would change the computation and is not computed here - an
 * unknown architecture, another activation, sliding windows, YaRN, quantised weights - is refused by name, never guessed.
 * The file's vocab_size is the rows of the embedding, so config.vocab_padded; how many of them are ids only the tokenizer
 * knows (config.vocab = vocab_padded until then). Whether the head is tied is settled by the weights (hf_weights.h). */
#ifndef PAL_TRAINER_MODEL_HF_CONFIG_H
#define PAL_TRAINER_MODEL_HF_CONFIG_H

#include "services/common/base/buf.h"
#include "trainer/model/model.h"

#define HF_CONFIG_BYTES ((size_t)1 << 20) /* longest config.json */
#define HF_ENDS         16                /* end-of-sequence ids */

enum hf_family {
#define FAMILY(id, type, architecture, bias) HF_FAMILY_##id,
#include "trainer/model/hf_families.def"
#undef FAMILY
    HF_FAMILY_COUNT
};

/* Ids at which a model's own generation ends. */
struct hf_ends {
    int32_t ids[HF_ENDS];
    size_t count;
};

struct hf_config {
    enum hf_family family;
    struct model_config model;
    struct hf_ends ends; /* eos_token_id: a number or a list */
    int32_t bos, pad;    /* -1: none */
};

const char *hf_family_name(enum hf_family family);

/* ERR_malformed: not JSON, or a key that is missing or of a wrong type; ERR_unsupported: a computation that is not ours. Both
 * name the key. */
err_t hf_config_parse(struct span json, struct hf_config *ret) MUST_USE;
/* Adds the eos ids of a generation_config.json: a rollout stops at all of them. */
err_t hf_generation_parse(struct span json, struct hf_ends *ends) MUST_USE;

/* config.json that transformers 4 and 5, vLLM and llama.cpp's converter read; type "float32" or "bfloat16". */
err_t hf_config_write(const struct hf_config *config, const char *type, struct buf *out) MUST_USE;
/* generation_config.json: the ends, and sampling as the policy was trained (temperature, nothing cut off). */
err_t hf_generation_write(const struct hf_config *config, double temperature, struct buf *out) MUST_USE;

#endif
