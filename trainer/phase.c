#include "trainer/phase.h"

err_t phase_end(struct trainee *trainee, const struct phase_config *config, const struct orm_case *cases, size_t count,
                const atomic_bool *cancel, bool *ret_diverged, struct diagnostics *figures)
{
    bool trained = false;
    err_t err = ERR_ok;
    if (config->orm) err = orm_run(trainee, &config->reward, trainee->phase, cases, count, cancel, &trained, figures);
    *ret_diverged = err == ERR_numeric;
    if (err != ERR_ok && err != ERR_numeric) return err;
    if (config->reference) TRY(trainee_set_reference(trainee));
    trainee->phase++;
    bool better = trained && err == ERR_ok;
    if (better || trainee->orm_version > 0)
        trainee->orm_version = trainee->phase; /* the old one serves on under the new number */
    return ERR_ok;
}
