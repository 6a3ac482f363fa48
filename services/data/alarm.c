/* Alarms that are no stall of a job: a service fell silent or died, or this process itself stood still. Each is an event of
 * the job on stage, with stage, evidence and likely cause, as stalls are. */
#include "services/common/run/log.h"
#include "services/common/run/process.h"
#include "services/common/store/store_job.h"
#include "services/data/data.h"

#include <stdio.h>

#define DEAF_MS 3000 /* of our own, worth an event */

static void raise_alarm(struct data *data, const char *alarm, const char *stage, const char *evidence, const char *cause)
{
    log_warn("%s: %s: %s", stage, evidence, cause);
    if (!data->plan || !data->plan->running || !data->store || data->turn_err != ERR_ok) return;
    const char *message = arena_printf(&data->arena, "%s: %s; %s", stage, evidence, cause);
    const char *inputs =
        arena_printf(&data->arena, "{\"alarm\": \"%s\", \"stage\": \"%s\", \"cause\": \"%s\"}", alarm, stage, cause);
    err_t err = message && inputs ? data_begin(data) : ERR_memory;
    if (err == ERR_ok) err = store_job_event(data->store, data->plan->job, "alarm", message, inputs);
    data_fail(data, err);
}

void alarm_gone(struct data *data, const struct peer *peer, bool dead)
{
    char evidence[256];
    enum process_state state = peer->local && !dead ? process_state((long)peer->pid) : PROCESS_GONE;
    if (dead)
        (void)snprintf(evidence, sizeof evidence, "%s (pid %lu) has died", peer->identity, (unsigned long)peer->pid);
    else
        (void)snprintf(evidence, sizeof evidence, "%s (pid %lu) has said nothing for 5 s; its process %s", peer->identity,
                       (unsigned long)peer->pid, peer->local ? process_state_name(state) : "is on another machine");
    raise_alarm(data, dead ? "died" : "silent", peer->service, evidence,
                dead          ? "it is started again; its log may say why"
                : peer->local ? process_cause(state)
                              : "that machine or the network to it");
}

/* The signal that ends a stop is heard after the timers: the alarm is raised with the look after the one that noticed. */
void alarm_deaf(struct data *data, uint64_t ms)
{
    char evidence[160];
    uint64_t deaf = data->deaf_ms;
    bool continued = data->continued, waited = data->longest_turn_ms > 0.5 * (double)deaf;
    data->deaf_ms = ms > DEAF_MS ? ms : 0;
    if (deaf == 0) return;
    data->continued = false;
    (void)snprintf(evidence, sizeof evidence, "the data manager stood still for %.1f s%s", (double)deaf / 1e3,
                   continued || !waited ? "" : ", waiting for PostgreSQL");
    raise_alarm(data, "stood_still", continued || !waited ? "data" : "postgres", evidence,
                continued ? "it was stopped by a signal and continued"
                : waited  ? "its server was stopped, or a disk or lock that it waited for"
                          : "the machine was too busy; nothing is held against the others");
}
