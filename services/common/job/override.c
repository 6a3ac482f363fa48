#include "services/common/job/job.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define PATH_BYTES 256

/* A step down the path: a member of an object (made when it is missing), or an element of an array. */
static json_t *descend(json_t *at, const char *name)
{
    if (json_is_array(at)) {
        char *end = NULL;
        unsigned long index = strtoul(name, &end, 10);
        return end != name && !*end ? json_array_get(at, index) : NULL;
    }
    if (!json_is_object(at)) return NULL;
    json_t *next = json_object_get(at, name);
    if (next && !json_is_null(next)) return next;
    next = json_object();
    return json_object_set_new(at, name, next) == 0 ? next : NULL;
}

static bool put(json_t *at, const char *name, json_t *value)
{
    if (json_is_object(at)) return json_object_set_new(at, name, value) == 0;
    char *end = NULL;
    unsigned long index = strtoul(name, &end, 10);
    if (json_is_array(at) && end != name && !*end) return json_array_set_new(at, index, value) == 0;
    json_decref(value);
    return false;
}

static err_t assign(json_t *root, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    if (!equals || equals == assignment || (size_t)(equals - assignment) >= PATH_BYTES)
        return err_set(ERR_invalid, "--set %s: key=value is wanted, e.g. trainer.lr=0.001", assignment);
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%.*s", (int)(equals - assignment), assignment);
    json_t *at = root;
    char *name = path;
    for (char *dot = strchr(name, '.'); dot; dot = strchr(name, '.')) {
        *dot = 0;
        at = descend(at, name);
        if (!at) return err_set(ERR_invalid, "--set %s: there is no \"%s\" to go into", assignment, name);
        name = dot + 1;
    }
    json_t *value = json_loads(equals + 1, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    if (!value) value = json_string(equals + 1);
    if (!value) return err_set(ERR_invalid, "--set %s: the value is neither JSON nor UTF-8 text", assignment);
    if (!put(at, name, value)) return err_set(ERR_invalid, "--set %s: \"%s\" cannot be set there", assignment, name);
    return ERR_ok;
}

err_t job_override(struct span json, const char *assignment, struct buf *out)
{
    json_error_t error;
    json_t *root = json_loadb((const char *)json.data, json.size, JSON_REJECT_DUPLICATES, &error);
    if (!root) return err_set(ERR_malformed, "not JSON: %s at line %d, column %d", error.text, error.line, error.column);
    err_t err = assign(root, assignment);
    char *text = err == ERR_ok ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(root);
    if (err != ERR_ok) return err;
    if (!text) return err_set(ERR_memory, "the job file");
    err = buf_text(out, text);
    free(text);
    return err;
}
