/* LABELS: system
 * A Hugging Face directory through the whole stack: refused with pointers where it is broken, trained in chat and raw,
 * sampler and learner in agreement, exported, and the export trained in its turn. */
#include "services/common/origin/origin.h"
#include "tests/support/stack.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define GOLDEN PAL_SOURCE_DIR "/tests/golden/hf/"

static const char JOB[] =
    "{\"name\": \"vowels\", \"environments\": [{\"provider\": \"process\", \"name\": \"vowels\", \"command\": [\"python3\", "
    "\"" PAL_SOURCE_DIR "/examples/environments/vowels.py\"], \"slots\": 4, \"max_steps\": 2, \"step_timeout_ms\": 20000, "
    "\"tasks\": {\"file\": \"" PAL_SOURCE_DIR "/examples/environments/vowels.jsonl\", \"holdout\": 4}}], "
    "\"policy\": {\"init\": {\"path\": \"%s\"}}, "
    "\"rollout\": {\"prompt\": \"%s\", \"group_size\": 4, \"max_new_tokens\": 10}, "
    "\"trainer\": {\"groups_per_update\": 2, \"updates\": %d, \"max_staleness\": 0, \"lr\": 0.003, \"old_policy\": "
    "\"recompute\", "
    "\"importance\": {\"mode\": \"tis\"}, \"checkpoint_every\": 1}, \"evaluation\": {\"episodes\": 4, \"every\": 0}}";

static const char *write_job(const struct stack *stack, const char *path, const char *prompt, int updates)
{
    static char name[256];
    (void)snprintf(name, sizeof name, "%s-job.json", stack->state);
    FILE *file = fopen(name, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_gt(fprintf(file, JOB, path, prompt, updates), 0);
    ck_assert_int_eq(fclose(file), 0);
    return name;
}

static int64_t train(const struct stack *stack, const char *path, const char *prompt, int updates)
{
    static const char *const none[] = {NULL};
    char state[32];
    const char *file = write_job(stack, path, prompt, updates);
    int64_t job = stack_submit(stack, file, none);
    stack_wait(stack, job, 60, state);
    ck_assert_str_eq(state, "succeeded");
    (void)unlink(file);
    return job;
}

static void export(const struct stack *stack, int64_t job, const char *version, const char *type, const char *to)
{
    char id[32];
    (void)snprintf(id, sizeof id, "%lld", (long long)job);
    const char *const words[] = {"export", id, to, "--version", version, "--dtype", type, NULL};
    ck_assert_int_eq(stack_pal(stack, NULL, words), 0);
}

static struct model *load(const char *path, struct origin *origin)
{
    static struct job_spec spec;
    struct model *model = NULL;
    (void)snprintf(spec.init.path, sizeof spec.init.path, "%s", path);
    ck_assert_msg(origin_open(&spec, origin) == ERR_ok, "%s", err_text());
    ck_assert_int_eq(model_new(&model, &origin->model), ERR_ok);
    ck_assert_msg(origin_weights(origin, model) == ERR_ok, "%s", err_text());
    return model;
}

static void remove_folder(const char *path)
{
    char command[300];
    (void)snprintf(command, sizeof command, "rm -rf %s", path);
    ck_assert_int_eq(system(command), 0);
}

/* version 0 exported in fp32 is the directory's model, bit for bit; in bf16 it is rounded; tokenizer files are copied */
static void compare_export(const struct stack *stack, int64_t job, const char *from)
{
    char to[160];
    AUTO(origin) a = {0};
    AUTO(origin) b = {0};
    AUTO(origin) c = {0};
    (void)snprintf(to, sizeof to, "%s-fp32", stack->state);
    export(stack, job, "0", "fp32", to);
    AUTO_PTR(model) first = load(from, &a);
    AUTO_PTR(model) back = load(to, &b);
    ck_assert(model_config_equal(&first->config, &back->config));
    ck_assert_mem_eq(first->weights, back->weights, first->count * sizeof(float));
    const enum folder_file copied[] = {FOLDER_FILE_tokenizer, FOLDER_FILE_tokenizer_config, FOLDER_FILE_generation};
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++)
        ck_assert(span_equal(map_span(&a.folder.files[copied[i]]), map_span(&b.folder.files[copied[i]])));
    remove_folder(to);
    (void)snprintf(to, sizeof to, "%s-bf16", stack->state);
    export(stack, job, "0", "bf16", to);
    AUTO_PTR(model) rounded = load(to, &c);
    for (size_t i = 0; i < first->count; i++)
        ck_assert_double_le(fabs((double)(rounded->weights[i] - first->weights[i])),
                            fabs((double)first->weights[i]) * 0x1p-8);
    remove_folder(to);
}

static void sampler_and_learner_agree(const struct stack *stack, int64_t job)
{
    ck_assert_double_gt(stack_metric(stack, job, "own_targets"), 0);
    ck_assert_double_lt(stack_metric(stack, job, "own_gap_max"), 1e-4);
    ck_assert_double_lt(stack_metric(stack, job, "kl_first_pass"), 1e-8);
    stack_verify(stack, job);
}

START_TEST(a_qwen_is_trained_in_chat)
{
    struct stack stack;
    char path[96];
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = train(&stack, GOLDEN "qwen2", "chat", 3);
    sampler_and_learner_agree(&stack, job);
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld/episodes/1", (long long)job);
    json_t *episode = stack_get(&stack, path);
    const json_t *turn = json_array_get(json_object_get(episode, "transcript"), 0);
    ck_assert_ptr_nonnull(
        strstr(json_string_value(json_object_get(turn, "observation")), "<|im_start|>user\nSay it in vowels: "));
    json_decref(episode);
    compare_export(&stack, job, GOLDEN "qwen2");
    stack_remove(&stack);
}
END_TEST

/* shards, a tied head, rope scaling; and what was trained is exported and trained again */
START_TEST(a_llama_goes_out_and_in_again)
{
    struct stack stack;
    char path[160];
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = train(&stack, GOLDEN "llama3", "raw", 2);
    sampler_and_learner_agree(&stack, job);
    (void)snprintf(path, sizeof path, "%s-export", stack.state);
    export(&stack, job, "2", "fp32", path);
    int64_t next = train(&stack, path, "chat", 1);
    sampler_and_learner_agree(&stack, next);
    compare_export(&stack, next, path);
    remove_folder(path);
    stack_remove(&stack);
}
END_TEST

/* of the weights of an exported version */
static struct digest exported_digest(const struct stack *stack, int64_t job, const char *to)
{
    char id[32];
    struct digest digest = {.hex = ""};
    AUTO(buf) out = {0};
    (void)snprintf(id, sizeof id, "%lld", (long long)job);
    const char *const words[] = {"export", id, to, "--version", "0", "--json", NULL};
    ck_assert_int_eq(stack_pal(stack, &out, words), 0);
    json_t *json = json_loadb(buf_chars(&out), out.size, 0, NULL);
    ck_assert_msg(json != NULL, "%s", buf_chars(&out));
    (void)snprintf(digest.hex, sizeof digest.hex, "%s", json_string_value(json_object_get(json, "digest")));
    json_decref(json);
    ck_assert_uint_eq(strlen(digest.hex), 64);
    return digest;
}

static int64_t play(const struct stack *stack, const char *init, int updates)
{
    char count[32], state[32];
    (void)snprintf(count, sizeof count, "trainer.updates=%d", updates);
    const char *const sets[] = {init,
                                count,
                                "policy.warmstart=null",
                                "rollout.group_size=4",
                                "trainer.groups_per_update=2",
                                "trainer.max_staleness=0",
                                "trainer.old_policy=recompute",
                                "evaluation.episodes=4",
                                "environments.0.tasks.holdout=4",
                                "environments.0.tasks.generate.count=8",
                                NULL};
    int64_t job = stack_submit(stack, "examples/adventure.json", sets);
    stack_wait(stack, job, 60, state);
    ck_assert_str_eq(state, "succeeded");
    return job;
}

static void words_folder(const char *path)
{
    char file[200];
    AUTO(folder) folder = {.path = ""};
    struct hf_config config;
    ck_assert_msg(folder_open(path, &folder) == ERR_ok, "%s", err_text());
    ck_assert_msg(folder_config(&folder, &config) == ERR_ok, "%s", err_text());
    ck_assert_msg(folder_weights(&folder, &config.model, NULL) == ERR_ok, "%s", err_text());
    ck_assert(config.model.tied && config.family == HF_FAMILY_llama);
    ck_assert_int_eq(config.ends.ids[0], 2); /* the newline */
    const char *const others[] = {"tokenizer.json", "special_tokens_map.json"};
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(file, sizeof file, "%s/%s", path, others[i]);
        json_t *json = json_load_file(file, 0, NULL);
        ck_assert_msg(json != NULL, "%s", file);
        json_decref(json);
    }
}

/* a preset's policy leaves as a directory too, with the words as its tokenizer.json, and a job begins there with its weights
 */
START_TEST(a_preset_goes_out_and_in_again)
{
    struct stack stack;
    char path[160], init[200], back[160];
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = play(&stack, "policy.init.preset=tiny-0.1m", 0);
    (void)snprintf(path, sizeof path, "%s-bf16-preset", stack.state);
    export(&stack, job, "0", "bf16", path);
    words_folder(path);
    remove_folder(path);
    (void)snprintf(path, sizeof path, "%s-preset", stack.state);
    struct digest first = exported_digest(&stack, job, path);
    words_folder(path);
    (void)snprintf(init, sizeof init, "policy.init={\"path\": \"%s\"}", path);
    int64_t next = play(&stack, init, 1);
    stack_verify(&stack, next);
    compare_export(&stack, next, path);
    (void)snprintf(back, sizeof back, "%s-back", stack.state);
    ck_assert_str_eq(exported_digest(&stack, next, back).hex, first.hex);
    remove_folder(back);
    remove_folder(path);
    stack_remove(&stack);
}
END_TEST

START_TEST(what_is_wrong_is_said_at_submission)
{
    struct stack stack;
    AUTO(buf) out = {0};
    stack_make(&stack);
    stack_up(&stack);
    const char *file = write_job(&stack, "/tmp/no-such-model", "raw", 1);
    const char *const words[] = {"submit", file, NULL};
    ck_assert_int_eq(stack_pal(&stack, &out, words), 1);
    ck_assert_msg(strstr(buf_chars(&out), "/policy/init/path") && strstr(buf_chars(&out), "no-such-model/config.json"), "%s",
                  buf_chars(&out));
    buf_clear(&out);
    file = write_job(&stack, GOLDEN "gpt2", "raw", 1); /* a tokenizer without a model */
    ck_assert_int_eq(stack_pal(&stack, &out, words), 1);
    ck_assert_msg(strstr(buf_chars(&out), "gpt2/config.json"), "%s", buf_chars(&out));
    (void)unlink(file);
    stack_remove(&stack);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pretrained");
    TCase *tcase = tcase_create("pretrained");
    tcase_set_timeout(tcase, 120 * STACK_SLOW);
    tcase_add_test(tcase, a_qwen_is_trained_in_chat);
    tcase_add_test(tcase, a_llama_goes_out_and_in_again);
    tcase_add_test(tcase, a_preset_goes_out_and_in_again);
    tcase_add_test(tcase, what_is_wrong_is_said_at_submission);
    suite_add_tcase(suite, tcase);
    return stack_run(suite);
}
