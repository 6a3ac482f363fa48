/* The watchdog: when a job has not moved for a while, says which stage it waits for and by what evidence; ends it at last. */
#include "services/common/run/log.h"
#include "services/common/store/store_job.h"
#include "services/data/data.h"

#include <stdarg.h>
#include <stdio.h>

#define STALL_MS  8000  /* nothing was recorded for this long */
#define UPDATE_MS 60000 /* while the trainer computes, which may take its time */

static void say(struct stall *stall, const char *stage, const char *fmt, ...) PRINTF(3, 4);
static void say(struct stall *stall, const char *stage, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    stall->stage = stage;
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
        say(ret, "env",
            "%zu episodes are out, %.0f slots are in use and the engine has nothing to do: environments do not answer",
            leased, seated);
    else
        say(ret, "rollout",
            "%zu episodes are out; the engine computes %.0f %% of the time, %.0f environment slots are in use", leased,
            engine / 10, seated);
}

void stall_find(const struct data *data, struct stall *ret)
{
    const struct plan *plan = data->plan;
    const struct peer *trainer = peers_living(data, "trainer"), *rollout = peers_living(data, "rollout");
    static const char *const needed[] = {"env", "rollout", "trainer"};
    *ret = (struct stall){.stage = "data"};
    for (size_t i = 0; i < 3; i++) {
        if (peers_living(data, needed[i])) continue;
        say(ret, needed[i], "no %s process is alive; `pal logs %s` says why", needed[i], needed[i]);
        return;
    }
    struct slots n = count(plan);
    if (data->trouble[0])
        say(ret, "data", "turns are rolled back; the newest: %s", data->trouble);
    else if (plan->failures > 0)
        say(ret, "env", "%llu attempts failed since the last episode that ended; the newest: %s",
            (unsigned long long)plan->failures, plan->last_failure);
    else if (n.leased > 0)
        of_played(data, n.leased, ret);
    else if (peers_counter(trainer, "computing", false) > 0)
        say(ret, "trainer", "it computes update %lld", (long long)plan->updates_done + 1);
    else if (n.pending > 0)
        say(ret, "rollout", "%zu episodes wait for a worker; %.0f of %.0f slots are in use, %llu are asked for", n.pending,
            peers_counter(rollout, "slots_used", false), peers_counter(rollout, "slots", false),
            (unsigned long long)(rollout ? rollout->demand : 0));
    else if (phase_waits(plan))
        say(ret, "trainer", "phase %lld waits for the checkpoint of its last update", (long long)plan->phase.now);
    else if (!trainer->waits)
        say(ret, "trainer", "it neither computes nor waits for a batch");
    else
        say(ret, "data", "update %lld is waited for and no episode is out", (long long)plan->updates_done + 1);
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
    const char *message = arena_printf(&data->arena, "nothing was recorded for %llu s; %s: %s",
                                       (unsigned long long)silent_ms / 1000, stall->stage, stall->evidence);
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
