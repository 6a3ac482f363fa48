/* The data manager does not answer: which stage that is, by what evidence, and from what it likely comes. It cannot say so
 * itself, so processes are looked at. */
#include "services/common/run/process.h"
#include "services/gateway/gateway.h"

#include <stdio.h>

struct silence {
    const char *stage, *cause;
    char evidence[256];
};

/* PostgreSQL's processes, where the cluster is this stack's own: false when nothing is wrong with them. */
static bool of_postgres(const struct gateway *gateway, struct silence *ret)
{
    char path[SERVICE_PATH_BYTES + 32];
    size_t count = 0, stopped = 0;
    (void)snprintf(path, sizeof path, "%s/postgres/postmaster.pid", gateway->service->state_dir);
    long pid = process_read_pid(path);
    enum process_state state = process_state(pid);
    if (pid == 0) return false;
    process_children(pid, &count, &stopped);
    if (state == PROCESS_RUNS && stopped == 0) return false;
    ret->stage = "postgres";
    ret->cause = process_cause(state == PROCESS_RUNS ? PROCESS_STOPPED : state);
    (void)snprintf(ret->evidence, sizeof ret->evidence,
                   "the data manager waits for PostgreSQL: its server (pid %ld) %s, %zu of its %zu processes are stopped",
                   pid, process_state_name(state), stopped, count);
    return true;
}

static void find(const struct gateway *gateway, struct silence *ret)
{
    const struct service *service = gateway->service;
    long pid = process_noted(service->run_dir, "data");
    enum process_state state = process_state(pid);
    if (state == PROCESS_RUNS && of_postgres(gateway, ret)) return;
    ret->stage = "data";
    ret->cause = process_cause(state);
    (void)snprintf(ret->evidence, sizeof ret->evidence, "the data manager (pid %ld) %s and was last heard %.1f s ago", pid,
                   process_state_name(state), (double)(uv_now(&service->loop) - service->heard_ms) / 1e3);
}

void silence_answer(struct gateway *gateway, struct web_request *request)
{
    struct silence silence;
    char detail[600], extra[600];
    find(gateway, &silence);
    /* both are texts of ours: nothing in them needs an escape */
    (void)snprintf(detail, sizeof detail, "%s: %s; likely: %s", silence.stage, silence.evidence, silence.cause);
    (void)snprintf(extra, sizeof extra, ", \"stage\": \"%s\", \"evidence\": \"%s\", \"cause\": \"%s\"", silence.stage,
                   silence.evidence, silence.cause);
    web_problem(request, 503, detail, extra);
}
