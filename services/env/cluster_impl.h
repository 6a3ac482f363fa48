/* The inside of the cluster, shared by cluster.c (requests, jobs, life) and cluster_calls.c (answers, time, seats). */
#ifndef PAL_SERVICE_ENV_CLUSTER_IMPL_H
#define PAL_SERVICE_ENV_CLUSTER_IMPL_H

#include "services/env/cluster.h"
#include "services/env/slots.h"

/* One entry of a job's environments. */
struct home {
    uint64_t job;
    size_t environment;
    const struct provider_class *class; /* NULL: this place is free */
    struct provider *provider;
    size_t slots, used;
    uint64_t step_timeout_ms;
};

struct cluster {
    uv_loop_t *loop;
    struct cluster_events events;
    struct cluster_counters counters; /* gauges are filled when read */
    struct provider_counters *children;
    struct home homes[CLUSTER_HOMES];
    struct slots slots;
    uv_timer_t janitor; /* wakes at due_ms, the earliest deadline that was armed */
    uint64_t due_ms;
    bool pumping, closing;
};

/* Says the slot's recorded answer to its peer. */
void cluster_emit(struct cluster *cluster, const struct slot *slot);
/* Answers a request that concerns no slot of the sender's. */
void cluster_refuse(struct cluster *cluster, const char *peer, uint64_t job, uint64_t episode, uint64_t token, uint64_t step,
                    enum outcome outcome, const char *detail);
/* Gives the seat back and keeps the slot for its memory. */
void cluster_end(struct cluster *cluster, struct slot *slot);
/* Ends the slot with a failure and says so. */
void cluster_fail(struct slot *slot, enum outcome outcome, const char *detail);

/* When something is due for a slot at the latest, in loop time; the janitor is to wake by then. */
uint64_t cluster_due(const struct slot *slot);
void cluster_arm(struct cluster *cluster, uint64_t when_ms);

/* Marks a call as begun, with its deadline. */
void cluster_begin_call(struct cluster *cluster, struct slot *slot, enum slot_state state, uint64_t limit_ms);
/* Seats who waits, oldest first. */
void cluster_pump(struct cluster *cluster);

#endif
