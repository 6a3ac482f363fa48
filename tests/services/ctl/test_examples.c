/* LABELS: unit
 * Every job of examples/ is accepted by `pal submit --dry-run`, what it resolves to is accepted again and is the same, and
 * the folder's README has it. */
#include "tests/support/stack.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXAMPLES PAL_SOURCE_DIR "/examples/"
#define MOST     64

/* pretrained.json says to name a model's directory */
static const char MODEL[] = "policy.init.path=" PAL_SOURCE_DIR "/tests/golden/hf/qwen2";

static char names[MOST][256];
static size_t count;

static void list(void)
{
    DIR *folder = opendir(EXAMPLES);
    if (!folder) return;
    for (const struct dirent *entry = readdir(folder); entry && count < MOST; entry = readdir(folder)) {
        const char *end = strrchr(entry->d_name, '.');
        if (end && strcmp(end, ".json") == 0) (void)snprintf(names[count++], sizeof *names, "%s", entry->d_name);
    }
    (void)closedir(folder);
}

static void read_file(const char *path, struct buf *ret)
{
    char chunk[4096];
    FILE *file = fopen(path, "re");
    ck_assert_msg(file != NULL, "%s cannot be read", path);
    for (size_t n = fread(chunk, 1, sizeof chunk, file); n > 0; n = fread(chunk, 1, sizeof chunk, file))
        ck_assert_int_eq(buf_append(ret, chunk, n), ERR_ok);
    (void)fclose(file);
}

/* The resolved job; what is said of its memory stands behind it. */
static json_t *resolve(const struct stack *stack, const char *path, const char *set)
{
    AUTO(buf) out = {0};
    const char *const words[] = {"submit", path, "--dry-run", set ? "--set" : NULL, set, NULL};
    ck_assert_msg(stack_pal(stack, &out, words) == 0, "%s: %s", path, buf_chars(&out));
    const char *from = strchr(buf_chars(&out), '{');
    json_error_t error;
    json_t *job = json_loads(from ? from : "", JSON_DISABLE_EOF_CHECK, &error);
    ck_assert_msg(json_is_object(job), "%s: %s", path, error.text);
    return job;
}

START_TEST(an_example_is_accepted)
{
    struct stack stack;
    char path[512];
    AUTO(buf) readme = {0};
    const char *name = names[_i], *set = strcmp(name, "pretrained.json") == 0 ? MODEL : NULL;
    stack_make(&stack);
    (void)snprintf(path, sizeof path, EXAMPLES "%s", name);
    json_t *job = resolve(&stack, path, set);
    (void)snprintf(path, sizeof path, "%s/again.json", stack.state);
    ck_assert_int_eq(json_dump_file(job, path, 0), 0);
    json_t *again = resolve(&stack, path, NULL);
    ck_assert_msg(json_equal(job, again), "%s resolves to something that resolves to something else", name);
    json_decref(job);
    json_decref(again);
    read_file(EXAMPLES "README.md", &readme);
    (void)snprintf(path, sizeof path, "`%s`", name);
    ck_assert_msg(strstr(buf_chars(&readme), path) != NULL, "examples/README.md has no %s", path);
    stack_remove(&stack);
}
END_TEST

/* It is the examples that are looked at, and they name their files from the tree's root. */
START_TEST(there_are_examples)
{
    ck_assert_uint_gt(count, 8);
    ck_assert_uint_lt(count, MOST);
}
END_TEST

int main(void)
{
    if (chdir(PAL_SOURCE_DIR) != 0) {
        perror(PAL_SOURCE_DIR);
        return 1;
    }
    list();
    Suite *suite = suite_create("examples");
    TCase *tcase = tcase_create("examples");
    tcase_set_timeout(tcase, STACK_SLOW * 20);
    tcase_add_test(tcase, there_are_examples);
    tcase_add_loop_test(tcase, an_example_is_accepted, 0, (int)count);
    suite_add_tcase(suite, tcase);
    return stack_run(suite);
}
