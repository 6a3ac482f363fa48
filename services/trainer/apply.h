/* A batch on an assignment's trainee, from its decoding to the end of its phase: what the trainer does and `pal replay` does
 * again, bit for bit. Blocks; touches nothing outside this process. */
#ifndef PAL_SERVICES_TRAINER_APPLY_H
#define PAL_SERVICES_TRAINER_APPLY_H

#include "services/trainer/assignment.h"

struct apply_result {
    const char *outcome; /* applied | skipped | numeric */
    bool changed;        /* the policy's weights have */
    bool reward;         /* the outcome reward model has a new version */
    struct diagnostics figures;
    char warning[ERR_TEXT_BYTES]; /* what was not finite and therefore left out, or empty */
};

/* Decodes assignment->batch and applies it; every error is a reason to fail the job. */
err_t apply_batch(struct assignment *assignment, const atomic_bool *cancel, struct apply_result *ret) MUST_USE;

#endif
