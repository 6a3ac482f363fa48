/* Handlers of the experience pool: demonstrations in, successes out. */
#include "services/common/job/import.h"
#include "services/common/store/store_read.h"
#include "services/gateway/gateway.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- in ---- */

static void refuse(struct web_request *request, err_t err, const struct job_problems *problems)
{
    AUTO(buf) extra = {0};
    char detail[128];
    (void)snprintf(detail, sizeof detail, "the demonstrations have %zu problem%s", problems->count,
                   problems->count == 1 ? "" : "s");
    if (gateway_problems(problems, &extra) != ERR_ok) buf_clear(&extra);
    web_problem(request, err == ERR_malformed ? 400 : err_http(err), detail, buf_chars(&extra));
}

static void ask(struct gateway *gateway, struct web_request *request, int64_t job, const struct import_item *items,
                size_t count, struct arena *arena)
{
    uint64_t id = 0;
    struct wire_import_item *sent = arena_array(arena, struct wire_import_item, count);
    if (!sent) {
        web_reply_err(request, ERR_memory);
        return;
    }
    for (size_t i = 0; i < count; i++)
        sent[i] = (struct wire_import_item){items[i].task, items[i].environment, span_text(items[i].body),
                                            span_text(items[i].script)};
    if (!gateway_ask(gateway, request, QUESTION_IMPORT, GATEWAY_SUBMIT_MS, &id)) return;
    const struct wire_pool_import message = {id, GATEWAY_SUBMIT_MS, (uint64_t)job, sent, count};
    service_tell(gateway->service, WIRE_pool_import, &message);
}

void handle_pool_post(void *ctx, struct web_request *request)
{
    struct gateway *gateway = ctx;
    AUTO(arena) arena = {0};
    struct import_item *items = NULL;
    struct job_problems problems;
    size_t count = 0;
    int64_t job = 0;
    gateway->requests++;
    err_t err = web_id(request, 0, &job);
    if (err != ERR_ok) {
        web_reply_err(request, err);
        return;
    }
    err = import_parse(web_body(request), &arena, &items, &count, &problems);
    if (err == ERR_ok)
        ask(gateway, request, job, items, count, &arena);
    else if (err == ERR_invalid || err == ERR_malformed)
        refuse(request, err, &problems);
    else
        web_reply_err(request, err);
}

/* ---- out ---- */

/* What was done: the script of an import, else what the episode's tokens say. */
static err_t add_actions(struct gateway *gateway, struct store *store, int64_t job, json_t *row)
{
    json_t *actions = json_array(), *turns = NULL, *turn = NULL;
    size_t i = 0;
    const char *script = json_string_value(json_object_get(row, "script"));
    for (const char *at = script; at && *at;) {
        size_t size = strcspn(at, "\n");
        (void)json_array_append_new(actions, json_stringn(at, size));
        at += size + (at[size] == '\n');
    }
    err_t err = ERR_ok;
    if (!script) err = transcript_turns(gateway, store, job, json_integer_value(json_object_get(row, "episode")), &turns);
    json_array_foreach(turns, i, turn)
    {
        json_t *action = json_object_get(turn, "action");
        if (json_string_length(action) > 0) (void)json_array_append(actions, action);
    }
    json_decref(turns);
    (void)json_object_set_new(row, "actions", actions);
    return err;
}

/* The rows as they are kept become what is said: the task as an object, its actions if they are wanted. */
static err_t finish_rows(struct gateway *gateway, struct store *store, int64_t job, bool actions, struct buf *out)
{
    json_t *rows = json_loadb((const char *)out->data, out->size, 0, NULL), *row = NULL;
    size_t i = 0;
    err_t err = rows ? ERR_ok : err_set(ERR_database, "the rows of the pool are not JSON");
    json_array_foreach(rows, i, row)
    {
        if (actions && err == ERR_ok) err = add_actions(gateway, store, job, row);
        json_t *body = json_loads(json_string_value(json_object_get(row, "body")), 0, NULL);
        (void)json_object_set(row, "task_id", json_object_get(row, "task"));
        (void)json_object_set_new(row, "task", body ? body : json_null());
        (void)json_object_del(row, "body");
        (void)json_object_del(row, "script");
    }
    char *text = err == ERR_ok ? json_dumps(rows, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(rows);
    if (err == ERR_ok && !text) err = err_set(ERR_memory, "the pool");
    buf_clear(out);
    if (err == ERR_ok) err = buf_text(out, text);
    free(text);
    return err;
}

void handle_pool_get(void *ctx, struct web_request *request)
{
    struct gateway *gateway = ctx;
    AUTO(buf) out = {0};
    int64_t job = 0, after = 0, limit = 0;
    const char *actions = web_query(request, "actions");
    gateway->requests++;
    if (!gateway_number(request, "after", -1, &after) || !gateway_limit(request, 100, &limit)) return;
    err_t err = web_id(request, 0, &job);
    if (err != ERR_ok) {
        web_reply_err(request, err);
        return;
    }
    struct store *store = gateway_store(gateway, request);
    if (!store) return;
    err = store_read_pool(store, job, after, limit, &out);
    if (err == ERR_ok) err = finish_rows(gateway, store, job, actions && strcmp(actions, "true") == 0, &out);
    if (err == ERR_ok)
        web_reply_json(request, 200, buf_span(&out));
    else
        gateway_read_failed(gateway, request, err);
}
