/* One running program: lines out of it, bytes into it, its end. Internal to services/env.
 *
 * A child leads a process group of its own and dies with this process (launch.h). `on_gone` is called once, when it has
 * ended and been reaped; nothing is called after it. The child's memory is its own affair: it goes once the loop has closed
 * the handles. Its standard error is logged up to CHILD_STDERR_LINES lines; the last line goes into the reason of its end. */
#ifndef PAL_SERVICE_ENV_CHILD_H
#define PAL_SERVICE_ENV_CHILD_H

#include "services/common/base/buf.h"

#include <uv.h>

#define CHILD_STDERR_LINES 50
#define CHILD_STDERR_BYTES 240 /* of one line; the rest is cut */
#define CHILD_WHY_BYTES    400

struct child;

struct child_events {
    void *ctx;
    /* an over-long line comes cut to max_line + 1 bytes, and nothing after it; more: bytes that follow are there already */
    void (*on_line)(void *ctx, struct span line, bool more);
    void (*on_gone)(void *ctx, const char *why);
    uint64_t *stderr_dropped; /* counts lines that were not logged */
};

/* ERR_unavailable when nothing could be started. A command that does not exist shows as an early end. */
err_t child_start(uv_loop_t *loop, const char *name, char *const *command, size_t max_line, struct child_events events,
                  struct child **ret) MUST_USE;
err_t child_write(struct child *child, struct span bytes) MUST_USE;
/* Something was written that on_line was not told of: the program says more than it is asked. */
bool child_unread(const struct child *child);
/* No more input: a well-behaved program ends. */
void child_end_input(struct child *child);
/* SIGKILL to the whole group; no line comes after it, on_gone does. */
void child_kill(struct child *child);

#endif
