/* A whole stack for a test: `pal up` with a state directory and port of its own, and pal commands against it. */
#ifndef PAL_TEST_SUPPORT_STACK_H
#define PAL_TEST_SUPPORT_STACK_H

#include "services/common/base/buf.h"

#include <check.h>
#include <jansson.h>

/* how much longer everything may take under a sanitizer */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_SLOW 4
#else
#define STACK_SLOW 1
#endif

struct stack {
    char state[128];
    bool up;
};

/* Runs a suite; stacks that failed tests left behind are stopped and removed after it. Returns the exit code for main. */
int stack_run(Suite *suite);

/* A fresh state directory; nothing runs yet. */
void stack_make(struct stack *stack);
void stack_up(struct stack *stack);
/* Stops it, checks that nothing of it runs or lies in shared memory any more, removes the directory. */
void stack_remove(struct stack *stack);
/* Runs `pal --state DIR words...` (NULL-terminated); returns its exit code, its output in out (may be NULL). */
int stack_pal(const struct stack *stack, struct buf *out, const char *const *words);
/* GET path as JSON; fails the test when it is not 200. */
json_t *stack_get(const struct stack *stack, const char *path);
/* Submits a job file (absolute, or within the source tree), with overrides; returns its id, fails the test when refused. */
int64_t stack_submit(const struct stack *stack, const char *file, const char *const *sets);
/* Waits until the job's state is one of succeeded, failed, cancelled; ret holds 32. */
void stack_wait(const struct stack *stack, int64_t job, int seconds, char *ret);
/* The pid of a service, from /v1/workers; 0 when it is not alive. */
int stack_pid(const struct stack *stack, const char *service);
/* `pal verify` must hold. */
void stack_verify(const struct stack *stack, int64_t job);
/* Success on the held-out tasks at the first or the last evaluation. */
double stack_success(const struct stack *stack, int64_t job, bool first);
/* The largest value of a metric over the job's updates; there must be one. */
double stack_metric(const struct stack *stack, int64_t job, const char *name);
/* The newest episode that the filter lets through, whole; the caller's to release. */
json_t *stack_newest(const struct stack *stack, int64_t job, const char *filter);
/* A counter of the rollout service is above `least`, now or soon: a job of a second may end before the beat that tells of it.
 */
void stack_counted(const struct stack *stack, const char *name, double least);
double stack_clock(void); /* seconds */
void stack_pause(long ms);

#endif
