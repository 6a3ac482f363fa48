#include "services/data/phase.h"

#include "services/common/run/log.h"
#include "services/common/store/store_job.h"
#include "services/common/store/store_policy.h"
#include "services/data/data.h"

#include <stdio.h>
#include <stdlib.h>

#define METHOD "webrl"

static const struct method_field fields[] = {
    {"phase", offsetof(struct phase, now)},
    {"state", offsetof(struct phase, state)},
    {"looked", offsetof(struct phase, looked)},
};

err_t phase_put(struct data *data)
{
    return method_put(data, METHOD, fields, sizeof fields / sizeof *fields, &data->plan->phase);
}

static int64_t length(const struct plan *plan)
{
    return plan->spec.webrl.phase_updates;
}

static enum phase_state state_of(const struct plan *plan)
{
    return (enum phase_state)plan->phase.state;
}

void phase_free(struct phase *phase)
{
    free(phase->replays);
    *phase = (struct phase){0};
}

/* ---- reading the mirror ---- */

static void count_tasks(struct plan *plan)
{
    struct phase *phase = &plan->phase;
    phase->begun = phase->accepted = phase->generated = 0;
    for (size_t i = 0; i < plan->task_count; i++) {
        const struct plan_task *task = &plan->tasks[i];
        bool accepted = task->generated && !task->candidate && !task->refused;
        phase->generated += task->generated;
        phase->accepted += accepted && task->phase == (int64_t)phase->now + 1;
        phase->begun += accepted && task->phase <= (int64_t)phase->now;
    }
}

static void count_scores(struct plan *plan)
{
    struct phase *phase = &plan->phase;
    for (const struct group *g = plan->groups; g; g = g->next) {
        if (g->source != GROUP_SCORE) continue;
        phase->measuring += g->of_episode >= 0;
        phase->scoring += g->of_episode < 0 && plan->tasks[g->task].candidate;
    }
}

static err_t load_orm(struct data *data)
{
    struct plan *plan = data->plan;
    struct store_policy newest;
    err_t err = store_policy_newest(data->store, plan->job, plan->lineage, "orm", &data->arena, &newest);
    if (err == ERR_not_found) return ERR_ok;
    TRY(err);
    plan->phase.orm_version = newest.version;
    (void)snprintf(plan->phase.orm_digest, sizeof plan->phase.orm_digest, "%s", newest.digest);
    (void)snprintf(plan->phase.orm_where, sizeof plan->phase.orm_where, "%s", newest.where);
    return ERR_ok;
}

err_t phase_load(struct data *data)
{
    struct plan *plan = data->plan;
    phase_free(&plan->phase);
    if (!plan->spec.webrl.on) return ERR_ok;
    TRY(method_get(data, METHOD, fields, sizeof fields / sizeof *fields, &plan->phase));
    TRY(plan_index_tasks(plan));
    count_tasks(plan);
    count_scores(plan);
    TRY(load_orm(data));
    return replay_load(data);
}

/* ---- who may start ---- */

int64_t phase_of_update(const struct plan *plan, int64_t update)
{
    return plan->spec.webrl.on ? phase_of(update, length(plan)) : 0;
}

bool phase_admits(const struct plan *plan, int64_t update)
{
    return !plan->spec.webrl.on || phase_may_start(update, (int64_t)plan->phase.now, length(plan), plan->spec.webrl.overlap);
}

static bool is_judging(const struct plan *plan)
{
    return plan->spec.webrl.on && plan->spec.webrl.orm == JOB_ORM_REWARD;
}

bool phase_may_lease(const struct plan *plan)
{
    return !is_judging(plan) || plan->phase.begun == 0 || plan->phase.orm_version > 0;
}

bool phase_is_judged(const struct plan *plan, const struct group *group)
{
    return is_judging(plan) && plan_is_for_update(group->source) && plan->tasks[group->task].generated;
}

int64_t phase_judge(const struct plan *plan, const struct group *group)
{
    return phase_is_judged(plan, group) ? plan->phase.orm_version : 0;
}

bool phase_waits(const struct plan *plan)
{
    return plan->spec.webrl.on && state_of(plan) == PHASE_TRAINING &&
           plan->updates_done >= phase_last((int64_t)plan->phase.now, length(plan));
}

/* ---- the states ---- */

static err_t move(struct data *data, enum phase_state to)
{
    struct plan *plan = data->plan;
    struct phase *phase = &plan->phase;
    phase->state = to;
    const char *message = arena_printf(&data->arena, "phase %lld is %s", (long long)phase->now, phase_state_name(to));
    const char *inputs = arena_printf(
        &data->arena, "{\"phase\": %lld, \"state\": \"%s\", \"update\": %lld, \"accepted\": %zu, \"looked\": %lld}",
        (long long)phase->now, phase_state_name(to), (long long)plan->updates_done, phase->accepted,
        (long long)phase->looked);
    if (!message || !inputs) return ERR_memory;
    log_info("job %lld: %s", (long long)plan->job, message);
    TRY(data_begin(data));
    TRY(store_job_event(data->store, plan->job, "phase", message, inputs));
    return phase_put(data);
}

/* The next phase begins: its tasks are drawn, its successes of before may be replayed. */
static err_t begin_next(struct data *data)
{
    struct plan *plan = data->plan;
    struct phase *phase = &plan->phase;
    const struct method_number inputs[] = {{"looked", phase->looked},
                                           {"accepted", (double)phase->accepted},
                                           {"wanted", (double)plan->spec.webrl.phase_tasks},
                                           {"failed", (double)phase->seed_count},
                                           {"orm", (double)phase->orm_version}};
    phase->now += 1;
    TRY(finish_decide(data, "job", plan->job, METHOD, "phase", method_json(&data->arena, inputs, 5)));
    phase->looked = 0;
    phase->seeds_known = phase->replays_asked = false;
    TRY(move(data, PHASE_COLLECTING));
    count_tasks(plan);
    TRY(plan_index_tasks(plan));
    TRY(gain_reindex(data));
    /* what was measured in this turn must be there to be read */
    TRY(writes_flush(&data->writes, data->store, plan, &data->arena));
    writes_clear(&data->writes);
    return replay_load(data);
}

/* The trainer asks for the next batch after it has published whatever it has. */
static bool has_asked(const struct data *data, int64_t update)
{
    for (size_t i = 0; i < DATA_PEERS; i++) {
        const struct peer *peer = &data->peers[i];
        if (peer->waits && peer->wanted_update == update && strcmp(peer->identity, data->plan->trainer) == 0) return true;
    }
    return false;
}

/* The last update is made and durable, and what was trained with it is published, or never will be: an outcome reward model
 * that never learned anything is not. */
static bool is_trained(const struct data *data)
{
    const struct plan *plan = data->plan;
    int64_t last = phase_last((int64_t)plan->phase.now, length(plan));
    if (plan->updates_done < last || plan->checkpoint_update < last || plan->published < plan->version) return false;
    return !is_judging(plan) || plan->phase.orm_version > (int64_t)plan->phase.now || has_asked(data, last + 1);
}

bool phase_can_generate(const struct plan *plan)
{
    return !is_judging(plan) || plan->phase.orm_version > 0;
}

err_t phase_advance(struct data *data)
{
    struct plan *plan = data->plan;
    if (!plan->spec.webrl.on || plan->paused || plan->ending || plan->published < 0) return ERR_ok;
    int64_t last = phase_last((int64_t)plan->phase.now, length(plan));
    if (state_of(plan) == PHASE_TRAINING && is_trained(data) && last < plan->spec.trainer.updates)
        TRY(move(data, PHASE_GENERATING));
    if (state_of(plan) != PHASE_GENERATING) return ERR_ok;
    bool made = false, measured = false;
    TRY(candidate_advance(data, &made));
    TRY(replay_measure(data, &measured));
    return made && measured ? begin_next(data) : ERR_ok;
}

err_t phase_handed_out(struct data *data, int64_t update)
{
    struct plan *plan = data->plan;
    if (!plan->spec.webrl.on || state_of(plan) != PHASE_COLLECTING) return ERR_ok;
    return update == phase_last((int64_t)plan->phase.now, length(plan)) ? move(data, PHASE_TRAINING) : ERR_ok;
}

err_t phase_update(struct data *data, const struct wire_update_done *done)
{
    struct plan *plan = data->plan;
    if (!plan->spec.webrl.on) return ERR_ok;
    size_t accepted = 0;
    for (size_t i = 0; i < plan->task_count; i++)
        accepted += plan->tasks[i].generated && !plan->tasks[i].candidate && !plan->tasks[i].refused;
    plan->method_figures.webrl_phase = (double)phase_of_update(plan, done->update);
    plan->method_figures.webrl_generated = (double)plan->phase.generated;
    plan->method_figures.webrl_accepted = (double)accepted;
    if (plan->replayed_update == done->update) plan->method_figures.webrl_replayed = (double)plan->replayed;
    return phase_put(data);
}
