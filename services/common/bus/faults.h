/* Faults on purpose at the bus seam: what a lossy, slow, repeating network would do to our messages, for tests and chaos
 * runs.
 *
 * PAL_BUS_FAULTS="drop=0.01,duplicate=0.01,delay=0.05,delay_ms=50,seed=7", read when a link is opened: each message that the
 * link sends is lost with probability drop, sent twice with probability duplicate, and held back with probability delay (1
 * when only delay_ms is given) for up to delay_ms; messages to the same peer keep their order, as on a connection. The same
 * seed gives each process the same draws. Without the variable a send costs one branch. */
#ifndef PAL_BUS_FAULTS_H
#define PAL_BUS_FAULTS_H

#include "services/common/base/err.h"
#include "services/common/base/rng.h"

#define FAULTS_VARIABLE "PAL_BUS_FAULTS"
#define FAULTS_DELAY_MS 10000 /* most */

struct faults {
    bool on;
    double drop, duplicate, delay;
    uint64_t delay_ms;
    struct rng rng;
};

struct fault {
    bool drop, duplicate;
    uint64_t delay_ms;
};

/* text NULL or "": off. name tells processes apart. ERR_invalid names what is not understood. */
err_t faults_init(struct faults *faults, const char *text, const char *name) MUST_USE;
struct fault faults_draw(struct faults *faults); /* of the next message */

#endif
