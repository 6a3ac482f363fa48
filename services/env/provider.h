/* Who hosts environments: one small interface over in-process games and child processes.
 *
 * A provider serves one entry of a job's `environments`. A seat is one running environment in it; a seat is entered, reset
 * and stepped any number of times, and left. Each reset or step is answered by exactly one call of `done` - possibly before
 * reset or step returns - unless the seat is left first, after which nothing comes. A provider knows no deadlines: who will
 * not wait any longer leaves the seat, and whatever is stuck in it is killed. Nothing here ever turns a failure into a
 * reward: an answer whose outcome is not ok carries only `detail`. */
#ifndef PAL_SERVICE_ENV_PROVIDER_H
#define PAL_SERVICE_ENV_PROVIDER_H

#include "rollout/outcome.h"
#include "services/common/base/err.h"
#include "services/common/base/span.h"

#include <uv.h>

struct provider; /* each kind has its own */
struct seat;

struct provider_counters {
    uint64_t children;       /* running now */
    uint64_t started;        /* children started */
    uint64_t killed;         /* children killed because they were stuck or broke the protocol */
    uint64_t stderr_dropped; /* lines of standard error that were not logged */
};

struct provider_setup {
    uv_loop_t *loop;
    const char *name;                   /* builtin: the environment; process: for the log */
    char *const *command;               /* process: argv, NULL-terminated, copied */
    struct provider_counters *counters; /* outlives the provider */
};

struct provider_reset {
    struct span task_text;
    uint64_t episode_seed;
    bool expert; /* suggest the next action in every answer */
    bool hint;   /* say what would help most, with the first answer */
    double noise;
    uint64_t noise_seed;
};

/* Borrowed until done returns. */
struct provider_answer {
    enum outcome outcome; /* ok, or env_error, env_crash */
    struct span text;
    double reward;
    bool terminated;
    struct span expert; /* empty: none */
    struct span hint;   /* of a reset that asked for it; empty: none */
    struct span detail; /* of a failure, for people */
};

typedef void (*provider_done_t)(void *ctx, const struct provider_answer *answer);

struct provider_class {
    const char *name;
    err_t (*open)(const struct provider_setup *setup, struct provider **ret);
    /* Every seat has been left. What runs is ended; the loop turns until it is gone. */
    void (*close)(struct provider **provider);
    /* *ret_fresh: the environment has still to start, which takes longer than a reset. */
    err_t (*enter)(struct provider *provider, provider_done_t done, void *ctx, struct seat **ret, bool *ret_fresh);
    void (*reset)(struct seat *seat, const struct provider_reset *reset);
    void (*step)(struct seat *seat, struct span action);
    void (*leave)(struct seat **seat);
};

extern const struct provider_class provider_builtin;
extern const struct provider_class provider_process;

#endif
