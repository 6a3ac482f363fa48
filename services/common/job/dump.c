#include "services/common/job/table.h"

#include <jansson.h>
#include <stdlib.h>

static json_t *value_of(const struct job_key *key, const uint8_t *place)
{
    int64_t integer = 0;
    double number = 0;
    int choice = 0;
    bool flag = false;
    char name[64];
    switch (key->kind) {
    case JOB_INT:
        memcpy(&integer, place, sizeof integer);
        return json_integer(integer);
    case JOB_NUM:
        memcpy(&number, place, sizeof number);
        return json_real(number);
    case JOB_FLAG:
        memcpy(&flag, place, sizeof flag);
        return json_boolean(flag);
    case JOB_CHOICE:
        memcpy(&choice, place, sizeof choice);
        BUG_IF(choice < 0 || !job_choice_name(key->text, (size_t)choice, name, sizeof name));
        return json_string(name);
    case JOB_TEXT:
        return json_string((const char *)place);
    }
    return NULL;
}

/* Sets every key of the section in the object; jansson's setters take NULL and fail, which json_dumps of the whole shows. */
static bool dump_section(json_t *object, enum job_section_id id, const void *section)
{
    const struct job_section *rows = job_section(id);
    bool good = object != NULL;
    for (size_t i = 0; good && i < rows->count; i++) {
        const struct job_key *key = &rows->keys[i];
        const struct job_pair *pair = job_pair_of(id, key->name);
        json_t *value = value_of(key, (const uint8_t *)section + key->offset);
        if (!pair) {
            good = json_object_set_new(object, key->name, value) == 0;
        } else {
            json_t *array = json_object_get(object, pair->name);
            if (!array) {
                array = json_array();
                good = json_object_set_new(object, pair->name, array) == 0;
            }
            good = good && json_array_append_new(array, value) == 0;
        }
    }
    return good;
}

static json_t *new_section(enum job_section_id id, const void *section)
{
    json_t *object = json_object();
    if (dump_section(object, id, section)) return object;
    json_decref(object);
    return NULL;
}

static json_t *dump_tasks(const struct job_tasks *tasks)
{
    json_t *object = new_section(JOB_SECTION_tasks, tasks);
    if (!object || !tasks->generates) return object;
    (void)json_object_del(object, "file");
    json_t *generate = new_section(JOB_SECTION_generate, &tasks->generate), *levels = json_array();
    bool good = generate && levels;
    for (size_t i = 0; good && i < tasks->generate.level_count; i++)
        good = json_array_append_new(levels, json_integer(tasks->generate.levels[i])) == 0;
    good = generate && json_object_set_new(generate, "levels", levels) == 0 && good;
    good = json_object_set_new(object, "generate", generate) == 0 && good;
    if (good) return object;
    json_decref(object);
    return NULL;
}

static json_t *dump_environments(const struct job_spec *spec)
{
    json_t *array = json_array();
    bool good = array != NULL;
    for (size_t i = 0; good && i < spec->environment_count; i++) {
        const struct job_environment *env = &spec->environments[i];
        json_t *object = new_section(JOB_SECTION_environment, env);
        good = object && json_object_set_new(object, "tasks", dump_tasks(&env->tasks)) == 0;
        if (good && env->command_count) {
            json_t *command = json_array();
            for (size_t k = 0; good && k < env->command_count; k++)
                good = json_array_append_new(command, json_string(env->command[k])) == 0;
            good = json_object_set_new(object, "command", command) == 0 && good;
        }
        good = json_array_append_new(array, object) == 0 && good;
    }
    if (good) return array;
    json_decref(array);
    return NULL;
}

static json_t *dump_policy(const struct job_spec *spec)
{
    json_t *init = new_section(JOB_SECTION_init, &spec->init);
    const char *const unused[] = {spec->init.path[0] ? "preset" : "path", spec->init.sha256[0] ? "" : "sha256"};
    for (size_t i = 0; init && i < 2; i++) (void)json_object_del(init, unused[i]);
    json_t *warmstart = spec->warmstart.on ? new_section(JOB_SECTION_warmstart, &spec->warmstart) : json_null();
    return json_pack("{s:o, s:o}", "init", init, "warmstart", warmstart);
}

static json_t *dump_curation(const struct job_spec *spec)
{
    json_t *object = new_section(JOB_SECTION_curation, &spec->curation);
    size_t count = 0;
    const struct job_method *methods = job_methods(&count);
    for (size_t i = 0; object && i < count; i++) {
        const uint8_t *section = (const uint8_t *)spec + methods[i].offset;
        bool on = false;
        memcpy(&on, section + methods[i].on, sizeof on);
        json_t *value = on ? new_section(methods[i].section, section) : json_null();
        if (json_object_set_new(object, methods[i].name, value) == 0) continue;
        json_decref(object);
        object = NULL;
    }
    return object;
}

static json_t *dump_rollout(const struct job_rollout *rollout)
{
    json_t *object = new_section(JOB_SECTION_rollout, rollout);
    if (object && json_object_set_new(object, "retries", new_section(JOB_SECTION_retries, &rollout->retries)) == 0 &&
        json_object_set_new(object, "mask", new_section(JOB_SECTION_mask, &rollout->mask)) == 0)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *dump_trainer(const struct job_spec *spec)
{
    json_t *object = new_section(JOB_SECTION_trainer, &spec->trainer);
    const struct job_trainer *t = &spec->trainer;
    if (object && json_object_set_new(object, "importance", new_section(JOB_SECTION_importance, &t->importance)) == 0 &&
        json_object_set_new(object, "value", new_section(JOB_SECTION_value, &t->value)) == 0 &&
        json_object_set_new(object, "webrl", new_section(JOB_SECTION_regression, &t->regression)) == 0)
        return object;
    json_decref(object);
    return NULL;
}

err_t job_dump(const struct job_spec *spec, bool pretty, struct buf *out)
{
    json_t *root = json_pack(
        "{s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:{}}", "name", spec->name, "seed", (json_int_t)spec->seed,
        "priority", (json_int_t)spec->priority, "environments", dump_environments(spec), "policy", dump_policy(spec),
        "rollout", dump_rollout(&spec->rollout), "curriculum", new_section(JOB_SECTION_curriculum, &spec->curriculum),
        "curation", dump_curation(spec), "trainer", dump_trainer(spec), "evaluation",
        new_section(JOB_SECTION_evaluation, &spec->evaluation), "stop", new_section(JOB_SECTION_stop, &spec->stop), "export");
    char *text = root ? json_dumps(root, JSON_REAL_PRECISION(15) | (pretty ? JSON_INDENT(2) : JSON_COMPACT)) : NULL;
    json_decref(root);
    if (!text) return err_set(ERR_memory, "the resolved job");
    err_t err = buf_text(out, text);
    free(text);
    return err;
}
