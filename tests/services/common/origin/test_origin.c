/* LABELS: unit
 * origin: presets and directories opened alike, what submission says about a directory, and broken ones with file, tensor and
 * reason in the sentence. */
#include "services/common/origin/origin.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define GOLDEN     PAL_SOURCE_DIR "/tests/golden/hf/"
#define MUST(call) ck_assert_msg((call) == ERR_ok, "%s: %s", #call, err_text())

static char folder[64]; /* a copy of a golden directory, to be broken */

/* the folder is $F in shell commands */
static void shell(const char *command)
{
    ck_assert_msg(system(command) == 0, "%s", command);
}

static void make_folder(void)
{
    (void)snprintf(folder, sizeof folder, "/tmp/pal-origin-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(setenv("F", folder, 1), 0);
}

static void remove_folder(void)
{
    shell("rm -rf $F");
}

static void copy_golden(const char *name)
{
    ck_assert_int_eq(setenv("G", name, 1), 0);
    shell("rm -rf $F && cp -r " GOLDEN "$G $F");
}

static struct job_spec spec_of(const char *init, const char *rollout, struct arena *arena)
{
    static struct job_spec spec;
    struct job_problems problems;
    AUTO(buf) json = {0};
    MUST(buf_printf(
        &json,
        "{\"name\": \"x\", \"environments\": [{\"name\": \"lake\"}], \"policy\": {\"init\": %s}, \"rollout\": {%s}, "
        "\"trainer\": {\"tokens_per_microbatch\": 8192}}",
        init, rollout));
    err_t err = job_parse(buf_span(&json), arena, &spec, &problems);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
    return spec;
}

static struct job_spec spec_at(const char *path, const char *rollout, struct arena *arena)
{
    char init[256];
    (void)snprintf(init, sizeof init, "{\"path\": \"%s\"}", path);
    return spec_of(init, rollout, arena);
}

START_TEST(presets_have_words_and_no_chat)
{
    AUTO(arena) arena = {0};
    AUTO(origin) o = {0};
    struct job_spec spec = spec_of("{\"preset\": \"tiny-0.1m\"}", "", &arena);
    struct job_problems problems = {.count = 0};
    MUST(origin_open(&spec, &o));
    ck_assert(!o.pretrained && !o.chat);
    ck_assert_int_eq(o.model.vocab, tokenizer_vocab(o.tokenizer));
    MUST(origin_check(&spec, &arena, &problems));
    ck_assert_str_eq(spec.init.sha256, "");
}
END_TEST

START_TEST(directories_have_all)
{
    const char *const names[] = {"llama3", "qwen2"};
    const int32_t ends[] = {633, 634}, opening[] = {1, 0};
    char path[128];
    AUTO(arena) arena = {0};
    AUTO(origin) o = {0};
    AUTO_PTR(model) model = NULL;
    size_t n = 0;
    (void)snprintf(path, sizeof path, GOLDEN "%s", names[_i]);
    struct job_spec spec = spec_at(path, "\"prompt\": \"chat\"", &arena);
    MUST(origin_open(&spec, &o));
    ck_assert(o.pretrained);
    ck_assert_str_eq(chat_name(o.chat), _i == 0 ? "llama3.1" : "qwen2.5");
    ck_assert_int_eq(o.model.vocab, 640);
    ck_assert_int_eq(o.model.vocab_padded, _i == 0 ? 640 : 656);
    ck_assert_int_eq(o.model.tied, _i == 0);
    ck_assert_int_eq(o.model.rope_scaling.kind, _i == 0 ? ROPE_SCALING_llama3 : ROPE_SCALING_none);
    ck_assert_int_eq(tokenizer_end(o.tokenizer, ends[_i]), TOKENIZER_END_eos);
    ck_assert_int_eq(tokenizer_end(o.tokenizer, 636), TOKENIZER_END_eos); /* the template's, and generation_config's */
    (void)tokenizer_opening(o.tokenizer, &n);
    ck_assert_uint_eq(n, (size_t)opening[_i]);
    MUST(model_new(&model, &o.model));
    MUST(origin_weights(&o, model));
    double sum = 0;
    for (size_t i = 0; i < model->count; i++) sum += (double)model->weights[i] * (double)model->weights[i];
    ck_assert_double_gt(sum, 1);
}
END_TEST

START_TEST(submission_fills_the_digest)
{
    AUTO(arena) arena = {0};
    AUTO(origin) o = {0};
    struct job_problems problems = {.count = 0};
    copy_golden("qwen2");
    struct job_spec spec = spec_at(folder, "\"prompt\": \"chat\", \"max_context\": 2048", &arena);
    MUST(origin_check(&spec, &arena, &problems));
    ck_assert_uint_eq(strlen(spec.init.sha256), 64);
    AUTO(buf) dumped = {0};
    MUST(job_dump(&spec, false, &dumped)); /* and the resolved job has it */
    ck_assert_ptr_nonnull(strstr(buf_chars(&dumped), spec.init.sha256));
    ck_assert_ptr_null(strstr(buf_chars(&dumped), "preset"));
    MUST(origin_open(&spec, &o));
    shell("echo >> $F/tokenizer_config.json");
    origin_fini(&o);
    ck_assert_int_eq(origin_open(&spec, &o), ERR_conflict);
    ck_assert_ptr_nonnull(strstr(err_text(), "policy.init.sha256"));
    ck_assert_int_eq(origin_check(&spec, &arena, &problems), ERR_invalid);
    ck_assert_str_eq(problems.rows[0].pointer, "/policy/init/sha256");
}
END_TEST

static void refused(const char *rollout, const char *pointer, const char *why)
{
    AUTO(arena) arena = {0};
    struct job_problems problems = {.count = 0};
    struct job_spec spec = spec_at(folder, rollout, &arena);
    ck_assert_int_eq(origin_check(&spec, &arena, &problems), ERR_invalid);
    ck_assert_uint_eq(problems.count, 1);
    ck_assert_str_eq(problems.rows[0].pointer, pointer);
    ck_assert_msg(strstr(problems.rows[0].detail, why) != NULL, "\"%s\" should speak of \"%s\"", problems.rows[0].detail,
                  why);
}

/* each breaks a fresh copy */
static const struct {
    const char *golden;
    const char *breaks;
    const char *rollout;
    const char *pointer;
    const char *why;
} BROKEN[] = {
    {"qwen2", "rm -r $F", "", "/policy/init/path", "config.json: No such file"},
    {"qwen2", "rm $F/tokenizer.json", "", "/policy/init/path", "tokenizer.json: No such file"},
    {"qwen2", "rm $F/model.safetensors", "", "/policy/init/path", "neither model.safetensors nor"},
    {"llama3", "rm $F/model-00002*", "", "/policy/init/path", "model-00002-of-00002.safetensors: No such file"},
    {"llama3", "sed -i 's/model-00001-of/..\\/..\\/x/' $F/*index.json", "", "/policy/init/path", "a plain name is wanted"},
    {"qwen2", "truncate -s 1000 $F/model.safetensors", "", "/policy/init/path", "model.safetensors: a safetensors header"},
    {"qwen2", "truncate -s 50000 $F/model.safetensors", "", "/policy/init/path", "are not within the"},
    {"qwen2", "truncate -s 0 $F/model.safetensors", "", "/policy/init/path", "model.safetensors is empty"},
    {"qwen2", "sed -i 's/k_proj.bias/k_proj.bios/' $F/model.safetensors", "", "/policy/init/path",
     "model.safetensors: tensor model.layers.0.self_attn.k_proj.bias is missing"},
    {"qwen2", "sed -i 's/\"hidden_size\": 16/\"hidden_size\": 24/' $F/config.json", "", "/policy/init/path",
     "tensor model.embed_tokens.weight has shape [656, 16], the config makes it [656, 24]"},
    {"qwen2", "sed -i 's/\"qwen2\"/\"qwen3\"/' $F/config.json", "", "/policy/init/path",
     "config.json: model_type is \"qwen3\""},
    {"qwen2", "sed -i 's/\"vocab_size\": 656/\"vocab_size\": 600/' $F/config.json", "", "/policy/init/path", "ids up to 639"},
    {"qwen2", "sed -i 's/634/9999/' $F/generation_config.json", "", "/policy/init/path", "eos token 9999"},
    {"qwen2", "sed -i 's/\"BPE\"/\"Unigram\"/' $F/tokenizer.json", "", "/policy/init/path", "tokenizer.json: model.type"},
    {"qwen2", "true", "\"max_context\": 4096", "/rollout/max_context", "2048 positions"},
    {"qwen2", "rm $F/tokenizer_config.json", "\"prompt\": \"chat\"", "/rollout/prompt", "has a chat template"},
    {"qwen2", "sed -i 's/im_start/in_start/g' $F/tokenizer_config.json", "\"prompt\": \"chat\"", "/rollout/prompt",
     "is not one of qwen2.5"},
};

START_TEST(broken_directories_are_named)
{
    copy_golden(BROKEN[_i].golden);
    shell(BROKEN[_i].breaks);
    refused(BROKEN[_i].rollout, BROKEN[_i].pointer, BROKEN[_i].why);
}
END_TEST

/* a weight that is NaN is seen when weights are read, with its tensor */
START_TEST(weights_that_are_not_finite_are_named)
{
    AUTO(arena) arena = {0};
    AUTO(origin) o = {0};
    AUTO_PTR(model) model = NULL;
    copy_golden("qwen2");
    shell("printf '\\300\\177' | dd of=$F/model.safetensors bs=1 "
          "seek=$(($(stat -c %s $F/model.safetensors) - 2)) conv=notrunc status=none");
    struct job_spec spec = spec_at(folder, "", &arena);
    MUST(origin_open(&spec, &o));
    MUST(model_new(&model, &o.model));
    ck_assert_int_eq(origin_weights(&o, model), ERR_numeric);
    ck_assert_msg(strstr(err_text(), "model.safetensors: tensor model.norm.weight: element 15 is NaN") != NULL, "%s",
                  err_text());
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("origin");
    TCase *tcase = tcase_create("origin");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, make_folder, remove_folder);
    tcase_add_test(tcase, presets_have_words_and_no_chat);
    tcase_add_loop_test(tcase, directories_have_all, 0, 2);
    tcase_add_test(tcase, submission_fills_the_digest);
    tcase_add_loop_test(tcase, broken_directories_are_named, 0, (int)(sizeof BROKEN / sizeof *BROKEN));
    tcase_add_test(tcase, weights_that_are_not_finite_are_named);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
