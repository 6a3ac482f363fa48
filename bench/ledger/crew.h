/* Simulated peers of a real pal-data: a gateway, a trainer, workers. They speak the real messages over the real bus and do
 * nothing else: an episode takes no time, an update neither.
 *
 * Workers behave as pal-rollout: what is due leaves every CREW_FLUSH_MS, at most CREW_SET ends in a message; a worker whose
 * ends wait for acknowledgement asks for nothing past CREW_OUTBOX of them. Payloads are noise. */
#ifndef PAL_BENCH_LEDGER_CREW_H
#define PAL_BENCH_LEDGER_CREW_H

#include "services/common/bus/bus.h"

#define CREW_WORKERS  2
#define CREW_SLOTS    1024 /* of a worker */
#define CREW_FLUSH_MS 20
#define CREW_SET      256
#define CREW_OUTBOX   4096
#define CREW_TURNS    6 /* of an episode */
#define CREW_RING     ((size_t)1 << 20)

struct crew;

struct crew_lease {
    uint64_t episode, attempt, token;
    int64_t version;
};

struct member {
    struct crew *crew;
    const char *service;
    char identity[BUS_PEER_BYTES];
    struct bus *bus;
    uint64_t epoch, job, pid;
    int64_t lineage;
    /* worker */
    struct crew_lease *ready; /* [CREW_RING]: leased and not said */
    size_t first, count;
    uint64_t leases, unacked, slots;
    bool ask;
    /* trainer */
    int64_t wants;
};

struct crew {
    uv_loop_t loop;
    uv_timer_t beat, flush, end;
    struct member gateway, trainer, workers[CREW_WORKERS];
    uint64_t job;   /* answered by the gateway's submit */
    bool plays;     /* leases are asked for and ended */
    double rate;    /* ends a second of all workers; 0: as many as there are */
    double due;     /* ends that the rate allows now */
    size_t payload; /* bytes */
    uint8_t *noise;
    uint64_t leases, said, acked, updates, batch_bytes, restarts, requests;
    double *sent; /* [CREW_RING] by token: ms */
    double *took; /* [CREW_RING]: of the newest acknowledgements */
    size_t took_count;
    bool over;
};

void crew_open(struct crew *crew, const char *run_dir);
void crew_close(struct crew *crew);
/* Submits a job and brings it to version 0. groups: per update. */
void crew_begin(struct crew *crew, int groups, int staleness);
void crew_resume(struct crew *crew, uint64_t job); /* a job that goes on under another data manager */
void crew_cancel(struct crew *crew);               /* ends the job */
/* Runs for so long. */
void crew_run(struct crew *crew, double seconds);
/* Asks for leases until `count` more have come; seconds. */
double crew_lease(struct crew *crew, uint64_t count);
void crew_noise(uint8_t *ret, size_t size);           /* bytes that do not compress */
double crew_took_ms(struct crew *crew, double share); /* quantile of episode_done to ack */

#endif
