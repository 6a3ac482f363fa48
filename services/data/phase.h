/* What WebRL's phases know (curation/phase.h has the rules).
 *
 *     collecting --last batch handed out--> training --its checkpoint is durable--> generating --tasks made, successes
 *     measured--> collecting of the next phase
 *
 * Tasks are rows before they are scored (state `candidate`), so everything but the numbers below follows from the ledger, and
 * phase_advance asks for whatever is missing: after a restart, after a fork, or when scores failed. */
#ifndef PAL_DATA_PHASE_H
#define PAL_DATA_PHASE_H

#include "curation/phase.h"
#include "services/common/base/digest.h"
#include "services/common/store/store_phase.h"
#include "services/common/wire/wire.h"

struct data;
struct plan;
struct group;
struct slot;
struct store_batch;

struct phase {
    /* in the ledger, method `webrl` */
    double now;    /* the newest phase that began */
    double state;  /* enum phase_state */
    double looked; /* candidates looked at for the next one */
    /* follows from the ledger */
    size_t begun;                 /* generated tasks that may be drawn by now */
    size_t accepted, generated;   /* tasks of the next phase; tasks and refused candidates of all */
    size_t scoring;               /* candidates that are being scored */
    size_t measuring;             /* successes that are being measured */
    bool seeds_known;             /* the failed tasks of this phase were read */
    int64_t *seeds;               /* in the plan's arena */
    size_t seed_count;            /* */
    bool replays_asked;           /* successes to be measured were looked for */
    struct store_replay *replays; /* what this phase may replay; owned */
    size_t replay_count;
    int64_t orm_version; /* newest outcome reward model published in this lineage, 0: none */
    char orm_digest[DIGEST_HEX_BYTES];
    char orm_where[1024];
};

void phase_free(struct phase *phase);
/* The state of now and which tasks are in the mix; then what is under way. Nothing when curation.webrl is off. */
err_t phase_load(struct data *data) MUST_USE;
err_t phase_advance(struct data *data) MUST_USE;
err_t phase_put(struct data *data) MUST_USE; /* its numbers, with the turn */
/* Of the update; 0 without phases. */
int64_t phase_of_update(const struct plan *plan, int64_t update);
/* May groups of this update be planned? May fresh slots be leased at all (an outcome reward model may be missing)? */
bool phase_admits(const struct plan *plan, int64_t update);
bool phase_may_lease(const struct plan *plan);
/* The version of the outcome reward model that rewards this group; 0: its environment does. */
int64_t phase_judge(const struct plan *plan, const struct group *group);
bool phase_is_judged(const struct plan *plan, const struct group *group); /* is its reward a model's at all? */
/* Does everything wait for the checkpoint at the end of a phase? */
bool phase_can_generate(const struct plan *plan); /* not when their tasks could not be rewarded */
bool phase_waits(const struct plan *plan);
/* A batch was handed out, for the first time or again. */
err_t phase_handed_out(struct data *data, int64_t update) MUST_USE;
err_t phase_update(struct data *data, const struct wire_update_done *done) MUST_USE;

/* candidate.c */
/* Makes candidates until as many as are missing wait for their scores; *ret_done: none is missing, or none can be made. */
err_t candidate_advance(struct data *data, bool *ret_done) MUST_USE;
/* The score of a candidate has come, or never will (voided). */
err_t candidate_scored(struct data *data, size_t task, bool voided) MUST_USE;

/* replay.c */
err_t replay_load(struct data *data) MUST_USE; /* what this phase may replay */
/* Asks for what is not measured yet; *ret_done: all is. */
err_t replay_measure(struct data *data, bool *ret_done) MUST_USE;
/* The perplexity of a success has come, or never will (NaN). */
err_t replay_measured(struct data *data, const struct group *group, double perplexity) MUST_USE;
/* Adds replayed members behind those of the batch's groups. */
err_t replay_pack(struct data *data, struct store_batch *batch, struct wire_batch_member **members) MUST_USE;
/* phase_end: what the outcome reward model learns from and is tested on, for a new batch; and for the wire. */
err_t replay_judge(struct data *data, struct store_batch *batch) MUST_USE;
err_t replay_judged(struct data *data, const struct store_batch *batch, struct wire_judged **ret) MUST_USE;

#endif
