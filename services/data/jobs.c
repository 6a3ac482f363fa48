/* The life of jobs: submitted, queued, started, assigned, ended;. */
#include "services/common/run/log.h"
#include "services/common/store/store_job.h"
#include "services/common/store/store_policy.h"
#include "services/common/store/store_task.h"
#include "services/data/data.h"

#include <stdio.h>
#include <stdlib.h>

static void reply(struct data *data, const char *peer, uint64_t request, uint64_t job, bool created, err_t err)
{
    struct wire_job_answer *answer = arena_array(&data->arena, struct wire_job_answer, 1);
    const char *detail = err == ERR_ok ? "" : arena_text(&data->arena, span_text(err_text()));
    if (answer && detail)
        *answer = (struct wire_job_answer){.request = request,
                                           .job = job,
                                           .created = created,
                                           .error = span_text(err == ERR_ok ? "" : err_name(err)),
                                           .detail = span_text(detail)};
    data_say(data, peer, NULL, WIRE_job_answer, detail ? answer : NULL);
}

static err_t event(struct data *data, int64_t job, const char *state, const char *message)
{
    const char *inputs = arena_printf(&data->arena, "{\"state\": \"%s\"}", state);
    return inputs ? store_job_event(data->store, job, "state", message, inputs) : ERR_memory;
}

/* ---- submit and command ---- */

static err_t submit(struct data *data, const struct wire_job_submit *request, int64_t *ret_job, bool *ret_created)
{
    AUTO(arena) arena = {0};
    struct job_spec spec;
    struct job_problems problems;
    TRY(job_parse(request->spec, &arena, &spec, &problems));
    AUTO(buf) resolved = {0};
    TRY(job_dump(&spec, false, &resolved));
    TRY(data_begin(data));
    TRY(store_job_insert(data->store, spec.name, buf_span(&resolved), spec.priority, request->idempotency_key, ret_job,
                         ret_created));
    if (!*ret_created) return ERR_ok;
    TRY(event(data, *ret_job, "queued", "submitted"));
    data->look_for_job = true;
    return store_audit(data->store, "gateway", "submit", *ret_job, "{}");
}

void jobs_submit(struct data *data, const char *peer, const struct wire_job_submit *request)
{
    int64_t job = 0;
    bool created = false;
    err_t err = submit(data, request, &job, &created);
    if (err == ERR_invalid || err == ERR_malformed || err == ERR_too_large) {
        reply(data, peer, request->request, 0, false, err); /* nothing was written */
        return;
    }
    if (err != ERR_ok)
        data_fail(data, err);
    else
        reply(data, peer, request->request, (uint64_t)job, created, ERR_ok);
}

static bool has_ended(const char *state)
{
    return strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0 || strcmp(state, "cancelled") == 0;
}

static err_t cancel(struct data *data, int64_t job)
{
    if (data->plan && data->plan->job == job) return jobs_end(data, "cancelled", "cancelled by request");
    TRY(store_job_set_state(data->store, job, "cancelled", "cancelled by request"));
    return event(data, job, "cancelled", "cancelled while queued");
}

static err_t set_paused(struct data *data, int64_t job, bool paused)
{
    struct plan *plan = data->plan;
    if (!plan || plan->job != job || !plan->running)
        return err_set(ERR_conflict, "job %lld does not run: it cannot be %s", (long long)job, paused ? "paused" : "resumed");
    if (plan->paused == paused) return ERR_ok;
    plan->paused = paused;
    const char *state = paused ? "paused" : "running";
    TRY(store_job_set_state(data->store, job, state, paused ? "paused by request" : NULL));
    return event(data, job, state, paused ? "paused: nothing new is handed out" : "resumed");
}

static err_t command(struct data *data, const struct wire_job_command *request)
{
    const char *state = NULL;
    int64_t job = (int64_t)request->job;
    TRY(data_begin(data));
    TRY(store_job_state(data->store, job, &data->arena, &state));
    if (has_ended(state)) return err_set(ERR_conflict, "job %lld has ended: it is %s", (long long)job, state);
    TRY(store_audit(data->store, "gateway", "command", job, "{}"));
    if (span_is(request->command, "cancel")) return cancel(data, job);
    if (span_is(request->command, "pause")) return set_paused(data, job, true);
    if (span_is(request->command, "resume")) return set_paused(data, job, false);
    if (span_is(request->command, "priority")) return store_job_set_priority(data->store, job, request->argument);
    return err_set(ERR_invalid, "command %.*s is not known", SPAN_ARG(request->command));
}

void jobs_command(struct data *data, const char *peer, const struct wire_job_command *request)
{
    err_t err = command(data, request);
    if (err == ERR_ok || err == ERR_not_found || err == ERR_conflict || err == ERR_invalid)
        reply(data, peer, request->request, request->job, false, err);
    else
        data_fail(data, err);
}

/* ---- start ---- */

err_t jobs_index_tasks(struct data *data, struct plan *plan)
{
    struct store_task *rows = NULL;
    TRY(store_task_list(data->store, plan->job, &plan->arena, &rows, &plan->task_count));
    plan->tasks = arena_array(&plan->arena, struct plan_task, plan->task_count + 1);
    if (!plan->tasks) return ERR_memory;
    for (size_t i = 0; i < plan->task_count; i++) {
        if (rows[i].environment < 0 || (size_t)rows[i].environment >= plan->spec.environment_count)
            return err_set(ERR_conflict, "task %lld is of environment %lld", (long long)rows[i].id,
                           (long long)rows[i].environment);
        plan->tasks[i] = (struct plan_task){.id = rows[i].id,
                                            .environment = rows[i].environment,
                                            .holdout = rows[i].holdout,
                                            .quarantined = strcmp(rows[i].state, "quarantined") == 0,
                                            .candidate = strcmp(rows[i].state, "candidate") == 0,
                                            .refused = strcmp(rows[i].state, "refused") == 0,
                                            .generated = strcmp(rows[i].source, "mutate") == 0,
                                            .phase = rows[i].phase,
                                            .level = rows[i].level,
                                            .body = rows[i].body,
                                            .hint = rows[i].hint,
                                            .score = {.task = rows[i].id, .version = -1}};
    }
    return plan_index_tasks(plan);
}

static err_t plan_demonstrations(struct data *data)
{
    struct plan *plan = data->plan;
    int64_t wanted = plan->spec.warmstart.on ? plan->spec.warmstart.demonstrations : 0;
    size_t of_environment[JOB_ENVIRONMENTS] = {0};
    double demonstrate = 0;
    for (size_t e = 0; e < plan->spec.environment_count; e++) demonstrate += plan->spec.environments[e].demonstrate;
    for (int64_t i = 0; i < wanted; i++) {
        size_t e = 0;
        double most = 0;
        for (size_t k = 0; k < plan->spec.environment_count; k++) { /* the one furthest behind its share */
            double behind =
                (double)(i + 1) * plan->spec.environments[k].demonstrate / demonstrate - (double)of_environment[k];
            if (behind <= most) continue;
            most = behind;
            e = k;
        }
        if (plan->train_count[e] == 0) return err_set(ERR_invalid, "environment %zu has no training task", e);
        TRY(grant_pinned(data, GROUP_DEMONSTRATION, plan->train[e][of_environment[e]++ % plan->train_count[e]], -1));
    }
    plan->demonstrations = wanted;
    plan->demonstrations_open = (size_t)wanted;
    return ERR_ok;
}

static err_t run(struct data *data)
{
    struct plan *plan = data->plan;
    TRY(jobs_index_tasks(data, plan));
    TRY(method_load(data));
    TRY(plan_demonstrations(data));
    TRY(import_file(data));
    TRY(store_job_set_state(data->store, plan->job, "running", NULL));
    TRY(event(data, plan->job, "running", "running"));
    plan->running = true;
    plan->started_ms = plan->moved_ms = data_now_ms(data);
    for (size_t i = 0; i < DATA_PEERS; i++) {
        struct peer *peer = &data->peers[i];
        if (!peer->identity[0] || peer->gone) continue;
        if (strcmp(peer->service, "trainer") == 0)
            lineage_hello(data, peer);
        else
            jobs_assign(data, peer);
    }
    return data->turn_err;
}

/* Takes the next queued job on stage. A job that cannot start fails with the reason; the queue goes on. */
static err_t take_next(struct data *data)
{
    struct store_job row;
    TRY(data_begin(data));
    err_t err = store_job_current(data->store, true, &data->arena, &row);
    if (err == ERR_not_found) {
        data->look_for_job = false;
        return ERR_ok;
    }
    TRY(err);
    TRY(plan_new(&data->plan));
    data->plan->job = row.id;
    TRY(store_job_set_state(data->store, row.id, "starting", NULL));
    TRY(event(data, row.id, "starting", "making its tasks"));
    err = plan_set_spec(data->plan, row.spec);
    if (err == ERR_ok) err = tasks_materialise(data, data->plan);
    if (err == ERR_ok) err = run(data);
    if (err == ERR_invalid || err == ERR_malformed || err == ERR_unsupported) {
        const char *reason = arena_text(&data->arena, span_text(err_text()));
        return reason ? jobs_end(data, "failed", reason) : ERR_memory;
    }
    return err;
}

void jobs_assign(struct data *data, const struct peer *peer)
{
    const struct plan *plan = data->plan;
    if (strcmp(peer->service, "gateway") == 0) return;
    struct wire_job_assign *assign = arena_array(&data->arena, struct wire_job_assign, 1);
    if (assign)
        *assign = (struct wire_job_assign){.job = (uint64_t)plan->job,
                                           .lineage = plan->lineage,
                                           .spec = span_text(plan->spec_text),
                                           .resume_version = plan->resume_version,
                                           .resume_path = span_text(plan->resume_path),
                                           .resume_sha256 = span_text(plan->resume_sha256)};
    data_say(data, peer->identity, NULL, WIRE_job_assign, assign);
    if (strcmp(peer->service, "rollout") != 0) return;
    if (plan->published >= 0) data_say(data, peer->identity, NULL, WIRE_policy_wanted, policy_wanted(data));
    if (plan->phase.orm_version > 0) data_say(data, peer->identity, NULL, WIRE_policy_wanted, policy_orm(data));
}

/* ---- end ---- */

err_t jobs_end(struct data *data, const char *state, const char *reason)
{
    struct plan *plan = data->plan;
    TRY(data_begin(data));
    if (writes_any(&data->writes)) TRY(writes_flush(&data->writes, data->store, plan, &data->arena));
    writes_clear(&data->writes);
    TRY(store_group_abandon(data->store, plan->job, STORE_GROUP_ALL));
    TRY(store_evaluation_abandon(data->store, plan->job, -1));
    TRY(store_job_set_state(data->store, plan->job, state, reason));
    TRY(event(data, plan->job, state, reason));
    log_info("job %lld: %s: %s", (long long)plan->job, state, reason);
    struct wire_job_stop *stop = arena_array(&data->arena, struct wire_job_stop, 1);
    const char *kept = arena_text(&data->arena, span_text(reason));
    if (stop && kept) *stop = (struct wire_job_stop){(uint64_t)plan->job, span_text(kept)};
    static const char *const services[] = {"rollout", "env", "trainer"};
    for (size_t i = 0; i < 3; i++) data_say(data, NULL, services[i], WIRE_job_stop, kept ? stop : NULL);
    for (size_t i = 0; i < DATA_PEERS; i++) {
        data->peers[i].demand = 0;
        data->peers[i].waits = false;
    }
    plan->next_over = data->over;
    data->over = plan;
    data->plan = NULL;
    data->look_for_job = true;
    return ERR_ok;
}

/* All updates are made, the trainer knows, its last version is durable, the last evaluation is in. */
static bool is_finished(const struct plan *plan)
{
    if (!plan->running || !plan->ending || !plan->end_said || plan->evaluations) return false;
    return plan->version >= 0 && plan->checkpoint_version >= plan->version;
}

err_t jobs_advance(struct data *data)
{
    struct plan *plan = data->plan;
    if (!plan) return data->look_for_job ? take_next(data) : ERR_ok;
    if (plan->hopeless) return jobs_end(data, "failed", plan->hopeless);
    if (plan->running && plan->ending && plan->published == plan->version && plan->version >= 0 &&
        plan->spec.evaluation.episodes > 0 && plan->last_evaluated < plan->version && !plan->evaluations)
        TRY(evaluate_start(data, plan->version));
    return is_finished(plan) ? jobs_end(data, "succeeded", plan->ending) : ERR_ok;
}
