/* LABELS: unit
 * config.json: both spellings, what is written reads back the same, what is not computed here is refused by name. */
#include "tests/trainer/model/hf_fixture.h"

#define SHAPE                                                                                                                \
    "\"vocab_size\": 64, \"hidden_size\": 16, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "                        \
    "\"intermediate_size\": 28"
#define LLAMA(more) "{\"model_type\": \"llama\", " SHAPE more "}"

static struct hf_config parsed(const char *json)
{
    struct hf_config c;
    ck_assert_msg(hf_config_parse(span_text(json), &c) == ERR_ok, "%s: %s", json, err_text());
    return c;
}

START_TEST(defaults_are_the_classes)
{
    struct hf_config c = parsed(LLAMA(""));
    ck_assert_int_eq(c.family, HF_FAMILY_llama);
    ck_assert_int_eq(c.model.kv_heads, 4);
    ck_assert_int_eq(c.model.head_dim, 4);
    ck_assert_int_eq(c.model.vocab_padded, 64);
    ck_assert_int_eq(c.model.max_positions, 2048);
    ck_assert_double_eq((double)c.model.rope_theta, 10000);
    ck_assert(c.model.rms_eps == 1e-6f);
    ck_assert(!c.model.tied && !c.model.qkv_bias);
    ck_assert_uint_eq(c.ends.count, 0);
    ck_assert_int_eq(c.bos, -1);
    ck_assert(parsed("{\"model_type\": \"qwen2\", " SHAPE "}").model.qkv_bias);
}
END_TEST

START_TEST(both_spellings_say_the_same)
{
#define LLAMA3 "\"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192"
    struct hf_config old = parsed(LLAMA(", \"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": \"llama3\", " LLAMA3
                                        "}, \"torch_dtype\": \"bfloat16\""));
    struct hf_config new = parsed(LLAMA(", \"rope_parameters\": {\"rope_type\": \"llama3\", \"rope_theta\": 500000, " LLAMA3
                                        "}, \"dtype\": \"bfloat16\""));
    ck_assert(model_config_equal(&old.model, &new.model));
    ck_assert_int_eq(new.model.rope_scaling.kind, ROPE_SCALING_llama3);
    ck_assert_int_eq(new.model.rope_scaling.original_positions, 8192);
    struct hf_config linear = parsed(LLAMA(", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}"));
    ck_assert_int_eq(linear.model.rope_scaling.kind, ROPE_SCALING_linear);
    ck_assert_double_eq((double)linear.model.rope_scaling.factor, 2);
    struct hf_config plain =
        parsed(LLAMA(", \"rope_scaling\": null, \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 7}"));
    ck_assert_int_eq(plain.model.rope_scaling.kind, ROPE_SCALING_none);
    ck_assert_double_eq((double)plain.model.rope_theta, 7);
}
END_TEST

START_TEST(all_ends_are_kept)
{
    struct hf_config c = parsed(LLAMA(", \"eos_token_id\": [3, 5], \"bos_token_id\": 1, \"pad_token_id\": -1"));
    MUST(hf_generation_parse(span_text("{\"eos_token_id\": [5, 9]}"), &c.ends));
    ck_assert_uint_eq(c.ends.count, 3);
    ck_assert_int_eq(c.ends.ids[2], 9);
    ck_assert_int_eq(c.bos, 1);
    ck_assert_int_eq(c.pad, -1);
    MUST(hf_generation_parse(span_text("{}"), &c.ends));
    ck_assert_int_eq(hf_generation_parse(span_text("{\"eos_token_id\": \"x\"}"), &c.ends), ERR_malformed);
    ck_assert_int_eq(
        hf_generation_parse(span_text("{\"eos_token_id\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}"), &c.ends),
        ERR_too_large);
}
END_TEST

static void written_reads_back(const struct hf_config *c)
{
    AUTO(buf) json = {0};
    MUST(hf_config_write(c, "float32", &json));
    struct hf_config back = parsed(buf_chars(&json));
    ck_assert_msg(model_config_equal(&back.model, &c->model), "%s", buf_chars(&json));
    ck_assert_int_eq(back.family, c->family);
    ck_assert_uint_eq(back.ends.count, c->ends.count);
    ck_assert_mem_eq(back.ends.ids, c->ends.ids, c->ends.count * sizeof *c->ends.ids);
    ck_assert_int_eq(back.bos, c->bos);
    ck_assert_int_eq(back.pad, c->pad);
}

START_TEST(what_is_written_reads_back)
{
    const char *const folders[] = {"llama3", "qwen2"};
    struct hf_fixture *f = hf_fixture_open(folders[_i], _i == 0);
    AUTO(buf) json = {0};
    written_reads_back(&f->config);
    MUST(hf_config_write(&f->config, "bfloat16", &json));
    /* for transformers 4, llama.cpp and old vLLM, and for transformers 5 */
    const char *const keys[] = {
        "\"rope_theta\": ",        "\"rope_scaling\": ", "\"rope_parameters\": ", "\"torch_dtype\": \"bfloat16\"",
        "\"dtype\": \"bfloat16\"", "\"architectures\": "};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) ck_assert_msg(strstr(buf_chars(&json), keys[i]), "%s", keys[i]);
    ck_assert_msg(strstr(buf_chars(&json), _i == 0 ? "\"rms_norm_eps\": 1e-5," : "\"rms_norm_eps\": 1e-6,"), "%s",
                  buf_chars(&json));
    f->config.model.rope_scaling = (struct rope_scaling){.kind = ROPE_SCALING_linear, .factor = 1.1f};
    f->config.model.rms_eps = 1.2345678e-5f;
    f->config.ends.count = 0;
    written_reads_back(&f->config);
    hf_fixture_close(f);
}
END_TEST

static void refused(const char *json, err_t want, const char *why)
{
    struct hf_config c;
    err_t err = hf_config_parse(span_text(json), &c);
    ck_assert_msg(err == want, "%s: %s", json, err == ERR_ok ? "taken" : err_text());
    ck_assert_msg(strstr(err_text(), why) != NULL, "%s: \"%s\" should speak of \"%s\"", json, err_text(), why);
}

START_TEST(what_is_not_computed_is_named)
{
    refused("", ERR_malformed, "not JSON");
    refused("[]", ERR_malformed, "not a JSON object");
    refused("{\"a\": 1, \"a\": 1}", ERR_malformed, "duplicate");
    refused("{}", ERR_malformed, "model_type is missing");
    refused("{\"model_type\": \"mamba\"}", ERR_unsupported, "model_type is \"mamba\"; computed are llama, qwen2");
    refused("{\"model_type\": \"llama\"}", ERR_malformed, "vocab_size is missing");
    refused(LLAMA(", \"num_key_value_heads\": 3"), ERR_malformed, "kv_heads");
    refused(LLAMA(", \"head_dim\": 5"), ERR_malformed, "head_dim: 5 is odd");
    refused(LLAMA(", \"head_dim\": \"x\""), ERR_malformed, "head_dim");
    refused(LLAMA(", \"max_position_embeddings\": 1e9"), ERR_malformed, "max_position_embeddings");
    refused(LLAMA(", \"max_position_embeddings\": 2000000"), ERR_malformed, "max_positions");
    refused(LLAMA(", \"rms_norm_eps\": 0"), ERR_malformed, "rms_eps");
    refused(LLAMA(", \"rms_norm_eps\": 1e300"), ERR_malformed, "rms_norm_eps");
    refused(LLAMA(", \"hidden_act\": \"gelu\""), ERR_unsupported, "hidden_act is \"gelu\"");
    refused(LLAMA(", \"attention_bias\": true"), ERR_unsupported, "attention_bias");
    refused(LLAMA(", \"mlp_bias\": true"), ERR_unsupported, "mlp_bias");
    refused(LLAMA(", \"use_sliding_window\": true"), ERR_unsupported, "use_sliding_window");
    refused(LLAMA(", \"layer_types\": [\"full_attention\", \"sliding_attention\"]"), ERR_unsupported, "layer_types[1]");
    refused(LLAMA(", \"quantization_config\": {}"), ERR_unsupported, "quantization_config");
    refused(LLAMA(", \"partial_rotary_factor\": 0.5"), ERR_unsupported, "partial_rotary_factor");
    refused(LLAMA(", \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}"), ERR_unsupported, "\"yarn\"; computed are");
    refused(LLAMA(", \"rope_scaling\": {\"factor\": 4}"), ERR_malformed, "rope_type");
    refused(LLAMA(", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 4}"), ERR_malformed,
            "low_freq_factor is missing");
    refused(LLAMA(", \"rope_parameters\": 1"), ERR_malformed, "rope_parameters");
    refused(LLAMA(", \"tie_word_embeddings\": 1"), ERR_malformed, "tie_word_embeddings");
    refused(LLAMA(", \"eos_token_id\": [\"x\"]"), ERR_malformed, "eos_token_id");
    refused("{\"model_type\": \"llama\", \"vocab_size\": 9, \"hidden_size\": 4, \"num_hidden_layers\": 1, "
            "\"num_attention_heads\": 0, \"intermediate_size\": 4}",
            ERR_malformed, "num_attention_heads is 0");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hf config");
    TCase *tcase = tcase_create("hf config");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, defaults_are_the_classes);
    tcase_add_test(tcase, both_spellings_say_the_same);
    tcase_add_test(tcase, all_ends_are_kept);
    tcase_add_loop_test(tcase, what_is_written_reads_back, 0, 2);
    tcase_add_test(tcase, what_is_not_computed_is_named);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
