#include "trainer/model/hf_config.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct family {
    const char *type;
    const char *architecture;
    bool bias;
};

static const struct family FAMILIES[] = {
#define FAMILY(id, type, architecture, bias) {type, architecture, bias},
#include "trainer/model/hf_families.def"
#undef FAMILY
};

const char *hf_family_name(enum hf_family family)
{
    return FAMILIES[family].type;
}

/* ---- reading values: NULL and null are the default ---- */

static bool absent(const json_t *value)
{
    return !value || json_is_null(value);
}

static err_t get_int(const json_t *object, const char *key, int32_t otherwise, int32_t *ret)
{
    const json_t *value = json_object_get(object, key);
    *ret = otherwise;
    if (absent(value)) return otherwise >= 0 ? ERR_ok : err_set(ERR_malformed, "%s is missing", key);
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > INT32_MAX)
        return err_set(ERR_malformed, "%s is not a whole number from 0", key);
    *ret = (int32_t)json_integer_value(value);
    return ERR_ok;
}

static err_t get_float(const json_t *object, const char *key, double otherwise, float *ret)
{
    const json_t *value = json_object_get(object, key);
    double number = absent(value) ? otherwise : json_number_value(value);
    if (!absent(value) && !json_is_number(value)) return err_set(ERR_malformed, "%s is not a number", key);
    if (isnan(number)) return err_set(ERR_malformed, "%s is missing", key);
    if (fabs(number) > 1e30) return err_set(ERR_malformed, "%s is %g", key, number);
    *ret = (float)number;
    return ERR_ok;
}

static err_t get_flag(const json_t *object, const char *key, bool otherwise, bool *ret)
{
    const json_t *value = json_object_get(object, key);
    *ret = absent(value) ? otherwise : json_is_true(value);
    if (absent(value) || json_is_boolean(value)) return ERR_ok;
    return err_set(ERR_malformed, "%s is neither true nor false", key);
}

static err_t load(struct span json, json_t **ret)
{
    json_error_t error;
    if (json.size > HF_CONFIG_BYTES)
        return err_set(ERR_too_large, "%zu bytes; at most %zu are allowed", json.size, HF_CONFIG_BYTES);
    json_t *root = json_loadb((const char *)json.data, json.size, JSON_REJECT_DUPLICATES, &error);
    if (!root) return err_set(ERR_malformed, "not JSON: %.100s at line %d, column %d", error.text, error.line, error.column);
    if (!json_is_object(root)) {
        json_decref(root);
        return err_set(ERR_malformed, "not a JSON object");
    }
    *ret = root;
    return ERR_ok;
}

/* ---- ends ---- */

static err_t add_end(const json_t *value, struct hf_ends *ends)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > INT32_MAX)
        return err_set(ERR_malformed, "eos_token_id is not a token id or a list of them");
    int32_t id = (int32_t)json_integer_value(value);
    for (size_t i = 0; i < ends->count; i++) {
        if (ends->ids[i] == id) return ERR_ok;
    }
    if (ends->count == HF_ENDS) return err_set(ERR_too_large, "eos_token_id: more than %d ids", HF_ENDS);
    ends->ids[ends->count++] = id;
    return ERR_ok;
}

static err_t add_ends(const json_t *root, struct hf_ends *ends)
{
    const json_t *value = json_object_get(root, "eos_token_id");
    if (absent(value)) return ERR_ok;
    if (!json_is_array(value)) return add_end(value, ends);
    for (size_t i = 0; i < json_array_size(value); i++) TRY(add_end(json_array_get(value, i), ends));
    return ERR_ok;
}

/* -1 when there is none; some files say -1 themselves, or a list */
static int32_t optional_id(const json_t *root, const char *key)
{
    json_int_t id = json_integer_value(json_object_get(root, key));
    return json_is_integer(json_object_get(root, key)) && id >= 0 && id <= INT32_MAX ? (int32_t)id : -1;
}

/* ---- what must be as we compute it ---- */

static err_t check_text(const json_t *object, const char *key, const char *wanted)
{
    const json_t *value = json_object_get(object, key);
    const char *text = json_string_value(value);
    if (absent(value) || (text && strcmp(text, wanted) == 0)) return ERR_ok;
    return err_set(ERR_unsupported, "%s is \"%.40s\"; only \"%s\" is computed", key, text ? text : "(no string)", wanted);
}

static err_t check_off(const json_t *root, const char *key)
{
    bool on = false;
    TRY(get_flag(root, key, false, &on));
    return on ? err_set(ERR_unsupported, "%s is true: that is not computed", key) : ERR_ok;
}

static err_t check_layer_types(const json_t *root)
{
    const json_t *types = json_object_get(root, "layer_types");
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (!type || strcmp(type, "full_attention") != 0)
            return err_set(ERR_unsupported, "layer_types[%zu] is \"%.40s\"; only \"full_attention\" is computed", i,
                           type ? type : "(no string)");
    }
    return ERR_ok;
}

static err_t check_computed(const json_t *root)
{
    static const char *const off[] = {"attention_bias", "mlp_bias", "rope_interleaved", "use_sliding_window",
                                      "add_cross_attention"};
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) TRY(check_off(root, off[i]));
    TRY(check_text(root, "hidden_act", "silu"));
    TRY(check_layer_types(root));
    float share = 1;
    TRY(get_float(root, "partial_rotary_factor", 1, &share));
    if (share != 1) return err_set(ERR_unsupported, "partial_rotary_factor is %g; only 1 is computed", (double)share);
    if (!absent(json_object_get(root, "quantization_config")))
        return err_set(ERR_unsupported, "quantization_config: quantised weights cannot be trained");
    return ERR_ok;
}

static err_t read_family(const json_t *root, enum hf_family *ret)
{
    const char *type = json_string_value(json_object_get(root, "model_type"));
    char known[128] = "";
    if (!type) return err_set(ERR_malformed, "model_type is missing");
    for (size_t i = 0; i < HF_FAMILY_COUNT; i++) {
        if (strcmp(type, FAMILIES[i].type) == 0) {
            *ret = (enum hf_family)i;
            return ERR_ok;
        }
        size_t n = strlen(known);
        (void)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", FAMILIES[i].type);
    }
    return err_set(ERR_unsupported, "model_type is \"%.40s\"; computed are %s", type, known);
}

/* ---- positions ---- */

static err_t read_llama3(const json_t *rope, struct rope_scaling *s)
{
    s->kind = ROPE_SCALING_llama3;
    TRY(get_float(rope, "low_freq_factor", (double)NAN, &s->low_freq_factor));
    TRY(get_float(rope, "high_freq_factor", (double)NAN, &s->high_freq_factor));
    return get_int(rope, "original_max_position_embeddings", -1, &s->original_positions);
}

static err_t read_scaling(const json_t *rope, struct rope_scaling *s)
{
    if (absent(rope)) return ERR_ok;
    const json_t *type = json_object_get(rope, "rope_type");
    if (absent(type)) type = json_object_get(rope, "type");
    const char *name = json_string_value(type);
    if (!json_is_object(rope) || !name) return err_set(ERR_malformed, "rope_scaling: an object with rope_type is wanted");
    if (strcmp(name, "default") == 0) return ERR_ok;
    bool linear = strcmp(name, "linear") == 0;
    if (!linear && strcmp(name, "llama3") != 0)
        return err_set(ERR_unsupported, "rope_scaling of type \"%.40s\"; computed are default, linear and llama3", name);
    TRY(get_float(rope, "factor", (double)NAN, &s->factor));
    if (!linear) return read_llama3(rope, s);
    s->kind = ROPE_SCALING_linear;
    return ERR_ok;
}

/* transformers 5 writes rope_parameters, 4 rope_theta and rope_scaling; where both stand the new ones count */
static err_t read_rope(const json_t *root, struct model_config *c)
{
    const json_t *parameters = json_object_get(root, "rope_parameters");
    bool new_spelling = !absent(parameters);
    if (new_spelling && !json_is_object(parameters)) return err_set(ERR_malformed, "rope_parameters is not an object");
    bool theta_inside = new_spelling && !absent(json_object_get(parameters, "rope_theta"));
    TRY(get_float(theta_inside ? parameters : root, "rope_theta", 10000, &c->rope_theta));
    return read_scaling(new_spelling ? parameters : json_object_get(root, "rope_scaling"), &c->rope_scaling);
}

/* ---- the whole ---- */

static err_t read_shape(const json_t *root, struct model_config *c)
{
    TRY(get_int(root, "vocab_size", -1, &c->vocab_padded));
    c->vocab = c->vocab_padded;
    TRY(get_int(root, "num_hidden_layers", -1, &c->layers));
    TRY(get_int(root, "hidden_size", -1, &c->width));
    TRY(get_int(root, "num_attention_heads", -1, &c->heads));
    TRY(get_int(root, "num_key_value_heads", c->heads, &c->kv_heads));
    TRY(get_int(root, "intermediate_size", -1, &c->ff));
    TRY(get_int(root, "max_position_embeddings", 2048, &c->max_positions));
    if (c->heads < 1) return err_set(ERR_malformed, "num_attention_heads is 0");
    TRY(get_int(root, "head_dim", c->width / c->heads, &c->head_dim));
    TRY(get_float(root, "rms_norm_eps", 1e-6, &c->rms_eps));
    return get_flag(root, "tie_word_embeddings", false, &c->tied);
}

static err_t parse(const json_t *root, struct hf_config *c)
{
    TRY(read_family(root, &c->family));
    TRY(check_computed(root));
    TRY(read_shape(root, &c->model));
    TRY(read_rope(root, &c->model));
    TRY(add_ends(root, &c->ends));
    c->model.qkv_bias = FAMILIES[c->family].bias;
    c->bos = optional_id(root, "bos_token_id");
    c->pad = optional_id(root, "pad_token_id");
    return model_config_check(&c->model) == ERR_ok ? ERR_ok : err_prefix(ERR_malformed, "as config.json has it");
}

err_t hf_config_parse(struct span json, struct hf_config *ret)
{
    json_t *root = NULL;
    struct hf_config config = {.bos = -1, .pad = -1};
    TRY(load(json, &root));
    err_t err = parse(root, &config);
    json_decref(root);
    if (err == ERR_ok) *ret = config;
    return err;
}

err_t hf_generation_parse(struct span json, struct hf_ends *ends)
{
    json_t *root = NULL;
    TRY(load(json, &root));
    err_t err = add_ends(root, ends);
    json_decref(root);
    return err;
}

/* ---- writing ---- */

/* the shortest decimal that reads back as the same float: 1e-06, not 9.99999997e-07 */
static json_t *real(float value)
{
    char text[32] = "0";
    for (int digits = 1; digits <= 9; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    return json_real(strtod(text, NULL));
}

static json_t *rope_type(const struct rope_scaling *s)
{
    switch (s->kind) {
    case ROPE_SCALING_none:
        break;
    case ROPE_SCALING_linear:
        return json_pack("{s:s, s:o}", "rope_type", "linear", "factor", real(s->factor));
    case ROPE_SCALING_llama3:
        return json_pack("{s:s, s:o, s:o, s:o, s:i}", "rope_type", "llama3", "factor", real(s->factor), "low_freq_factor",
                         real(s->low_freq_factor), "high_freq_factor", real(s->high_freq_factor),
                         "original_max_position_embeddings", s->original_positions);
    }
    return json_pack("{s:s}", "rope_type", "default");
}

static void put_rope(json_t *root, const struct model_config *c)
{
    bool none = c->rope_scaling.kind == ROPE_SCALING_none;
    json_t *parameters = rope_type(&c->rope_scaling);
    (void)json_object_set_new(parameters, "rope_theta", real(c->rope_theta));
    (void)json_object_set_new(root, "rope_theta", real(c->rope_theta));
    (void)json_object_set_new(root, "rope_scaling", none ? json_null() : rope_type(&c->rope_scaling));
    (void)json_object_set_new(root, "rope_parameters", parameters);
}

static json_t *ends_json(const struct hf_ends *ends)
{
    if (ends->count == 0) return json_null();
    if (ends->count == 1) return json_integer(ends->ids[0]);
    json_t *list = json_array();
    for (size_t i = 0; i < ends->count; i++) (void)json_array_append_new(list, json_integer(ends->ids[i]));
    return list;
}

static void put_ids(json_t *root, const struct hf_config *config)
{
    (void)json_object_set_new(root, "bos_token_id", config->bos < 0 ? json_null() : json_integer(config->bos));
    (void)json_object_set_new(root, "eos_token_id", ends_json(&config->ends));
    (void)json_object_set_new(root, "pad_token_id", config->pad < 0 ? json_null() : json_integer(config->pad));
}

static err_t append(json_t *root, struct buf *out)
{
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(root);
    if (!text) return err_set(ERR_memory, "a configuration");
    err_t err = buf_printf(out, "%s\n", text);
    free(text);
    return err;
}

err_t hf_config_write(const struct hf_config *config, const char *type, struct buf *out)
{
    const struct model_config *c = &config->model;
    const struct family *family = &FAMILIES[config->family];
    json_t *root =
        json_pack("{s:[s], s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:b, s:f, s:f, s:b, s:s, s:s}", "architectures",
                  family->architecture, "model_type", family->type, "vocab_size", c->vocab_padded, "hidden_size", c->width,
                  "intermediate_size", c->ff, "num_hidden_layers", c->layers, "num_attention_heads", c->heads,
                  "num_key_value_heads", c->kv_heads, "head_dim", c->head_dim, "max_position_embeddings", c->max_positions,
                  "hidden_act", "silu", "tie_word_embeddings", c->tied, "initializer_range", 0.02, "attention_dropout", 0.0,
                  "use_cache", 1, "torch_dtype", type, "dtype", type);
    if (root) (void)json_object_set_new(root, "rms_norm_eps", real(c->rms_eps));
    if (root && !family->bias) (void)json_object_set_new(root, "attention_bias", json_false());
    if (root) put_rope(root, c);
    if (root) put_ids(root, config);
    return append(root, out);
}

err_t hf_generation_write(const struct hf_config *config, double temperature, struct buf *out)
{
    json_t *root = json_pack("{s:b, s:f, s:f, s:i}", "do_sample", 1, "temperature", temperature, "top_p", 1.0, "top_k", 0);
    if (root) put_ids(root, config);
    return append(root, out);
}
