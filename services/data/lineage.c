/* A trainer says hello: it owns the lineage already, or a new one begins at the newest committed checkpoint. */
#include "services/common/run/log.h"
#include "services/common/store/store_group.h"
#include "services/common/store/store_job.h"
#include "services/common/store/store_policy.h"
#include "services/data/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Back to the checkpoint: what came after is handed out again, under the new lineage. */
static err_t fork_lineage(struct data *data)
{
    struct plan *plan = data->plan;
    struct store_checkpoint checkpoint;
    err_t err = store_policy_checkpoint(data->store, plan->job, plan->lineage, &data->arena, &checkpoint);
    if (err != ERR_ok && err != ERR_not_found) return err;
    bool some = err == ERR_ok;
    int64_t from = plan->updates_done;
    plan->lineage++;
    plan->updates_done = some ? checkpoint.update : -1;
    plan->version = some ? checkpoint.version : -1;
    plan->resume_version = plan->checkpoint_version = plan->version;
    plan->checkpoint_update = plan->updates_done;
    (void)snprintf(plan->resume_path, sizeof plan->resume_path, "%s", some ? checkpoint.path : "");
    (void)snprintf(plan->resume_sha256, sizeof plan->resume_sha256, "%s", some ? checkpoint.sha256 : "");
    plan->published = -1;
    plan->end_said = false;
    TRY(batch_load_ending(data)); /* what ended it may lie past the checkpoint */
    TRY(store_evaluation_abandon(data->store, plan->job, plan->version));
    TRY(store_group_abandon(data->store, plan->job, plan->version));
    TRY(store_job_progress(data->store, plan->job, plan->lineage, plan->updates_done, plan->version, false));
    const char *message = arena_printf(&data->arena, "lineage %lld goes on from update %lld (was at %lld)",
                                       (long long)plan->lineage, (long long)plan->updates_done, (long long)from);
    const char *inputs = arena_printf(&data->arena, "{\"lineage\": %lld, \"from_update\": %lld, \"was_at\": %lld}",
                                      (long long)plan->lineage, (long long)plan->updates_done, (long long)from);
    if (!message || !inputs) return ERR_memory;
    log_warn("job %lld: %s", (long long)plan->job, message);
    return store_job_event(data->store, plan->job, "lineage", message, inputs);
}

/* Shared memory does not outlive a clean stop or the machine; the version a lineage begins at is published anew. */
static bool can_be_played(const struct plan *plan, const struct evaluation *e)
{
    return e->version == plan->version || access(e->weights.where, R_OK) == 0;
}

/* Its groups are in no one's way any more. */
static err_t give_up(struct data *data, const struct evaluation *e)
{
    struct plan *plan = data->plan;
    for (struct group *g = plan->groups, *next; g; g = next) {
        next = g->next;
        if (g->source != GROUP_EVALUATION || g->pin_version != e->version) continue;
        /* those past the fork are abandoned in the ledger already */
        if (e->version <= plan->version) TRY(store_group_drop(data->store, plan->job, g->id));
        plan_remove_group(plan, g);
    }
    if (e->version > plan->version) return ERR_ok;
    TRY(store_evaluation_give_up(data->store, plan->job, e->version));
    const char *message = arena_printf(&data->arena,
                                       "the evaluation of version %lld is given up after %zu of %zu episodes: its "
                                       "weights went with the trainer that published them",
                                       (long long)e->version, e->done, e->episodes);
    const char *inputs = arena_printf(&data->arena, "{\"version\": %lld, \"done\": %zu}", (long long)e->version, e->done);
    return message && inputs ? store_job_event(data->store, plan->job, "evaluation", message, inputs) : ERR_memory;
}

/* Evaluations past the fork are planned anew when their version is published again. */
static err_t drop_evaluations(struct data *data)
{
    struct plan *plan = data->plan;
    for (struct evaluation **at = &plan->evaluations; *at;) {
        struct evaluation *e = *at;
        if (e->version <= plan->version && can_be_played(plan, e)) {
            at = &e->next;
            continue;
        }
        TRY(give_up(data, e));
        *at = e->next;
        free(e);
    }
    if (plan->last_evaluated > plan->version) plan->last_evaluated = plan->version;
    return ERR_ok;
}

static err_t take_over(struct data *data, struct peer *trainer)
{
    struct plan *plan = data->plan;
    TRY(data_begin(data));
    bool fresh = plan->updates_done < 0 && plan->trainer[0] == 0;
    if (!fresh) {
        TRY(writes_flush(&data->writes, data->store, plan, &data->arena));
        writes_clear(&data->writes);
        TRY(fork_lineage(data));
        TRY(drop_evaluations(data));
        score_drop(plan);
        TRY(method_load(data));
    }
    (void)snprintf(plan->trainer, sizeof plan->trainer, "%s", trainer->identity);
    return store_job_set_trainer(data->store, plan->job, plan->trainer);
}

void lineage_hello(struct data *data, struct peer *trainer)
{
    if (strcmp(data->plan->trainer, trainer->identity) != 0) {
        err_t err = data->store ? take_over(data, trainer) : err_set(ERR_unavailable, "PostgreSQL cannot be reached");
        if (err != ERR_ok) {
            data_fail(data, err);
            return;
        }
    }
    jobs_assign(data, trainer);
}
