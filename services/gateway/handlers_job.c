/* Handlers of one job: submit, list, change, read. */
#include "services/common/origin/origin.h"
#include "services/common/run/log.h"
#include "services/common/store/store_read.h"
#include "services/gateway/gateway.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define KEY_BYTES 128

/* ---- submit ---- */

static void refuse(struct web_request *request, err_t err, const struct job_problems *problems)
{
    AUTO(buf) extra = {0};
    char detail[128];
    (void)snprintf(detail, sizeof detail, "the job file has %zu problem%s", problems->count, problems->count == 1 ? "" : "s");
    if (gateway_problems(problems, &extra) != ERR_ok) buf_clear(&extra);
    web_problem(request, err == ERR_malformed ? 400 : err_http(err), detail, buf_chars(&extra));
}

static void submit(struct gateway *gateway, struct web_request *request, struct span spec)
{
    const char *key = web_header(request, "Idempotency-Key");
    uint64_t id = 0;
    if (key && (strlen(key) >= KEY_BYTES || !*key)) {
        web_problem(request, 400, "Idempotency-Key must have 1 to 127 bytes", "");
        return;
    }
    if (!gateway_ask(gateway, request, QUESTION_SUBMIT, GATEWAY_SUBMIT_MS, &id)) return;
    struct wire_job_submit message = {id, GATEWAY_SUBMIT_MS, span_text(key), spec};
    service_tell(gateway->service, WIRE_job_submit, &message);
}

void handle_jobs_post(void *ctx, struct web_request *request)
{
    struct gateway *gateway = ctx;
    AUTO(arena) arena = {0};
    struct job_spec spec;
    struct job_problems problems;
    gateway->requests++;
    err_t err = job_parse(web_body(request), &arena, &spec, &problems);
    if (err == ERR_ok) err = origin_check(&spec, &arena, &problems);
    if (err != ERR_ok) {
        refuse(request, err, &problems);
        return;
    }
    AUTO(buf) resolved = {0};
    const char *dry = web_query(request, "dry_run");
    bool only = dry && strcmp(dry, "true") == 0;
    err = job_dump(&spec, only, &resolved);
    if (err != ERR_ok)
        web_reply_err(request, err);
    else if (only)
        web_reply_json(request, 200, buf_span(&resolved));
    else
        submit(gateway, request, buf_span(&resolved));
}

/* ---- commands ---- */

static void command(struct gateway *gateway, struct web_request *request, const char *name, int64_t argument)
{
    int64_t job = 0;
    uint64_t id = 0;
    gateway->requests++;
    err_t err = web_id(request, 0, &job);
    if (err != ERR_ok) {
        web_reply_err(request, err);
        return;
    }
    if (!gateway_ask(gateway, request, QUESTION_COMMAND, GATEWAY_SUBMIT_MS, &id)) return;
    struct wire_job_command message = {id, GATEWAY_SUBMIT_MS, (uint64_t)job, span_text(name), argument};
    service_tell(gateway->service, WIRE_job_command, &message);
}

void handle_job_cancel(void *ctx, struct web_request *request)
{
    command(ctx, request, "cancel", 0);
}

void handle_job_pause(void *ctx, struct web_request *request)
{
    command(ctx, request, "pause", 0);
}

void handle_job_resume(void *ctx, struct web_request *request)
{
    command(ctx, request, "resume", 0);
}

void handle_job_patch(void *ctx, struct web_request *request)
{
    struct span body = web_body(request);
    json_t *root = json_loadb((const char *)body.data, body.size, JSON_REJECT_DUPLICATES, NULL);
    json_t *priority = json_object_get(root, "priority");
    bool good = json_is_integer(priority) && json_object_size(root) == 1;
    int64_t value = json_integer_value(priority);
    json_decref(root);
    if (good && value >= -1000000 && value <= 1000000)
        command(ctx, request, "priority", value);
    else
        web_problem(request, 422, "the body must be {\"priority\": n}, n from -1000000 to 1000000", "");
}

/* ---- reads ---- */

struct read {
    struct gateway *gateway;
    struct store *store;
    int64_t job;
    struct buf out;
};

static void read_fini(struct read *read)
{
    buf_fini(&read->out);
}

/* False after an answer was given. */
static bool begin(struct read *read, void *ctx, struct web_request *request)
{
    read->gateway = ctx;
    read->gateway->requests++;
    err_t err = web_id(request, 0, &read->job);
    if (err != ERR_ok) {
        web_reply_err(request, err);
        return false;
    }
    read->store = gateway_store(read->gateway, request);
    return read->store != NULL;
}

static void end(struct read *read, struct web_request *request, err_t err)
{
    if (err == ERR_ok)
        web_reply_json(request, 200, buf_span(&read->out));
    else
        gateway_read_failed(read->gateway, request, err);
}

void handle_jobs_list(void *ctx, struct web_request *request)
{
    struct gateway *gateway = ctx;
    int64_t before = 0, limit = 0;
    const char *state = web_query(request, "state");
    gateway->requests++;
    if (!gateway_number(request, "before", -1, &before) || !gateway_limit(request, 100, &limit)) return;
    struct store *store = gateway_store(gateway, request);
    if (!store) return;
    AUTO(buf) out = {0};
    err_t err = store_read_jobs(store, state ? state : "", before, limit, &out);
    if (err == ERR_ok)
        web_reply_json(request, 200, buf_span(&out));
    else
        gateway_read_failed(gateway, request, err);
}

void handle_job_get(void *ctx, struct web_request *request)
{
    AUTO(read) read = {0};
    if (begin(&read, ctx, request)) end(&read, request, store_read_job(read.store, read.job, &read.out));
}

/* ?lineages=all: what was forked away, too; false after an answer of 400. */
static bool all_lineages(struct web_request *request, bool *ret)
{
    const char *text = web_query(request, "lineages");
    *ret = text && strcmp(text, "all") == 0;
    if (!text || *ret) return true;
    web_problem(request, 400, "?lineages= must be all, or absent", "");
    return false;
}

void handle_job_metrics(void *ctx, struct web_request *request)
{
    AUTO(read) read = {0};
    int64_t from = 0, limit = 0;
    const char *names = web_query(request, "names");
    bool all = false;
    if (!gateway_number(request, "from", 0, &from) || !gateway_limit(request, 1000, &limit) || !all_lineages(request, &all))
        return;
    if (begin(&read, ctx, request))
        end(&read, request, store_read_metrics(read.store, read.job, names ? names : "", from, limit, all, &read.out));
}

typedef err_t (*list_t)(struct store *store, int64_t job, int64_t after, int64_t limit, struct buf *out);

static void list(void *ctx, struct web_request *request, list_t reads)
{
    AUTO(read) read = {0};
    int64_t after = 0, limit = 0;
    if (!gateway_number(request, "after", -1, &after) || !gateway_limit(request, 100, &limit)) return;
    if (begin(&read, ctx, request)) end(&read, request, reads(read.store, read.job, after, limit, &read.out));
}

void handle_job_tasks(void *ctx, struct web_request *request)
{
    list(ctx, request, store_read_tasks);
}

void handle_job_decisions(void *ctx, struct web_request *request)
{
    list(ctx, request, store_read_decisions);
}

void handle_job_checkpoints(void *ctx, struct web_request *request)
{
    AUTO(read) read = {0};
    if (begin(&read, ctx, request)) end(&read, request, store_read_checkpoints(read.store, read.job, &read.out));
}

void handle_job_evaluations(void *ctx, struct web_request *request)
{
    AUTO(read) read = {0};
    bool all = false;
    if (!all_lineages(request, &all)) return;
    if (begin(&read, ctx, request)) end(&read, request, store_read_evaluations(read.store, read.job, all, &read.out));
}

void handle_job_episodes(void *ctx, struct web_request *request)
{
    AUTO(read) read = {0};
    const char *source = web_query(request, "source"), *outcome = web_query(request, "outcome");
    struct store_episode_filter filter = {.source = source ? source : "", .outcome = outcome ? outcome : ""};
    if (!gateway_number(request, "version", -1, &filter.version) || !gateway_number(request, "before", -1, &filter.before) ||
        !gateway_limit(request, 100, &filter.limit))
        return;
    if (begin(&read, ctx, request)) end(&read, request, store_read_episodes(read.store, read.job, &filter, &read.out));
}

void handle_job_episode(void *ctx, struct web_request *request)
{
    AUTO(read) read = {0};
    int64_t episode = 0;
    if (!begin(&read, ctx, request)) return;
    err_t err = web_id(request, 1, &episode);
    if (err == ERR_ok) err = store_read_episode(read.store, read.job, episode, &read.out);
    if (err == ERR_ok) err = transcript_add(read.gateway, read.store, read.job, episode, &read.out);
    end(&read, request, err);
}
