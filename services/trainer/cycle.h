/* The trainer's cycle: which work comes next for the assignment of now (docs/architecture.md, "A job's life").
 *
 * batch_request(0) -> warm start -> update_done(0), policy_published -> checkpoint -> batch_request(1) ... until a batch of
 * kind `end`; the batch of the next update is asked for as soon as an update is computed, before its checkpoint is saved. One
 * work runs at a time; cycle_go starts the next one whenever it may, and may be called at any time. */
#ifndef PAL_SERVICES_TRAINER_CYCLE_H
#define PAL_SERVICES_TRAINER_CYCLE_H

#include "services/trainer/compute.h"
#include "services/trainer/outbox.h"

#define CYCLE_ASK_MS        3000 /* a batch is asked for again after this long */
#define CYCLE_SAVE_ATTEMPTS 3
#define CYCLE_SAVE_RETRY_MS 2000
#define CYCLE_DRAIN_MS      8000 /* a clean stop waits so long for the update that is being computed, then for its checkpoint */
#define CYCLE_DRAIN_TICK_MS 10
#define CYCLE_DRAIN_ACK_MS  2000 /* and so long for the data manager to take that in */

/* Monotonic counters since the start of the process. */
struct cycle_counters {
    uint64_t updates; /* applied */
    uint64_t skipped;
    uint64_t numeric;
    double tokens_trained;
    double busy_ms;
    double wait_ms;
    double checkpoint_ms;
    uint64_t checkpoints;
    uint64_t checkpoints_deleted;
    uint64_t checkpoint_retries;
    uint64_t published;
    uint64_t batch_requests;
    uint64_t ignored; /* messages of older lineages, other jobs, or twice the same */
};

struct cycle {
    struct service *service; /* borrowed */
    struct compute compute;
    struct outbox outbox;
    struct assignment *now;
    struct assignment *next; /* takes the place of a dropped `now` */
    uint64_t drain_until_ms; /* 0: the process is not asked to end */
    struct cycle_counters counters;
};

void cycle_init(struct cycle *cycle, struct service *service, struct pool *pool);
void cycle_fini(struct cycle *cycle);

/* Messages of the data manager. */
void cycle_assign(struct cycle *cycle, const struct wire_job_assign *message);
void cycle_stop_job(struct cycle *cycle, const struct wire_job_stop *message);
void cycle_batch(struct cycle *cycle, const struct wire_batch *message);
void cycle_policy_ack(struct cycle *cycle, const struct wire_policy_ack *message);
void cycle_trainer_ack(struct cycle *cycle, const struct wire_trainer_ack *message);

void cycle_pulse(const struct cycle *cycle, struct service_pulse *pulse); /* what a heartbeat says */
void cycle_tick(struct cycle *cycle);        /* once in a while: what must be sent or tried again */
void cycle_hello_again(struct cycle *cycle); /* the data manager was restarted: everything unacknowledged goes again */
/* The process is asked to end: true when there is work to keep. The update that is being computed is finished, a checkpoint
 * saved and acknowledged, and then service_quit called, at the latest when the time is over: by cycle_tick, which from now on
 * is wanted every CYCLE_DRAIN_TICK_MS (not by a message: the bus cannot be freed while it speaks). */
bool cycle_drain(struct cycle *cycle);
void cycle_quit(struct cycle *cycle); /* the process ends: cancels what runs, removes the published policies */

#endif
