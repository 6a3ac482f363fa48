/* WebRL's generator `provider`: the environment mutates tasks that failed. A candidate must be new, solved by the
 * environment's expert within the step limit, and have its start in the critic's band; each verdict is a decision. */
#include "env/env.h"
#include "services/common/run/log.h"
#include "services/common/store/store_task.h"
#include "services/data/data.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define LOOK_MOST 256 /* candidates in one turn */
#define SEED_MASK ((UINT64_C(1) << 53) - 1)

struct candidate {
    size_t parent; /* place in plan->tasks */
    int mutation;
    struct env_task task;
    struct digest hash;
    char hint[ENV_HINT_BYTES];
    bool known;
};

/* A decision about a candidate that is no task: its text is in the inputs, the subject is the task it was made from. */
static err_t refuse(struct data *data, const struct candidate *c, const char *rule, const char *verdict)
{
    static const char *const names[] = {"harder", "easier", "varied"};
    json_t *inputs = json_pack("{s:s, s:s, s:i, s:f}", "task", c->task.text, "mutation", names[c->mutation], "level",
                               (int)c->task.level, "phase", data->plan->phase.now + 1);
    char *text = inputs ? json_dumps(inputs, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    const char *kept = text ? arena_text(&data->arena, span_text(text)) : NULL;
    json_decref(inputs);
    free(text);
    return finish_decide(data, "task", data->plan->tasks[c->parent].id, rule, verdict, kept);
}

/* Does the expert solve it within so many steps? *ret_steps: how many it took. */
static err_t play_expert(const struct env_class *class, const char *body, int64_t most, bool *ret_solved, int64_t *ret_steps)
{
    struct env_obs obs;
    struct rng rng;
    char action[ENV_ACTION_BYTES];
    void *state = aligned_alloc(64, (class->state_bytes + 63) / 64 * 64);
    if (!state) return err_set(ERR_memory, "an environment");
    memset(state, 0, class->state_bytes);
    rng_init(&rng, 1, 1);
    err_t err = class->reset(state, span_text(body), 0, &obs);
    int64_t steps = 0;
    for (; err == ERR_ok && !obs.terminated && steps < most; steps++) {
        class->expert(state, 0, &rng, action);
        err = class->step(state, span_text(action), &obs);
    }
    free(state);
    *ret_solved = err == ERR_ok && obs.terminated && obs.reward >= 0.5;
    *ret_steps = steps;
    return err;
}

/* ---- making them ---- */

static const struct env_class *class_of(const struct plan *plan, size_t task)
{
    const struct job_environment *env = &plan->spec.environments[plan->tasks[task].environment];
    return env->provider == JOB_PROVIDER_BUILTIN ? env_find(env->name) : NULL;
}

/* Failed tasks of the phase that can be mutated. */
static err_t read_seeds(struct data *data)
{
    struct plan *plan = data->plan;
    struct phase *phase = &plan->phase;
    if (phase->seeds_known) return ERR_ok;
    int64_t *failed = NULL;
    size_t count = 0;
    TRY(store_phase_failed(data->store, plan->job, (int64_t)phase->now, &data->arena, &failed, &count));
    phase->seeds = arena_array(&plan->arena, int64_t, count + 1);
    if (!phase->seeds) return ERR_memory;
    phase->seed_count = 0;
    for (size_t i = 0; i < count; i++) {
        size_t task = (size_t)failed[i];
        if (task < plan->task_count && !plan->tasks[task].quarantined && class_of(plan, task))
            phase->seeds[phase->seed_count++] = failed[i];
    }
    phase->seeds_known = true;
    return ERR_ok;
}

static err_t make(const struct plan *plan, size_t index, struct candidate *ret)
{
    const struct phase *phase = &plan->phase;
    struct phase_candidate from =
        phase_candidate((uint64_t)plan->spec.seed, (int64_t)phase->now + 1, index, phase->seed_count);
    size_t parent = (size_t)phase->seeds[from.seed];
    const struct env_class *class = class_of(plan, parent);
    BUG_IF(!class); /* read_seeds took only those that have one */
    *ret = (struct candidate){.parent = parent, .mutation = from.mutation};
    struct env_task task = {.level = (int32_t)plan->tasks[parent].level};
    (void)snprintf(task.text, sizeof task.text, "%s", plan->tasks[parent].body);
    TRY(class->mutate(&task, (enum env_mutation)from.mutation, from.random & SEED_MASK, &ret->task));
    return hints_look(&plan->spec.environments[plan->tasks[parent].environment], ret->task.text, &ret->hash, ret->hint);
}

/* Which of them have a task already, or are the same as an earlier one. */
static err_t find_known(struct data *data, struct candidate *candidates, size_t count)
{
    const struct plan *plan = data->plan;
    int64_t *environments = arena_array(&data->arena, int64_t, count);
    const char **hashes = arena_array(&data->arena, const char *, count);
    bool *known = arena_array(&data->arena, bool, count);
    if (!environments || !hashes || !known) return ERR_memory;
    for (size_t i = 0; i < count; i++) {
        environments[i] = plan->tasks[candidates[i].parent].environment;
        hashes[i] = candidates[i].hash.hex;
    }
    TRY(store_task_known(data->store, plan->job, environments, hashes, count, known));
    for (size_t i = 0; i < count; i++) {
        candidates[i].known = known[i];
        for (size_t k = 0; k < i && !candidates[i].known; k++)
            candidates[i].known = environments[i] == environments[k] && strcmp(hashes[i], hashes[k]) == 0;
    }
    return ERR_ok;
}

/* A candidate becomes a task and is scored. */
static err_t add(struct data *data, const struct candidate *c, int64_t steps)
{
    struct plan *plan = data->plan;
    const struct plan_task *parent = &plan->tasks[c->parent];
    struct plan_task task = {.id = (int64_t)plan->task_count,
                             .environment = parent->environment,
                             .level = c->task.level,
                             .body = arena_text(&plan->arena, span_text(c->task.text)),
                             .hint = arena_text(&plan->arena, span_text(c->hint)),
                             .generated = true,
                             .candidate = true,
                             .phase = (int64_t)plan->phase.now + 1,
                             .score = {.task = (int64_t)plan->task_count, .version = -1}};
    if (!task.body || !task.hint) return ERR_memory;
    const struct store_task row = {.id = task.id,
                                   .environment = task.environment,
                                   .level = task.level,
                                   .body = task.body,
                                   .hash = c->hash.hex,
                                   .hint = task.hint,
                                   .source = "mutate",
                                   .parent = parent->id,
                                   .phase = task.phase,
                                   .state = "candidate"};
    TRY(data_begin(data));
    TRY(store_task_insert(data->store, plan->job, &row, 1));
    const struct method_number inputs[] = {{"parent", (double)parent->id}, {"mutation", c->mutation},
                                           {"level", c->task.level},       {"parent_level", (double)parent->level},
                                           {"steps", (double)steps},       {"phase", (double)task.phase}};
    TRY(finish_decide(data, "task", task.id, "feasible", plan->spec.webrl.feasibility ? "solved" : "not_checked",
                      method_json(&data->arena, inputs, sizeof inputs / sizeof *inputs)));
    TRY(plan_add_task(plan, &task));
    plan->phase.generated++;
    plan->phase.scoring++;
    return score_plan(data, (size_t)task.id, -1, plan->published, task.phase);
}

static err_t look(struct data *data, const struct candidate *c, size_t *made)
{
    struct plan *plan = data->plan;
    int64_t steps = 0;
    bool solved = true;
    plan->phase.looked += 1;
    if (c->known) return refuse(data, c, "novel", "known");
    const struct job_environment *env = &plan->spec.environments[plan->tasks[c->parent].environment];
    const struct env_class *class = class_of(plan, c->parent);
    if (class && plan->spec.webrl.feasibility) TRY(play_expert(class, c->task.text, env->max_steps, &solved, &steps));
    if (!solved) return refuse(data, c, "feasible", "unsolved");
    ++*made;
    return add(data, c, steps);
}

/* The next candidates, until so many are made. */
static err_t make_more(struct data *data, size_t wanted, size_t most)
{
    struct plan *plan = data->plan;
    size_t count = most < LOOK_MOST ? most : LOOK_MOST, made = 0;
    struct candidate *candidates = arena_array(&data->arena, struct candidate, count);
    if (!candidates) return ERR_memory;
    for (size_t i = 0; i < count; i++) TRY(make(plan, (size_t)plan->phase.looked + i, &candidates[i]));
    TRY(find_known(data, candidates, count));
    for (size_t i = 0; i < count && made < wanted; i++) TRY(look(data, &candidates[i], &made));
    return phase_put(data);
}

/* Candidates whose scores were broken off by a fork are scored again. */
static err_t score_again(struct data *data)
{
    struct plan *plan = data->plan;
    for (size_t i = 0; i < plan->task_count; i++) {
        if (!plan->tasks[i].candidate) continue;
        plan->phase.scoring++;
        TRY(score_plan(data, i, -1, plan->published, plan->tasks[i].phase));
    }
    return ERR_ok;
}

err_t candidate_advance(struct data *data, bool *ret_done)
{
    struct plan *plan = data->plan;
    struct phase *phase = &plan->phase;
    *ret_done = !phase_can_generate(plan);
    if (*ret_done || phase->scoring > 0) return ERR_ok;
    TRY(score_again(data));
    if (phase->scoring > 0) return ERR_ok;
    TRY(read_seeds(data));
    size_t wanted = (size_t)plan->spec.webrl.phase_tasks, most = wanted * (size_t)plan->spec.webrl.candidates;
    size_t looked = (size_t)phase->looked;
    *ret_done = phase->accepted >= wanted || looked >= most || phase->seed_count == 0;
    return *ret_done ? ERR_ok : make_more(data, wanted - phase->accepted, most - looked);
}

err_t candidate_scored(struct data *data, size_t index, bool voided)
{
    struct plan *plan = data->plan;
    struct phase *phase = &plan->phase;
    struct plan_task *task = &plan->tasks[index];
    const struct job_webrl *spec = &plan->spec.webrl;
    bool accepted = !voided && phase_in_band(task->score.value, spec->value_low, spec->value_high);
    if (phase->scoring > 0) phase->scoring--;
    task->candidate = false;
    task->refused = !accepted;
    phase->accepted += accepted;
    TRY(data_begin(data));
    TRY(store_task_set_state(data->store, plan->job, task->id, accepted ? "active" : "refused"));
    const struct method_number inputs[] = {{"value", voided ? (double)NAN : task->score.value},
                                           {"low", spec->value_low},
                                           {"high", spec->value_high},
                                           {"version", (double)task->score.version},
                                           {"phase", (double)task->phase}};
    return finish_decide(data, "task", task->id, "critic", accepted ? "accepted" : "refused",
                         method_json(&data->arena, inputs, sizeof inputs / sizeof *inputs));
}
