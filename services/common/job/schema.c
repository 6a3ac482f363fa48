/* The JSON Schema of a job file and the tables of docs/job.md, both walked from job.def. */
#include "services/common/job/table.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static json_t *number_schema(const struct job_key *key)
{
    bool integer = key->kind == JOB_INT;
    json_t *schema = json_pack("{s:s, s:s}", "description", key->doc, "type", integer ? "integer" : "number");
    json_t *min = integer ? json_integer((json_int_t)key->min) : json_real(key->min);
    json_t *max = integer ? json_integer((json_int_t)key->max) : json_real(key->max);
    json_t *def = integer ? json_integer((json_int_t)key->def) : json_real(key->def);
    (void)json_object_set_new(schema, "minimum", min);
    (void)json_object_set_new(schema, "maximum", max);
    (void)json_object_set_new(schema, "default", def);
    return schema;
}

static json_t *choice_schema(const struct job_key *key)
{
    json_t *names = json_array();
    char name[64], def[64] = "";
    for (size_t i = 0; job_choice_name(key->text, i, name, sizeof name); i++)
        (void)json_array_append_new(names, json_string(name));
    (void)job_choice_name(key->text, (size_t)key->def, def, sizeof def);
    return json_pack("{s:s, s:o, s:s}", "description", key->doc, "enum", names, "default", def);
}

static json_t *key_schema(const struct job_key *key)
{
    switch (key->kind) {
    case JOB_INT:
    case JOB_NUM:
        return number_schema(key);
    case JOB_FLAG:
        return json_pack("{s:s, s:s, s:b}", "description", key->doc, "type", "boolean", "default", key->def > 0);
    case JOB_CHOICE:
        return choice_schema(key);
    case JOB_TEXT:
        return json_pack("{s:s, s:s, s:I, s:s}", "description", key->doc, "type", "string", "maxLength",
                         (json_int_t)key->bytes - 1, "default", key->text);
    }
    return NULL;
}

static json_t *pair_schema(const struct job_section *rows, const struct job_pair *pair)
{
    json_t *items = json_array();
    for (size_t i = 0; i < rows->count; i++) {
        const char *name = rows->keys[i].name;
        if (strcmp(name, pair->first) == 0 || strcmp(name, pair->second) == 0)
            (void)json_array_append_new(items, key_schema(&rows->keys[i]));
    }
    return json_pack("{s:s, s:o, s:i, s:i}", "type", "array", "prefixItems", items, "minItems", 2, "maxItems", 2);
}

/* An object with the section's keys; the caller adds what is special. */
static json_t *section_schema(enum job_section_id id)
{
    const struct job_section *rows = job_section(id);
    json_t *properties = json_object();
    for (size_t i = 0; i < rows->count; i++) {
        const struct job_pair *pair = job_pair_of(id, rows->keys[i].name);
        if (!pair)
            (void)json_object_set_new(properties, rows->keys[i].name, key_schema(&rows->keys[i]));
        else if (!json_object_get(properties, pair->name))
            (void)json_object_set_new(properties, pair->name, pair_schema(rows, pair));
    }
    return json_pack("{s:s, s:s, s:o, s:{s:{}}, s:b}", "description", rows->doc, "type", "object", "properties", properties,
                     "patternProperties", "^_", "additionalProperties", 0);
}

static void add(json_t *schema, const char *name, json_t *value)
{
    (void)json_object_set_new(json_object_get(schema, "properties"), name, value);
}

static json_t *environment_schema(void)
{
    json_t *generate = section_schema(JOB_SECTION_generate);
    add(generate, "levels",
        json_pack("{s:s, s:{s:s, s:i}, s:i, s:i, s:[i]}", "type", "array", "items", "type", "integer", "minimum", 1,
                  "minItems", 1, "maxItems", JOB_LEVELS, "default", 1));
    json_t *tasks = section_schema(JOB_SECTION_tasks);
    add(tasks, "generate", generate);
    json_t *environment = section_schema(JOB_SECTION_environment);
    add(environment, "tasks", tasks);
    add(environment, "command",
        json_pack("{s:s, s:s, s:{s:s}, s:i, s:i}", "description",
                  "provider process: the program and its arguments, started without a shell", "type", "array", "items",
                  "type", "string", "minItems", 1, "maxItems", JOB_COMMAND_WORDS));
    (void)json_object_set_new(environment, "required", json_pack("[s]", "name"));
    return environment;
}

static json_t *object_schema(const char *doc)
{
    return json_pack("{s:s, s:s, s:{}, s:{s:{}}, s:b}", "description", doc, "type", "object", "properties",
                     "patternProperties", "^_", "additionalProperties", 0);
}

static json_t *root_schema(void)
{
    json_t *root = object_schema("A Palaestra job file; keys that begin with _ are comments.");
    add(root, "name",
        json_pack("{s:s, s:s, s:i, s:i}", "description", "for people", "type", "string", "minLength", 1, "maxLength",
                  JOB_NAME_BYTES - 1));
    add(root, "seed",
        json_pack("{s:s, s:s, s:i, s:i}", "description", "all randomness of the job comes from it", "type", "integer",
                  "minimum", 0, "default", 1));
    add(root, "priority", json_pack("{s:s, s:s, s:i}", "description", "higher runs first", "type", "integer", "default", 0));
    add(root, "environments",
        json_pack("{s:s, s:o, s:i, s:i}", "type", "array", "items", environment_schema(), "minItems", 1, "maxItems",
                  JOB_ENVIRONMENTS));
    json_t *policy = object_schema("the policy to train");
    json_t *warmstart = section_schema(JOB_SECTION_warmstart);
    (void)json_object_set_new(warmstart, "type", json_pack("[s, s]", "object", "null"));
    add(policy, "init", section_schema(JOB_SECTION_init));
    add(policy, "warmstart", warmstart);
    add(root, "policy", policy);
    json_t *rollout = section_schema(JOB_SECTION_rollout);
    add(rollout, "retries", section_schema(JOB_SECTION_retries));
    add(rollout, "mask", section_schema(JOB_SECTION_mask));
    add(root, "rollout", rollout);
    add(root, "curriculum", section_schema(JOB_SECTION_curriculum));
    json_t *curation = section_schema(JOB_SECTION_curation);
    size_t count = 0;
    const struct job_method *methods = job_methods(&count);
    for (size_t i = 0; i < count; i++) {
        json_t *method = section_schema(methods[i].section);
        (void)json_object_set_new(method, "type", json_pack("[s, s]", "object", "null"));
        add(curation, methods[i].name, method);
    }
    add(root, "curation", curation);
    json_t *trainer = section_schema(JOB_SECTION_trainer);
    add(trainer, "importance", section_schema(JOB_SECTION_importance));
    add(trainer, "value", section_schema(JOB_SECTION_value));
    add(trainer, "webrl", section_schema(JOB_SECTION_regression));
    add(root, "trainer", trainer);
    add(root, "evaluation", section_schema(JOB_SECTION_evaluation));
    add(root, "stop", section_schema(JOB_SECTION_stop));
    add(root, "export", object_schema("nothing yet"));
    (void)json_object_set_new(root, "required", json_pack("[s, s]", "name", "environments"));
    (void)json_object_set_new(root, "$schema", json_string("https://json-schema.org/draft/2020-12/schema"));
    (void)json_object_set_new(root, "title", json_string("Palaestra job"));
    return root;
}

err_t job_schema(struct buf *out)
{
    json_t *root = root_schema();
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15) | JSON_SORT_KEYS);
    json_decref(root);
    if (!text) return err_set(ERR_memory, "the schema of a job file");
    err_t err = buf_printf(out, "%s\n", text);
    free(text);
    return err;
}

static err_t document_key(enum job_section_id id, const struct job_key *key, struct buf *out)
{
    const struct job_pair *pair = job_pair_of(id, key->name);
    char name[128], def[256] = "";
    if (pair)
        (void)snprintf(name, sizeof name, "%s[%d]", pair->name, strcmp(key->name, pair->second) == 0);
    else
        (void)snprintf(name, sizeof name, "%s", key->name);
    TRY(buf_printf(out, "| `%s` | ", name));
    switch (key->kind) {
    case JOB_INT:
    case JOB_NUM:
        return buf_printf(out, "%.16g | %.16g to %.16g | %s |\n", key->def, key->min, key->max, key->doc);
    case JOB_FLAG:
        return buf_printf(out, "%s | true, false | %s |\n", key->def > 0 ? "true" : "false", key->doc);
    case JOB_CHOICE:
        (void)job_choice_name(key->text, (size_t)key->def, def, sizeof def);
        TRY(buf_printf(out, "\"%s\" | ", def));
        for (const char *at = key->text; *at; at++) TRY(*at == '|' ? buf_text(out, ", ") : buf_append(out, at, 1));
        return buf_printf(out, " | %s |\n", key->doc);
    case JOB_TEXT:
        return buf_printf(out, "\"%s\" | text, %zu bytes | %s |\n", key->text, key->bytes - 1, key->doc);
    }
    return ERR_ok;
}

err_t job_document(struct buf *out)
{
    TRY(buf_text(out,
                 "# The job file\n\n"
                 "Made from `services/common/job/job.def`; a test compares. The same as a JSON Schema: `job.schema.json`.\n"
                 "JSON, checked in full before anything starts; `pal submit --dry-run` prints the resolved job. Keys that "
                 "begin\nwith `_` are comments. The smallest job is\n"
                 "`{\"name\": \"x\", \"environments\": [{\"name\": \"adventure\"}]}`.\n\n"
                 "At the top: `name` (text, required), `seed` (1), `priority` (0, higher runs first), `environments` (1 to "
                 "8),\n`policy`, `rollout`, `curriculum`, `curation`, `trainer`, `evaluation`, `stop`, `export` ({}).\n"));
    for (int id = 0; id < JOB_SECTION_COUNT; id++) {
        const struct job_section *rows = job_section((enum job_section_id)id);
        TRY(buf_printf(out, "\n## %s\n\n%s\n\n| key | default | allowed | meaning |\n| --- | --- | --- | --- |\n",
                       rows->pointer, rows->doc));
        for (size_t i = 0; i < rows->count; i++) TRY(document_key((enum job_section_id)id, &rows->keys[i], out));
        if (id == JOB_SECTION_generate)
            TRY(buf_text(out, "| `levels` | [1] | 1 to 16 levels | levels of the tasks, taking turns |\n"));
        if (id == JOB_SECTION_environment)
            TRY(buf_text(out, "| `command` | none | 1 to 32 strings | provider process: the program and its arguments |\n"));
    }
    return ERR_ok;
}
