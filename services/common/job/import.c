#include "services/common/job/import.h"

#include "services/common/job/reader.h"

#include <stdlib.h>

static const char *const keys[] = {"task", "task_id", "actions", "environment", NULL};

/* The actions joined by line ends; "" after a problem. */
static err_t read_actions(struct job_reader *reader, const json_t *actions, const char *pointer, const char **ret)
{
    AUTO(buf) script = {0};
    char place[JOB_POINTER_BYTES];
    size_t count = json_array_size(actions), before = reader->problems->count;
    *ret = "";
    job_place(place, "%s/actions", pointer);
    if (count == 0 || count > IMPORT_ACTIONS) {
        job_problem(reader, place, "must be an array of 1 to %d actions", IMPORT_ACTIONS);
        return ERR_ok;
    }
    buf_init(&script, IMPORT_SCRIPT_BYTES);
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_array_get(actions, i);
        const char *action = json_string_value(value);
        job_place(place, "%s/actions/%zu", pointer, i);
        if (!action || !*action || strlen(action) != json_string_length(value) || strchr(action, '\n'))
            job_problem(reader, place, "must be the text of an action, one line that is not empty");
        else if (strlen(action) > IMPORT_ACTION_BYTES)
            job_problem(reader, place, "has %zu bytes; at most %d are allowed", strlen(action), IMPORT_ACTION_BYTES);
        else if (buf_text(&script, i ? "\n" : "") != ERR_ok || buf_text(&script, action) != ERR_ok)
            job_problem(reader, place, "makes the actions longer than %d bytes together", IMPORT_SCRIPT_BYTES);
        if (reader->problems->count > before) return ERR_ok;
    }
    *ret = arena_text(reader->arena, buf_span(&script));
    return *ret ? ERR_ok : ERR_memory;
}

/* By number or by body: exactly one of them. */
static err_t read_task(struct job_reader *reader, json_t *object, const char *pointer, struct import_item *ret)
{
    char place[JOB_POINTER_BYTES];
    json_t *task = json_object_get(object, "task"), *number = json_object_get(object, "task_id");
    if (!task == !number) {
        job_problem(reader, pointer, "must have either \"task\" or \"task_id\"");
        return ERR_ok;
    }
    if (number) {
        job_place(place, "%s/task_id", pointer);
        (void)job_read_int(reader, number, 0, 9007199254740991.0, place, &ret->task);
        return ERR_ok;
    }
    job_place(place, "%s/task", pointer);
    char *body = json_is_object(task) ? json_dumps(task, JSON_COMPACT) : NULL;
    if (!body || strlen(body) >= IMPORT_TASK_BYTES)
        job_problem(reader, place, "must be a task of the job: an object of less than %d bytes", IMPORT_TASK_BYTES);
    else
        ret->body = arena_text(reader->arena, span_text(body));
    free(body);
    return ret->body ? ERR_ok : ERR_memory;
}

static err_t read_item(struct job_reader *reader, json_t *object, const char *pointer, struct import_item *ret)
{
    char place[JOB_POINTER_BYTES];
    *ret = (struct import_item){-1, -1, "", ""};
    if (!json_is_object(object)) {
        job_problem(reader, pointer, "must be an object: {\"task\": {...}, \"actions\": [\"...\"]}");
        return ERR_ok;
    }
    job_unknown_keys(reader, object, pointer, keys);
    TRY(read_task(reader, object, pointer, ret));
    TRY(read_actions(reader, json_object_get(object, "actions"), pointer, &ret->script));
    json_t *environment = json_object_get(object, "environment");
    job_place(place, "%s/environment", pointer);
    if (environment) (void)job_read_int(reader, environment, 0, JOB_ENVIRONMENTS - 1, place, &ret->environment);
    return ERR_ok;
}

static err_t verdict(const struct job_reader *reader, err_t err)
{
    if (err != ERR_ok) return err;
    if (reader->out_of_memory) return err_set(ERR_memory, "problems of an import");
    if (reader->problems->count == 0) return ERR_ok;
    return err_set(ERR_invalid, "%s %s", reader->problems->rows[0].pointer, reader->problems->rows[0].detail);
}

err_t import_parse(struct span json, struct arena *arena, struct import_item **ret, size_t *ret_count,
                   struct job_problems *ret_problems)
{
    struct job_reader reader = {.arena = arena, .problems = ret_problems};
    json_error_t error;
    ret_problems->count = 0;
    json_t *root = json_loadb((const char *)json.data, json.size, JSON_REJECT_DUPLICATES, &error);
    size_t count = json_array_size(root);
    if (!root || !json_is_array(root) || count == 0 || count > IMPORT_ITEMS) {
        bool array = json_is_array(root);
        job_problem(&reader, "", "%s",
                    array  ? "must be an array of 1 to 1024 demonstrations"
                    : root ? "must be an array"
                           : error.text);
        err_t err = root ? ERR_invalid : ERR_malformed;
        json_decref(root);
        return err_set(err, "%s", ret_problems->count ? ret_problems->rows[0].detail : "no array");
    }
    *ret = arena_array(arena, struct import_item, count);
    *ret_count = count;
    err_t err = *ret ? ERR_ok : ERR_memory;
    for (size_t i = 0; err == ERR_ok && i < count; i++) {
        char pointer[JOB_POINTER_BYTES];
        job_place(pointer, "/%zu", i);
        err = read_item(&reader, json_array_get(root, i), pointer, &(*ret)[i]);
    }
    json_decref(root);
    return verdict(&reader, err);
}

err_t import_line(struct span line, struct arena *arena, struct import_item *ret, struct job_problems *ret_problems)
{
    struct job_reader reader = {.arena = arena, .problems = ret_problems};
    json_error_t error;
    ret_problems->count = 0;
    json_t *root = json_loadb((const char *)line.data, line.size, JSON_REJECT_DUPLICATES, &error);
    err_t err = ERR_ok;
    if (root)
        err = read_item(&reader, root, "", ret);
    else
        job_problem(&reader, "", "is no JSON: %s", error.text);
    json_decref(root);
    return verdict(&reader, err);
}
