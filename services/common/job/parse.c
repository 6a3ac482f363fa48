#include "services/common/job/check.h"
#include "services/common/job/reader.h"

#include <stdio.h>

static void read_levels(struct job_reader *reader, json_t *array, const char *pointer, struct job_generate *ret)
{
    ret->level_count = 0;
    if (!json_is_array(array) || json_array_size(array) < 1 || json_array_size(array) > JOB_LEVELS) {
        job_problem(reader, pointer, "must be an array of 1 to %d levels", JOB_LEVELS);
        return;
    }
    for (size_t i = 0; i < json_array_size(array); i++) {
        char place[JOB_POINTER_BYTES];
        job_place(place, "%s/%zu", pointer, i);
        if (job_read_int(reader, json_array_get(array, i), 1, 1000, place, &ret->levels[ret->level_count]))
            ret->level_count++;
    }
}

static void read_tasks(struct job_reader *reader, json_t *object, const char *pointer, struct job_tasks *ret)
{
    static const char *const others[] = {"generate", NULL};
    static const char *const levels[] = {"levels", NULL};
    char place[JOB_POINTER_BYTES];
    json_t *tasks = job_read(reader, JOB_SECTION_tasks, object, ret, pointer, others);
    json_t *generate = json_object_get(tasks, "generate");
    if (json_is_null(generate)) generate = NULL;
    ret->generates = generate || !ret->file[0];
    if (generate && ret->file[0]) job_problem(reader, pointer, "has both `generate` and `file`; give one of them");
    job_place(place, "%s/generate", pointer);
    json_t *read = job_read(reader, JOB_SECTION_generate, generate, &ret->generate, place, levels);
    ret->generate.levels[0] = 1;
    ret->generate.level_count = 1;
    json_t *array = json_object_get(read, "levels");
    job_place(place, "%s/generate/levels", pointer);
    if (array) read_levels(reader, array, place, &ret->generate);
}

static void read_command(struct job_reader *reader, json_t *array, const char *pointer, struct job_environment *ret)
{
    if (json_is_null(array)) return;
    if (!json_is_array(array) || json_array_size(array) < 1 || json_array_size(array) > JOB_COMMAND_WORDS) {
        job_problem(reader, pointer, "must be an array of 1 to %d strings: the program and its arguments", JOB_COMMAND_WORDS);
        return;
    }
    for (size_t i = 0; i < json_array_size(array); i++) {
        json_t *word = json_array_get(array, i);
        char place[JOB_POINTER_BYTES], text[1024];
        job_place(place, "%s/%zu", pointer, i);
        if (!job_read_text(reader, word, sizeof text, place, text)) return;
        char *kept = arena_text(reader->arena, span_text(text));
        if (!kept) {
            reader->out_of_memory = true;
            return;
        }
        ret->command[ret->command_count++] = kept;
    }
}

static void read_environments(struct job_reader *reader, json_t *array, struct job_spec *ret)
{
    static const char *const others[] = {"tasks", "command", NULL};
    if (!json_is_array(array) || json_array_size(array) < 1 || json_array_size(array) > JOB_ENVIRONMENTS) {
        job_problem(reader, "/environments", "must be an array of 1 to %d environments", JOB_ENVIRONMENTS);
        return;
    }
    for (size_t i = 0; i < json_array_size(array); i++) {
        struct job_environment *env = &ret->environments[ret->environment_count++];
        char pointer[JOB_POINTER_BYTES], place[JOB_POINTER_BYTES];
        job_place(pointer, "/environments/%zu", i);
        json_t *object = job_read(reader, JOB_SECTION_environment, json_array_get(array, i), env, pointer, others);
        job_place(place, "%s/tasks", pointer);
        read_tasks(reader, json_object_get(object, "tasks"), place, &env->tasks);
        job_place(place, "%s/command", pointer);
        json_t *command = json_object_get(object, "command");
        if (command) read_command(reader, command, place, env);
    }
}

static void read_policy(struct job_reader *reader, json_t *object, struct job_spec *ret)
{
    static const char *const keys[] = {"init", "warmstart", NULL};
    if (object && !json_is_object(object)) {
        job_problem(reader, "/policy", "must be an object");
        object = NULL;
    }
    job_unknown_keys(reader, object, "/policy", keys);
    json_t *init = json_object_get(object, "init");
    (void)job_read(reader, JOB_SECTION_init, init, &ret->init, "/policy/init", NULL);
    if (ret->init.path[0] && json_object_get(init, "preset"))
        job_problem(reader, "/policy/init", "has both `preset` and `path`; give one of them");
    if (ret->init.path[0]) ret->init.preset[0] = 0;
    json_t *warmstart = json_object_get(object, "warmstart");
    bool none = !warmstart || json_is_null(warmstart);
    ret->warmstart.on =
        job_read(reader, JOB_SECTION_warmstart, none ? NULL : warmstart, &ret->warmstart, "/policy/warmstart", NULL) != NULL;
}

static void read_methods(struct job_reader *reader, json_t *object, struct job_spec *ret)
{
    size_t count = 0;
    const struct job_method *methods = job_methods(&count);
    for (size_t i = 0; i < count; i++) {
        json_t *value = json_object_get(object, methods[i].name);
        uint8_t *section = (uint8_t *)ret + methods[i].offset;
        char pointer[JOB_POINTER_BYTES];
        job_place(pointer, "/curation/%s", methods[i].name);
        if (json_is_null(value)) value = NULL;
        bool on = job_read(reader, methods[i].section, value, section, pointer, NULL) != NULL;
        memcpy(section + methods[i].on, &on, sizeof on);
    }
}

static void read_export(struct job_reader *reader, json_t *object)
{
    if (!object) return;
    if (!json_is_object(object))
        job_problem(reader, "/export", "must be an object");
    else
        job_unknown_keys(reader, object, "/export", NULL);
}

static void read_rollout(struct job_reader *reader, json_t *object, struct job_rollout *ret)
{
    static const char *const parts[] = {"retries", "mask", NULL};
    object = job_read(reader, JOB_SECTION_rollout, object, ret, "/rollout", parts);
    (void)job_read(reader, JOB_SECTION_retries, json_object_get(object, "retries"), &ret->retries, "/rollout/retries", NULL);
    (void)job_read(reader, JOB_SECTION_mask, json_object_get(object, "mask"), &ret->mask, "/rollout/mask", NULL);
}

static void read_top(struct job_reader *reader, json_t *root, struct job_spec *ret)
{
    static const char *const keys[] = {"name",     "seed",    "priority",   "environments", "policy", "rollout", "curriculum",
                                       "curation", "trainer", "evaluation", "stop",         "export", NULL};
    static const char *const methods[] = {"dart", "guide", "webrl", "replay_ratio", NULL};
    static const char *const parts[] = {"importance", "value", "webrl", NULL};
    job_unknown_keys(reader, root, "", keys);
    json_t *name = json_object_get(root, "name"), *seed = json_object_get(root, "seed");
    json_t *priority = json_object_get(root, "priority");
    if (!name)
        job_problem(reader, "/name", "is missing");
    else if (job_read_text(reader, name, JOB_NAME_BYTES, "/name", ret->name) && !ret->name[0])
        job_problem(reader, "/name", "is empty");
    ret->seed = 1;
    if (seed) (void)job_read_int(reader, seed, 0, 9007199254740991, "/seed", &ret->seed);
    if (priority) (void)job_read_int(reader, priority, -1000000, 1000000, "/priority", &ret->priority);
    json_t *environments = json_object_get(root, "environments");
    if (environments)
        read_environments(reader, environments, ret);
    else
        job_problem(reader, "/environments", "is missing");
    read_policy(reader, json_object_get(root, "policy"), ret);
    read_rollout(reader, json_object_get(root, "rollout"), &ret->rollout);
    (void)job_read(reader, JOB_SECTION_curriculum, json_object_get(root, "curriculum"), &ret->curriculum, "/curriculum",
                   NULL);
    json_t *curation = json_object_get(root, "curation");
    read_methods(reader, job_read(reader, JOB_SECTION_curation, curation, &ret->curation, "/curation", methods), ret);
    json_t *trainer = json_object_get(root, "trainer");
    trainer = job_read(reader, JOB_SECTION_trainer, trainer, &ret->trainer, "/trainer", parts);
    if (ret->trainer.coupled) ret->trainer.max_staleness = 0;
    (void)job_read(reader, JOB_SECTION_importance, json_object_get(trainer, "importance"), &ret->trainer.importance,
                   "/trainer/importance", NULL);
    (void)job_read(reader, JOB_SECTION_value, json_object_get(trainer, "value"), &ret->trainer.value, "/trainer/value", NULL);
    (void)job_read(reader, JOB_SECTION_regression, json_object_get(trainer, "webrl"), &ret->trainer.regression,
                   "/trainer/webrl", NULL);
    (void)job_read(reader, JOB_SECTION_evaluation, json_object_get(root, "evaluation"), &ret->evaluation, "/evaluation",
                   NULL);
    (void)job_read(reader, JOB_SECTION_stop, json_object_get(root, "stop"), &ret->stop, "/stop", NULL);
    read_export(reader, json_object_get(root, "export"));
}

err_t job_parse(struct span json, struct arena *arena, struct job_spec *ret, struct job_problems *ret_problems)
{
    struct job_reader reader = {.arena = arena, .problems = ret_problems};
    *ret = (struct job_spec){0};
    ret_problems->count = 0;
    if (json.size > JOB_FILE_BYTES) {
        job_problem(&reader, "", "a job file of %zu bytes; at most %zu are allowed", json.size, JOB_FILE_BYTES);
        return err_set(ERR_too_large, "a job file of %zu bytes", json.size);
    }
    json_error_t error;
    json_t *root = json_loadb((const char *)json.data, json.size, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        job_problem(&reader, "", "is not JSON: %s at line %d, column %d", error.text, error.line, error.column);
        return err_set(ERR_malformed, "the job file is not JSON: %s at line %d, column %d", error.text, error.line,
                       error.column);
    }
    if (json_is_object(root))
        read_top(&reader, root, ret);
    else
        job_problem(&reader, "", "must be an object");
    if (json_is_object(root)) job_check(&reader, ret);
    json_decref(root);
    if (reader.out_of_memory) return err_set(ERR_memory, "the problems of a job file");
    if (ret_problems->count == 0) return ERR_ok;
    return err_set(ERR_invalid, "%s %s%s", ret_problems->rows[0].pointer, ret_problems->rows[0].detail,
                   ret_problems->count > 1 ? " (and more)" : "");
}
