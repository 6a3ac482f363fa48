/* What runs on the compute thread, one work at a time: preparing an assignment, computing a batch, saving a checkpoint.
 *
 * The loop starts a work and gets it back by its callback; heartbeats, cancellation and new assignments go on meanwhile. */
#ifndef PAL_SERVICES_TRAINER_COMPUTE_H
#define PAL_SERVICES_TRAINER_COMPUTE_H

#include "services/trainer/apply.h"

#include <uv.h>

enum compute_kind { COMPUTE_KIND_prepare, COMPUTE_KIND_batch, COMPUTE_KIND_save };

struct compute {
    uv_work_t request;
    enum compute_kind kind;
    struct assignment *assignment; /* NULL: nothing runs */
    const char *state_dir;
    struct pool *pool;
    void (*done)(struct compute *compute); /* on the loop; assignment is still set */

    err_t err; /* with its sentence: a reason to fail the job */
    char err_text[ERR_TEXT_BYTES];
    struct apply_result result; /* batch */
    bool phase_end;             /* batch: a phase has ended with it */
    bool published;             /* prepare, batch: a new version lies in shared memory, */
    struct digest digest;       /* of these weights */
    bool rewarded;              /* likewise the outcome reward model, */
    struct digest reward;       /* of these weights */
    struct archive_entry saved; /* save */
    uint64_t started_ns;        /* on the loop; 0: nothing runs */
    double took_ms;
};

/* Starts it; the assignment must stay until done. ERR_unavailable when the loop takes no work. */
err_t compute_start(struct compute *compute, uv_loop_t *loop, enum compute_kind kind, struct assignment *assignment) MUST_USE;

#endif
