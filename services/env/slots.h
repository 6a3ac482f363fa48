/* The table of episodes this cluster has heard of, found by (job, episode). Internal to services/env.
 *
 * A slot is in one of three lists: waiting for a seat, seated, or ended. Ended ones are kept for a while, oldest dropped
 * first: they are what refuses older tokens and answers repeated requests.
 *
 *   from                  to         by
 *   -                     WAITING    acquire_reset with a token above every one seen
 *   WAITING               RESETTING  a seat is free
 *   RESETTING, STEPPING   READY      the environment answered
 *   READY                 STEPPING   an action
 *   RESETTING, STEPPING   ENDED      terminated; a failure; the call's deadline
 *   any but ENDED         ENDED      release, time to live, loss of the peer
 *   any                   -          the job stops; a newer token comes (a new slot takes its place) */
#ifndef PAL_SERVICE_ENV_SLOTS_H
#define PAL_SERVICE_ENV_SLOTS_H

#include "services/common/base/buf.h"
#include "services/common/wire/wire.h"
#include "services/env/provider.h"

#define SLOT_PEER_BYTES   64
#define SLOT_DETAIL_BYTES 400
#define SLOTS_LIVE        8192 /* waiting and seated together */
#define SLOTS_ENDED       8192
#define SLOTS_BUCKETS     4096
#define SLOT_KEPT_BYTES   4096 /* an ended slot keeps its last observation up to this size */

enum slot_state { SLOT_STATE_WAITING, SLOT_STATE_RESETTING, SLOT_STATE_READY, SLOT_STATE_STEPPING, SLOT_STATE_ENDED };

struct cluster;
struct home;

/* The last thing that was said about a slot, to say it again. */
struct slot_answer {
    bool there;
    uint64_t step;
    enum outcome outcome;
    struct buf text, expert, hint;
    double reward, env_ms;
    bool terminated;
    char detail[SLOT_DETAIL_BYTES];
};

struct slot {
    struct slot *chain;       /* of its bucket */
    struct slot *prev, *next; /* of its list */
    struct cluster *cluster;
    uint64_t job, episode, token;
    char peer[SLOT_PEER_BYTES];
    enum slot_state state;
    struct home *home; /* NULL while its job is unknown */
    struct seat *seat; /* NULL unless seated */
    uint64_t step;     /* actions done */
    uint64_t asker_ms; /* loop time at which the asker stops waiting */
    uint64_t limit_ms; /* of the call in flight: how long it may take */
    uint64_t call_ms;  /* loop time at which the call in flight is given up */
    uint64_t expires_ms;
    uint64_t called_ns;
    size_t environment; /* of the job */
    struct buf task;
    struct provider_reset reset; /* task_text is `task` */
    struct slot_answer last;
};

struct slot_list {
    struct slot *first, *last;
    size_t count;
};

struct slots {
    struct slot *buckets[SLOTS_BUCKETS];
    struct slot_list waiting, seated, ended;
};

struct slot *slots_find(const struct slots *slots, uint64_t job, uint64_t episode); /* NULL when unknown */
/* A new waiting slot; ERR_busy when there are too many. */
err_t slots_add(struct slots *slots, uint64_t job, uint64_t episode, struct slot **ret) MUST_USE;
/* Moves a slot to the list of its (new) state; ended ones past the limit are forgotten. */
void slots_move(struct slots *slots, struct slot *slot, enum slot_state state);
void slots_forget(struct slots *slots, struct slot *slot); /* frees it; its seat has been left */

#endif
