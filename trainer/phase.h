/* The end of a phase (WebRL, arXiv 2411.02337; docs/methods.md): the outcome reward model learns from the verified episodes
 * there are, and the policy of now becomes the reference of the next phase. */
#ifndef PAL_TRAINER_PHASE_H
#define PAL_TRAINER_PHASE_H

#include "trainer/orm.h"

struct phase_config {
    bool reference; /* the job holds its policy near one */
    bool orm;       /* it has an outcome reward model */
    struct orm_config reward;
};

/* Ends phase trainee->phase: phases ended are one more, and that is the version of the reward model from now on (0 as long as
 * it never learned). One that had nothing to learn from or diverged (ERR_numeric inside: its sentence is then in err_text()
 * and *ret_diverged true) stays as it was. Other errors leave the trainee as it was. */
err_t phase_end(struct trainee *trainee, const struct phase_config *config, const struct orm_case *cases, size_t count,
                const atomic_bool *cancel, bool *ret_diverged, struct diagnostics *figures) MUST_USE;

#endif
