#include "trainer/warmstart.h"

#include "trainer/imitation.h"

#define RNG_STREAM 8 /* apart from the model's initialisation and the updates */

err_t warmstart_run(struct trainee *trainee, const struct warmstart_config *config, const struct episode *episodes,
                    size_t count, const atomic_bool *cancel, struct diagnostics *ret_figures)
{
    const struct imitation_config imitation = {.updates = config->updates,
                                               .batch = config->batch,
                                               .lr = config->lr,
                                               .tokens_per_microbatch = config->tokens_per_microbatch,
                                               .temperature = config->temperature,
                                               .stream = RNG_STREAM};
    struct imitation_result result;
    trainee_keep(trainee);
    err_t err = imitation_run(trainee, trainee->model, trainee->adamw, &imitation, episodes, count, cancel, &result);
    if (err != ERR_ok) {
        trainee_restore(trainee);
        return err;
    }
    adamw_reset(trainee->adamw);
    struct diagnostics figures;
    diagnostics_clear(&figures);
    diagnostics_from_sums(&figures, &result.sums, (double)config->updates);
    figures.lr = config->lr;
    figures.episodes_trained = (double)count;
    figures.loss = result.last_loss;
    figures.grad_norm = result.norm;
    figures.tokens_trained = result.tokens;
    *ret_figures = figures;
    return ERR_ok;
}
