/* Evaluations: held-out tasks played with one pinned version, never trained on. */
#include "services/common/run/log.h"
#include "services/common/store/store_job.h"
#include "services/common/store/store_policy.h"
#include "services/data/data.h"

#include <stdlib.h>

err_t evaluate_start(struct data *data, int64_t version)
{
    struct plan *plan = data->plan;
    bool is_new = false;
    size_t episodes = (size_t)plan->spec.evaluation.episodes;
    const struct store_evaluation row = {.lineage = plan->lineage, .version = version, .episodes = (int64_t)episodes};
    TRY(data_begin(data));
    TRY(store_evaluation_start(data->store, plan->job, &row, &is_new));
    if (!is_new || plan->holdout_count == 0) return ERR_ok;
    struct evaluation *evaluation = calloc(1, sizeof *evaluation);
    if (!evaluation) return err_set(ERR_memory, "an evaluation");
    *evaluation = (struct evaluation){
        .next = plan->evaluations, .lineage = plan->lineage, .version = version, .episodes = episodes, .open = episodes};
    plan->evaluations = evaluation;
    policy_take_weights(plan, evaluation);
    for (size_t i = 0; i < episodes; i++)
        TRY(grant_pinned(data, GROUP_EVALUATION, plan->holdout[i % plan->holdout_count], version));
    return ERR_ok;
}

static void forget(struct plan *plan, struct evaluation *evaluation)
{
    struct evaluation **at = &plan->evaluations;
    while (*at != evaluation) at = &(*at)->next;
    *at = evaluation->next;
    free(evaluation);
}

static err_t by_level(struct data *data, const struct evaluation *evaluation, struct buf *out)
{
    struct store_level *levels = NULL;
    size_t count = 0;
    TRY(store_evaluation_levels(data->store, data->plan->job, evaluation->lineage, evaluation->version, &data->arena, &levels,
                                &count));
    TRY(buf_text(out, "{"));
    for (size_t i = 0; i < count; i++)
        TRY(buf_printf(out, "%s\"%lld\": {\"done\": %lld, \"successes\": %lld}", i ? ", " : "", (long long)levels[i].level,
                       (long long)levels[i].done, (long long)levels[i].successes));
    return buf_text(out, "}");
}

err_t evaluate_close(struct data *data, struct evaluation *evaluation)
{
    struct plan *plan = data->plan;
    TRY(data_begin(data));
    /* the levels are counted in the ledger, so this turn's rows must be there */
    TRY(writes_flush(&data->writes, data->store, plan, &data->arena));
    writes_clear(&data->writes);
    AUTO(buf) levels = {0};
    TRY(by_level(data, evaluation, &levels));
    const struct store_evaluation row = {
        .lineage = evaluation->lineage,
        .version = evaluation->version,
        .episodes = (int64_t)evaluation->episodes,
        .done = (int64_t)evaluation->done,
        .successes = (int64_t)evaluation->successes,
        .by_level = buf_chars(&levels),
    };
    TRY(store_evaluation_end(data->store, plan->job, &row));
    double success = evaluation->done ? (double)evaluation->successes / (double)evaluation->done : 0;
    if (evaluation->version > plan->last_evaluated) {
        plan->last_evaluated = evaluation->version;
        plan->last_success = success;
    }
    const char *message =
        arena_printf(&data->arena, "version %lld solves %zu of %zu held-out tasks (%.1f %%)", (long long)evaluation->version,
                     evaluation->successes, evaluation->done, 100 * success);
    const char *inputs = arena_printf(
        &data->arena, "{\"lineage\": %lld, \"version\": %lld, \"done\": %zu, \"successes\": %zu, \"by_level\": %s}",
        (long long)evaluation->lineage, (long long)evaluation->version, evaluation->done, evaluation->successes,
        buf_chars(&levels));
    if (!message || !inputs) return ERR_memory;
    log_info("%s", message);
    if (success >= plan->spec.stop.holdout_success && !plan->ending) plan->ending = "holdout_success";
    forget(plan, evaluation);
    return store_job_event(data->store, plan->job, "evaluation", message, inputs);
}
