/* The environment cluster: slots keyed by (job, episode) over the providers of each job's environments.
 *
 * It knows nothing of sockets: requests are calls, answers come through on_observation, possibly before a call returns.
 * What holds, whatever peers and environments do:
 *  - every accepted request is answered once: an observation, or a typed failure (env_error env_crash env_timeout timeout
 *    cancelled) without reward - unless the slot is released or its peer lost first;
 *  - an episode has one owner: a request with an older token than the newest seen is refused as `cancelled`;
 *  - an action is done once: a repeated step gets the recorded answer;
 *  - no call outlives its deadline, no slot its time to live; a stuck child is killed and replaced.
 * A request for a job that is not known yet waits for it, because the rollout service may hear of a job first. */
#ifndef PAL_SERVICE_ENV_CLUSTER_H
#define PAL_SERVICE_ENV_CLUSTER_H

#include "services/common/job/job.h"
#include "services/common/wire/wire.h"
#include "services/env/provider.h"

#define CLUSTER_HOMES       64    /* environments of all jobs together */
#define CLUSTER_FRESH_MS    10000 /* what a reset may take in addition when its program has still to start */
#define CLUSTER_TTL_MS      600000
#define CLUSTER_DEADLINE_MS 600000

struct cluster;

struct cluster_counters {
#define COUNTER(name, doc) uint64_t name;
#define GAUGE(name, doc)   uint64_t name;
#include "services/env/counters.def"
#undef COUNTER
#undef GAUGE
};

struct cluster_events {
    void *ctx;
    /* texts are borrowed until it returns; it must not call the cluster */
    void (*on_observation)(void *ctx, const char *peer, uint64_t job, const struct wire_observation *observation);
};

/* children outlives the loop's last turn: the providers' figures are kept there. */
err_t cluster_new(struct cluster **ret, uv_loop_t *loop, struct provider_counters *children,
                  struct cluster_events events) MUST_USE;
/* Ends every slot silently and every child; the loop turns until they are gone. */
void cluster_free(struct cluster **cluster);

/* Opens the job's environments; the same job again changes nothing. */
err_t cluster_job_start(struct cluster *cluster, uint64_t job, const struct job_spec *spec) MUST_USE;
/* Drops all of its slots without a word. */
void cluster_job_stop(struct cluster *cluster, uint64_t job);

void cluster_acquire_reset(struct cluster *cluster, const char *peer, uint64_t job, const struct wire_reset_item *item,
                           uint64_t remaining_ms);
void cluster_action(struct cluster *cluster, const char *peer, uint64_t job, const struct wire_action_item *item,
                    uint64_t remaining_ms);
/* Silent; an older token is ignored. */
void cluster_release(struct cluster *cluster, uint64_t job, uint64_t episode, uint64_t token);
/* Releases a peer's slots of this job that it does not name. Links keep their order: what it asked for before is known here.
 */
void cluster_held(struct cluster *cluster, const char *peer, uint64_t job, const uint64_t *episodes, const uint64_t *tokens,
                  size_t count);
/* Releases every slot of a peer that is known to be gone. */
void cluster_peer_lost(struct cluster *cluster, const char *peer);

void cluster_read_counters(const struct cluster *cluster, struct cluster_counters *ret);

#endif
