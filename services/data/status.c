/* The state of the stack as JSON (docs/rest.md): each process, the job, queues, staleness, and the bottleneck with its
 * evidence. */
#include "services/common/run/log.h"
#include "services/data/data.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static json_t *peer_json(const struct data *data, const struct peer *peer)
{
    json_t *counters = json_object(), *rates = json_object();
    for (size_t i = 0; i < peer->counter_count; i++) {
        (void)json_object_set_new(counters, peer->counters[i].name, json_real(peer->counters[i].value));
        (void)json_object_set_new(rates, peer->counters[i].name, json_real(peer->counters[i].rate));
    }
    return json_pack("{s:s, s:s, s:s, s:I, s:s, s:f, s:f, s:I, s:I, s:s, s:I, s:o, s:o}", "service", peer->service,
                     "identity", peer->identity, "host", peer->host, "pid", (json_int_t)peer->pid, "state",
                     peer->gone ? "gone" : "alive", "silent_seconds", (double)(data_now_ms(data) - peer->heard_ms) / 1e3,
                     "seconds_since_progress", (double)(data_now_ms(data) - peer->moved_ms) / 1e3, "lineage",
                     (json_int_t)peer->lineage, "version", (json_int_t)peer->version, "digest", peer->digest, "demand",
                     (json_int_t)peer->demand, "counters", counters, "rates", rates);
}

/* What part of the time of `of` things a counter of milliseconds grew by, in percent; waits are counted when they end. */
static double share_of(const struct peer *peer, const char *counter, double of)
{
    double percent = of > 0 ? peers_counter(peer, counter, true) / 10 / of : 0;
    return percent < 0 ? 0 : percent > 100 ? 100 : percent;
}

/* Which stage starves which, from the shares of time that the stages measured over the last seconds. */
static json_t *bottleneck(const struct data *data)
{
    const struct peer *trainer = peers_living(data, "trainer"), *rollout = peers_living(data, "rollout");
    static const char *const needed[] = {"env", "rollout", "trainer"};
    char evidence[256];
    for (size_t i = 0; i < 3; i++) {
        if (peers_living(data, needed[i])) continue;
        (void)snprintf(evidence, sizeof evidence, "no %s process is alive", needed[i]);
        return json_pack("{s:s, s:s}", "stage", needed[i], "evidence", evidence);
    }
    if (!data->plan) return json_pack("{s:n, s:s}", "stage", "evidence", "no job runs");
    if (data->plan->paused) return json_pack("{s:n, s:s}", "stage", "evidence", "the job is paused");
    double trains = share_of(trainer, "busy_ms", 1), waits = share_of(trainer, "wait_ms", 1);
    double plays = share_of(rollout, "engine_ms", 1), idles = share_of(rollout, "idle_ms", 1);
    double env = share_of(rollout, "env_wait_ms", peers_counter(rollout, "slots", false));
    const char *stage = "trainer";
    if (waits > trains) stage = plays >= env ? "rollout" : "env";
    (void)snprintf(
        evidence, sizeof evidence,
        "trainer computes %.0f %% and waits for batches %.0f %% of the time; the engine computes %.0f %% and has nothing "
        "to do %.0f %%; a slot waits for its environment %.0f %%",
        trains, waits, plays, idles, env);
    return json_pack("{s:s, s:s}", "stage", stage, "evidence", evidence);
}

struct tally {
    json_int_t open, closed, pending, leased;
};

static struct tally count(const struct plan *plan)
{
    struct tally t = {0};
    for (const struct group *g = plan->groups; g; g = g->next) {
        t.open += g->state == GROUP_OPEN;
        t.closed += g->state == GROUP_CLOSED;
        for (size_t i = 0; i < g->size; i++) {
            t.pending += g->slots[i].state == SLOT_PENDING;
            t.leased += g->slots[i].state == SLOT_LEASED;
        }
    }
    return t;
}

static json_t *job_json(const struct data *data)
{
    const struct plan *plan = data->plan;
    if (!plan) return json_null();
    const struct peer *rollout = peers_living(data, "rollout"), *trainer = peers_living(data, "trainer");
    struct tally t = count(plan);
    double tokens = peers_counter(rollout, "prompt_tokens", true) + peers_counter(rollout, "action_tokens", true);
    json_t *job = json_pack("{s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:I}",
                            "id", (json_int_t)plan->job, "name", plan->spec.name, "state",
                            plan->paused ? "paused" : "running", "lineage", (json_int_t)plan->lineage, "update",
                            (json_int_t)plan->updates_done, "updates", (json_int_t)plan->spec.trainer.updates, "version",
                            (json_int_t)plan->version, "episodes", (json_int_t)plan->episodes, "tokens",
                            (json_int_t)plan->tokens, "seconds", (double)(data_now_ms(data) - plan->started_ms) / 1e3,
                            "episodes_per_second", peers_counter(rollout, "episodes", true), "tokens_per_second", tokens,
                            "trained_tokens_per_second", peers_counter(trainer, "tokens_trained", true), "groups_open",
                            t.open, "groups_closed", t.closed, "slots_pending", t.pending, "slots_leased", t.leased,
                            "episodes_retried", (json_int_t)plan->retried, "groups_void", (json_int_t)plan->voided);
    (void)json_object_set_new(job, "success", json_real(plan->figures.success));
    (void)json_object_set_new(job, "staleness_mean", json_real(plan->figures.staleness_mean));
    (void)json_object_set_new(job, "staleness_max", json_real(plan->figures.staleness_max));
    (void)json_object_set_new(job, "no_signal_share", json_real(plan->figures.no_signal_share));
    (void)json_object_set_new(job, "evaluated_version", json_integer((json_int_t)plan->last_evaluated));
    (void)json_object_set_new(job, "evaluated_success",
                              plan->last_evaluated < 0 ? json_null() : json_real(plan->last_success));
    (void)json_object_set_new(job, "seconds_since_progress", json_real((double)(data_now_ms(data) - plan->moved_ms) / 1e3));
    struct stall stall;
    bool stalled = stall_lasts(data);
    if (stalled) stall_find(data, &stall);
    (void)json_object_set_new(
        job, "stalled",
        stalled ? json_pack("{s:s, s:s, s:s}", "stage", stall.stage, "evidence", stall.evidence, "cause", stall.cause)
                : json_null());
    (void)json_object_set_new(job, "ending", plan->ending ? json_string(plan->ending) : json_null());
    return job;
}

err_t status_write(struct data *data, struct buf *out)
{
    json_t *services = json_array();
    for (size_t i = 0; i < DATA_PEERS; i++) {
        if (data->peers[i].identity[0]) (void)json_array_append_new(services, peer_json(data, &data->peers[i]));
    }
    const struct bus_counters *bus = bus_stats(data->bus);
    json_t *manager = json_pack(
        "{s:I, s:b, s:s, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I}", "epoch", (json_int_t)data->epoch,
        "database", data->store && data->retry_ms == 0, "trouble", data->trouble, "turns", (json_int_t)data->turns,
        "failed_turns", (json_int_t)data->failed_turns, "late_ends", (json_int_t)data->late_ends, "written_episodes",
        (json_int_t)data->written_episodes, "turn_ms", data->ack_ms, "bus_received", (json_int_t)bus->received, "bus_sent",
        (json_int_t)bus->sent, "bus_bad", (json_int_t)bus->bad, "bus_given_up", (json_int_t)bus->given_up, "bus_waiting",
        (json_int_t)bus->waiting, "bus_faults", (json_int_t)bus->faults);
    json_t *root = json_pack("{s:s, s:o, s:o, s:o, s:o}", "version", PAL_VERSION, "data", manager, "job", job_json(data),
                             "services", services, "bottleneck", bottleneck(data));
    char *text = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(root);
    if (!text) return err_set(ERR_memory, "the status");
    err_t err = buf_text(out, text);
    free(text);
    return err;
}
