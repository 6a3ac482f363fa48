#include "env/process_codec.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>

#define SEED_MASK   (((uint64_t)1 << 53) - 1)
#define SHOWN_BYTES 80 /* of a bad line, in the error's sentence */

struct json {
    json_t *root;
};

static void json_fini(struct json *json)
{
    json_decref(json->root);
}

static int append(const char *bytes, size_t size, void *ctx)
{
    return buf_append(ctx, bytes, size) == ERR_ok ? 0 : -1;
}

static err_t write_json(const json_t *value, struct buf *out)
{
    if (json_dump_callback(value, append, out, JSON_COMPACT | JSON_ENCODE_ANY) != 0)
        return err_set(ERR_too_large, "a request is longer than %zu bytes", out->max_bytes);
    return ERR_ok;
}

err_t process_write_reset(const struct process_reset *reset, struct buf *out)
{
    json_error_t why;
    AUTO(json) task = {json_loadb((const char *)reset->task_text.data, reset->task_text.size, JSON_REJECT_DUPLICATES, &why)};
    if (!json_is_object(task.root)) return err_set(ERR_malformed, "task: not a JSON object");
    TRY(buf_text(out, "{\"op\":\"reset\",\"task\":"));
    TRY(write_json(task.root, out));
    TRY(buf_printf(out, ",\"seed\":%" PRIu64 ",\"expert\":%s", reset->seed & SEED_MASK, reset->expert ? "true" : "false"));
    if (reset->expert)
        TRY(buf_printf(out, ",\"noise\":%.17g,\"noise_seed\":%" PRIu64, reset->noise, reset->noise_seed & SEED_MASK));
    return buf_text(out, reset->hint ? ",\"hint\":true}\n" : "}\n");
}

err_t process_write_step(struct span action, struct buf *out)
{
    AUTO(json) text = {json_stringn(action.size ? (const char *)action.data : "", action.size)};
    if (!text.root) { /* not UTF-8 */
        AUTO(buf) clean = {0};
        buf_init(&clean, 0);
        TRY(buf_append(&clean, action.data, action.size));
        for (size_t i = 0; i < clean.size; i++) {
            if (clean.data[i] >= 0x80) clean.data[i] = '?';
        }
        text.root = json_stringn(buf_chars(&clean), clean.size);
        if (!text.root) return err_set(ERR_memory, "an action");
    }
    TRY(buf_text(out, "{\"op\":\"step\",\"action\":"));
    TRY(write_json(text.root, out));
    return buf_text(out, "}\n");
}

err_t process_write_close(struct buf *out)
{
    return buf_text(out, "{\"op\":\"close\"}\n");
}

static err_t read_text(const char *key, const json_t *value, size_t max_bytes, struct arena *arena, struct span *ret)
{
    if (!json_is_string(value)) return err_set(ERR_malformed, "%s: not a string", key);
    size_t size = json_string_length(value);
    if (size > max_bytes) return err_set(ERR_too_large, "%s: longer than %zu bytes", key, max_bytes);
    const char *copy = arena_text(arena, span_of(json_string_value(value), size));
    if (!copy) return ERR_memory;
    *ret = span_of(copy, size);
    return ERR_ok;
}

static err_t read_member(const char *key, const json_t *value, struct arena *arena, struct process_reply *ret)
{
    if (key[0] == '_') return ERR_ok;
    if (strcmp(key, "text") == 0) return read_text(key, value, PROCESS_LINE_BYTES, arena, &ret->text);
    if (strcmp(key, "expert") == 0) return read_text(key, value, PROCESS_EXPERT_BYTES, arena, &ret->expert);
    if (strcmp(key, "hint") == 0) return read_text(key, value, PROCESS_EXPERT_BYTES, arena, &ret->hint);
    if (strcmp(key, "error") == 0) return read_text(key, value, PROCESS_LINE_BYTES, arena, &ret->error);
    if (strcmp(key, "reward") == 0) {
        if (!json_is_number(value)) return err_set(ERR_malformed, "reward: not a number");
        ret->reward = json_number_value(value);
        return isfinite(ret->reward) ? ERR_ok : err_set(ERR_malformed, "reward: not finite");
    }
    if (strcmp(key, "terminated") == 0) {
        if (!json_is_boolean(value)) return err_set(ERR_malformed, "terminated: not true or false");
        ret->terminated = json_is_true(value);
        return ERR_ok;
    }
    return err_set(ERR_malformed, "%.64s: no such key in a reply", key);
}

/* What the program wrote, made fit for a log line. */
static err_t not_json(struct span line, const char *why)
{
    char shown[SHOWN_BYTES + 1];
    size_t n = line.size < SHOWN_BYTES ? line.size : SHOWN_BYTES;
    for (size_t i = 0; i < n; i++) shown[i] = line.data[i] >= 0x20 && line.data[i] < 0x7f ? (char)line.data[i] : '?';
    shown[n] = '\0';
    return err_set(ERR_malformed, "not a JSON object (%s): %s%s", why, shown, n < line.size ? "..." : "");
}

err_t process_read_reply(struct span line, struct arena *arena, struct process_reply *ret)
{
    *ret = (struct process_reply){0};
    if (line.size > PROCESS_LINE_BYTES) return err_set(ERR_too_large, "a line longer than %d bytes", PROCESS_LINE_BYTES);
    json_error_t why = {.text = "empty line"};
    AUTO(json) reply = {line.size ? json_loadb((const char *)line.data, line.size, JSON_REJECT_DUPLICATES, &why) : NULL};
    if (!reply.root) return not_json(line, why.text);
    if (!json_is_object(reply.root)) return not_json(line, "another kind of value");

    struct process_reply read = {0};
    bool has_text = json_object_get(reply.root, "text") != NULL;
    bool has_error = json_object_get(reply.root, "error") != NULL;
    if (has_text == has_error) return err_set(ERR_malformed, "a reply has either text or error");
    const char *key;
    json_t *value;
    json_object_foreach(reply.root, key, value)
    {
        TRY(read_member(key, value, arena, &read));
    }
    if (has_error) {
        ret->error = read.error.size ? read.error : span_text("an error without words");
        return ERR_ok;
    }
    *ret = read;
    return ERR_ok;
}
