/* The watchdog: when a job has not moved for a while, says which stage it waits for and by what evidence; ends it at last. */
#include "services/common/run/log.h"
#include "services/common/run/process.h"
#include "services/common/store/store_job.h"
#include "services/data/data.h"

#include <stdarg.h>
#include <stdio.h>

#define STALL_MS  8000  /* nothing was recorded for this long */
#define UPDATE_MS 60000 /* while the trainer computes, which may take its time */

static void say(struct stall *stall, const char *stage, const char *cause, const char *fmt, ...) PRINTF(4, 5);
static void say(struct stall *stall, const char *stage, const char *cause, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    stall->stage = stage;
    stall->cause = cause;
    (void)vsnprintf(stall->evidence, sizeof stall->evidence, fmt, args);
    va_end(args);
}

struct slots {
    size_t leased, pending;
};

static struct slots count(const struct plan *plan)
{
    struct slots n = {0};
    for (const struct group *g = plan->groups; g; g = g->next) {
        for (size_t i = 0; i < g->size; i++) {
            n.leased += g->slots[i].state == SLOT_LEASED;
            n.pending += g->slots[i].state == SLOT_PENDING;
        }
    }
    return n;
}

/* Episodes are out and do not come back: is it the environments or the engine? */
static void of_played(const struct data *data, size_t leased, struct stall *ret)
{
    const struct peer *rollout = peers_living(data, "rollout"), *env = peers_living(data, "env");
    double engine = peers_counter(rollout, "engine_ms", true), seated = peers_counter(env, "seated", false);
    if (engine < 10 && seated > 0)
        say(ret, "env", "a step that takes long, or an environment that hangs until its step_timeout_ms",
            "%zu episodes are out, %.0f slots are in use and the engine has nothing to do: environments do not answer",
            leased, seated);
    else
        say(ret, "rollout", "a large model, long episodes, or processors that are busy with something else",
            "%zu episodes are out; the engine computes %.0f %% of the time, %.0f environment slots are in use", leased,
            engine / 10, seated);
}

/* A service of which no process is alive: the newest that was, if it can be looked at. */
static void of_absent(const struct data *data, const char *service, struct stall *ret)
{
    const struct peer *last = NULL;
    for (size_t i = 0; i < DATA_PEERS; i++) {
        const struct peer *p = &data->peers[i];
        if (p->identity[0] && strcmp(p->service, service) == 0 && (!last || p->heard_ms > last->heard_ms)) last = p;
    }
    enum process_state state = last && last->local ? process_state((long)last->pid) : PROCESS_GONE;
    if (!last)
        say(ret, service, "it was never started, or cannot reach the data manager", "no %s process is alive; none said hello",
            service);
    else
        say(ret, service, process_cause(state),
            "no %s process is alive: %s (pid %lu) was last heard %.0f s ago; its process %s", service, last->identity,
            (unsigned long)last->pid, (double)(data_now_ms(data) - last->heard_ms) / 1e3,
            last->local ? process_state_name(state) : "is on another machine");
}

void stall_find(const struct data *data, struct stall *ret)
{
    const struct plan *plan = data->plan;
    const struct peer *trainer = peers_living(data, "trainer"), *rollout = peers_living(data, "rollout");
    static const char *const needed[] = {"env", "rollout", "trainer"};
    *ret = (struct stall){.stage = "data", .cause = ""};
    for (size_t i = 0; i < 3; i++) {
        if (peers_living(data, needed[i])) continue;
        of_absent(data, needed[i], ret);
        return;
    }
    struct slots n = count(plan);
    if (data->trouble[0])
        say(ret, "data", "PostgreSQL refuses what is written, or is not there: `pal logs postgres`",
            "turns are rolled back; the newest: %s", data->trouble);
    else if (plan->failures > 0)
        say(ret, "env", "the environments, or what they need: the message says which class of failure it is",
            "%llu attempts failed since the last episode that ended; the newest: %s", (unsigned long long)plan->failures,
            plan->last_failure);
    else if (n.leased > 0)
        of_played(data, n.leased, ret);
    else if (peers_counter(trainer, "computing", false) > 0)
        say(ret, "trainer", "a large update, or processors that are busy with something else", "it computes update %lld",
            (long long)plan->updates_done + 1);
    else if (n.pending > 0)
        say(ret, "rollout", "its slots are held by episodes of another job, or nothing it ends is acknowledged",
            "%zu episodes wait for a worker; %.0f of %.0f slots are in use, %llu are asked for", n.pending,
            peers_counter(rollout, "slots_used", false), peers_counter(rollout, "slots", false),
            (unsigned long long)(rollout ? rollout->demand : 0));
    else if (phase_waits(plan))
        say(ret, "trainer", "the disk of the checkpoints", "phase %lld waits for the checkpoint of its last update",
            (long long)plan->phase.now);
    else if (peers_counter(trainer, "saving_fails", false) > 0)
        say(ret, "trainer", "the disk of the checkpoints is full or gone: `pal logs trainer`",
            "its newest checkpoint cannot be saved");
    else if (!trainer->waits)
        say(ret, "trainer", "it prepares the job, or its question was lost and comes again",
            "it neither computes nor waits for a batch");
    else
        say(ret, "data", "a mistake in the data manager: please report it with `pal logs data`",
            "update %lld is waited for and no episode is out", (long long)plan->updates_done + 1);
}

bool stall_lasts(const struct data *data)
{
    const struct plan *plan = data->plan;
    if (!plan || !plan->running || plan->paused) return false;
    bool computes = peers_counter(peers_living(data, "trainer"), "computing", false) > 0;
    return data_now_ms(data) - plan->moved_ms >= (computes ? UPDATE_MS : STALL_MS);
}

void stall_over(struct data *data)
{
    struct plan *plan = data->plan;
    plan->moved_ms = data_now_ms(data);
    plan->failures = 0;
    if (plan->stall_said) log_info("job %lld goes on", (long long)plan->job);
    plan->stall_said = false;
}

static err_t raise_alarm(struct data *data, const struct stall *stall, uint64_t silent_ms)
{
    struct plan *plan = data->plan;
    const char *message = arena_printf(&data->arena, "nothing was recorded for %llu s; %s: %s; likely: %s",
                                       (unsigned long long)silent_ms / 1000, stall->stage, stall->evidence, stall->cause);
    const char *inputs = arena_printf(&data->arena, "{\"alarm\": \"stalled\", \"stage\": \"%s\", \"silent_ms\": %llu}",
                                      stall->stage, (unsigned long long)silent_ms);
    if (!message || !inputs) return ERR_memory;
    log_warn("job %lld: %s", (long long)plan->job, message);
    TRY(data_begin(data));
    TRY(store_job_event(data->store, plan->job, "alarm", message, inputs));
    plan->stall_said = true;
    return ERR_ok;
}

void stall_look(struct data *data)
{
    struct plan *plan = data->plan;
    if (plan && plan->paused) plan->moved_ms = data_now_ms(data); /* the clock stands still */
    if (!stall_lasts(data) || data->turn_err != ERR_ok) return;
    struct stall stall;
    uint64_t silent = data_now_ms(data) - plan->moved_ms;
    bool over = silent >= (uint64_t)plan->spec.stop.stalled_ms;
    if (plan->stall_said && !over) return;
    stall_find(data, &stall);
    if (!over) {
        data_fail(data, raise_alarm(data, &stall, silent));
        return;
    }
    const char *reason = arena_printf(&data->arena, "nothing was recorded for %llu s (stop.stalled_ms); %s: %s",
                                      (unsigned long long)silent / 1000, stall.stage, stall.evidence);
    data_fail(data, reason ? jobs_end(data, "failed", reason) : ERR_memory);
}
