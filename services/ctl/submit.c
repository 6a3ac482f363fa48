/* pal submit: a job file, its overrides and its paths made absolute, sent or checked. */
#include "services/common/origin/origin.h"
#include "services/ctl/ctl.h"
#include "services/ctl/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SETS 64 /* most --set of one submit */

static err_t read_file(const char *path, struct buf *out)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (!file) return err_set(ERR_not_found, "%s cannot be opened", path);
    char chunk[4096];
    err_t err = ERR_ok;
    buf_init(out, JOB_FILE_BYTES);
    for (size_t n = fread(chunk, 1, sizeof chunk, file); n > 0 && err == ERR_ok; n = fread(chunk, 1, sizeof chunk, file))
        err = buf_append(out, chunk, n);
    if (file != stdin) (void)fclose(file);
    return err;
}

static err_t apply_overrides(const char *const *sets, size_t count, struct buf *text)
{
    for (size_t i = 0; i < count; i++) {
        AUTO(buf) next = {0};
        TRY(job_override(buf_span(text), sets[i], &next));
        buf_clear(text);
        TRY(buf_append(text, next.data, next.size));
    }
    return ERR_ok;
}

/* A path that is there for whoever submits is there for the stack too, wherever that was started. */
static void make_absolute(json_t *holder, const char *key, size_t index)
{
    json_t *value = key ? json_object_get(holder, key) : json_array_get(holder, index);
    const char *text = json_string_value(value);
    bool is_path = key || (text && strchr(text, '/')); /* the words of a command may be anything */
    if (!text || text[0] == '/' || !is_path) return;
    char *path = realpath(text, NULL);
    if (path) (void)json_string_set(value, path);
    free(path);
}

/* Files of tasks and of commands, the model's directory; text that is no JSON is left to the parser of jobs, which says where
 * it is wrong. */
static err_t absolute_paths(struct buf *text)
{
    json_t *root = json_loadb((const char *)text->data, text->size, 0, NULL), *environment = NULL;
    size_t i = 0;
    if (!root) return ERR_ok;
    json_array_foreach(json_object_get(root, "environments"), i, environment)
    {
        make_absolute(json_object_get(environment, "tasks"), "file", 0);
        json_t *command = json_object_get(environment, "command");
        for (size_t k = 0; k < json_array_size(command); k++) make_absolute(command, NULL, k);
    }
    make_absolute(json_object_get(json_object_get(root, "policy"), "init"), "path", 0);
    json_t *curation = json_object_get(root, "curation");
    make_absolute(json_object_get(curation, "guide"), "file", 0);
    make_absolute(json_object_get(curation, "dart"), "pool_file", 0);
    char *dumped = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    if (!dumped) return err_set(ERR_memory, "a job file");
    buf_clear(text);
    err_t err = buf_text(text, dumped);
    free(dumped);
    return err;
}

/* to stderr: stdout is the resolved job */
static int print_memory(const struct job_spec *spec)
{
    AUTO(origin) origin = {0};
    err_t err = origin_open(spec, &origin);
    if (err != ERR_ok) return ctl_fail(err);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    const struct memory m = memory_of(spec, &origin.model, cpus > 0 ? (size_t)cpus : 1);
    (void)fprintf(
        stderr,
        "memory at most (docs/memory.md): pal-trainer %.0f MiB, pal-rollout %.0f MiB, with %zu parameters on %ld threads\n",
        (double)m.trainer / 1048576, (double)m.rollout / 1048576, model_parameters(&origin.model), cpus);
    return 0;
}

/* Without a stack: validated here, by the same code. */
static int dry_run(const struct buf *text)
{
    AUTO(arena) arena = {0};
    AUTO(buf) resolved = {0};
    struct job_spec spec;
    struct job_problems problems;
    err_t err = job_parse(buf_span(text), &arena, &spec, &problems);
    if (err == ERR_ok) err = origin_check(&spec, &arena, &problems);
    for (size_t i = 0; i < problems.count; i++)
        (void)fprintf(stderr, "%s %s\n", problems.rows[i].pointer, problems.rows[i].detail);
    if (err == ERR_ok) err = job_dump(&spec, true, &resolved);
    if (err != ERR_ok) return ctl_fail(err);
    (void)printf("%s\n", buf_chars(&resolved));
    (void)fflush(stdout); /* whole, where both go to one place */
    return print_memory(&spec);
}

int command_submit(struct ctl *ctl)
{
    bool dry = ctl_flag(ctl, "--dry-run"), watch = ctl_flag(ctl, "--watch");
    AUTO(buf) text = {0};
    json_t *root = NULL;
    const char *sets[SETS]; /* the file is what is left when they are out */
    size_t count = 0;
    for (const char *set = ctl_option(ctl, "--set"); set && count < SETS; set = ctl_option(ctl, "--set")) sets[count++] = set;
    if (ctl->argc != 1) {
        (void)fprintf(stderr, "pal: one job file is wanted; see `pal submit --help`\n");
        return 2;
    }
    err_t err = read_file(ctl->argv[0], &text);
    if (err == ERR_ok) err = apply_overrides(sets, count, &text);
    if (err == ERR_ok) err = absolute_paths(&text);
    if (err != ERR_ok) return ctl_fail(err);
    if (dry) return dry_run(&text);
    err = client_once(ctl, "/v1/jobs", buf_chars(&text), &root);
    if (err != ERR_ok) return ctl_fail(err);
    int64_t job = json_integer_value(json_object_get(root, "id"));
    if (ctl->json)
        (void)print_json(root);
    else
        (void)printf("job %lld\n", (long long)job);
    json_decref(root);
    return watch ? watch_job(ctl, job, false) : 0;
}
