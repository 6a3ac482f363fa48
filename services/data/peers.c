/* Who is there: hello, heartbeats, silence. */
#include "services/common/run/log.h"
#include "services/data/data.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define DEAD_SILENT_MS 200 /* a process that is not there any more may still have messages on their way */

static bool is_alive(const struct peer *peer)
{
    return kill((pid_t)peer->pid, 0) == 0 || errno != ESRCH;
}

static bool is_local(const struct peer *peer)
{
    char host[256] = "localhost";
    (void)gethostname(host, sizeof host - 1);
    return peer->pid > 1 && peer->pid < 1u << 22 && strcmp(peer->host, host) == 0 && is_alive(peer);
}

static struct peer *take_row(struct data *data)
{
    struct peer *oldest = NULL;
    for (size_t i = 0; i < DATA_PEERS; i++) {
        struct peer *p = &data->peers[i];
        if (!p->identity[0]) return p;
        if (p->gone && (!oldest || p->heard_ms < oldest->heard_ms)) oldest = p;
    }
    return oldest;
}

/* An older incarnation on the same host, with the same service: its process is gone, whatever its silence. */
static void retire_older(struct data *data, const struct peer *newer)
{
    for (size_t i = 0; i < DATA_PEERS; i++) {
        struct peer *p = &data->peers[i];
        if (p == newer || !p->identity[0] || p->gone || p->pid != newer->pid) continue;
        if (strcmp(p->host, newer->host) == 0) p->heard_ms = 0; /* the same pid: expires at once */
    }
}

double peers_counter(const struct peer *peer, const char *name, bool rate)
{
    for (size_t i = 0; peer && i < peer->counter_count; i++) {
        if (strcmp(peer->counters[i].name, name) == 0) return rate ? peer->counters[i].rate : peer->counters[i].value;
    }
    return 0;
}

const struct peer *peers_living(const struct data *data, const char *service)
{
    const struct peer *found = NULL;
    for (size_t i = 0; i < DATA_PEERS; i++) {
        const struct peer *p = &data->peers[i];
        if (!p->identity[0] || p->gone || strcmp(p->service, service) != 0) continue;
        if (!found || p->heard_ms > found->heard_ms) found = p;
    }
    return found;
}

static void to_text(char *ret, size_t size, struct span text)
{
    (void)snprintf(ret, size, "%.*s", SPAN_ARG(text));
}

void peers_hello(struct data *data, const char *identity, const struct wire_hello *hello)
{
    struct peer *peer = data_peer(data, identity);
    bool known = peer != NULL;
    if (!peer) peer = take_row(data);
    if (!peer) {
        log_warn("no room for peer %s", identity);
        return;
    }
    *peer = (struct peer){.heard_ms = data_now_ms(data),
                          .moved_ms = data_now_ms(data),
                          .pid = hello->pid,
                          .version = -1,
                          .lineage = -1,
                          .new_hello = true};
    (void)snprintf(peer->identity, sizeof peer->identity, "%s", identity);
    to_text(peer->service, sizeof peer->service, hello->service);
    to_text(peer->host, sizeof peer->host, hello->host);
    peer->local = is_local(peer);
    log_info("%s says hello from %s, pid %lu%s", identity, peer->host, (unsigned long)peer->pid, known ? " again" : "");
    retire_older(data, peer);
    if (!data->plan || !data->plan->running) return;
    if (strcmp(peer->service, "trainer") == 0)
        lineage_hello(data, peer);
    else
        jobs_assign(data, peer);
    if (strcmp(peer->service, "rollout") == 0) grant_renew(data, peer);
}

/* The counters of what each stage gets done. */
static bool is_progress(const char *service, const char *counter)
{
    static const char *const rows[][2] = {{"env", "resets"},           {"env", "steps"},       {"rollout", "episodes"},
                                          {"rollout", "engine_steps"}, {"trainer", "updates"}, {"trainer", "updates_skipped"},
                                          {"gateway", "requests"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i][0], service) == 0 && strcmp(rows[i][1], counter) == 0) return true;
    }
    return false;
}

static void take_counters(struct peer *peer, const struct wire_heartbeat *beat, uint64_t now)
{
    size_t count = beat->counters_count < DATA_COUNTERS ? beat->counters_count : DATA_COUNTERS;
    for (size_t i = 0; i < count; i++) {
        char name[64];
        to_text(name, sizeof name, beat->counters[i].name);
        bool same = i < peer->counter_count && strcmp(peer->counters[i].name, name) == 0;
        if (!same) {
            memcpy(peer->counters[i].name, name, sizeof name);
            peer->counters[i].before = beat->counters[i].value;
            peer->counters[i].at_ms = now;
            peer->counters[i].rate = 0;
        } else if (now > peer->counters[i].at_ms) {
            double rate =
                (beat->counters[i].value - peer->counters[i].before) * 1e3 / (double)(now - peer->counters[i].at_ms);
            /* smoothed over a few beats */
            peer->counters[i].rate = 0.5 * peer->counters[i].rate + 0.5 * rate;
            peer->counters[i].before = beat->counters[i].value;
            peer->counters[i].at_ms = now;
        }
        if (same && beat->counters[i].value > peer->counters[i].value && is_progress(peer->service, name))
            peer->moved_ms = now;
        peer->counters[i].value = beat->counters[i].value;
    }
    peer->counter_count = count;
}

void peers_heartbeat(struct data *data, const char *identity, const struct wire_heartbeat *beat)
{
    struct peer *peer = data_peer(data, identity);
    struct wire_heartbeat_ack ack = {.epoch = data->epoch, .hello_again = !peer || peer->gone};
    if (peer) {
        peer->heard_ms = data_now_ms(data);
        peer->lineage = beat->lineage;
        peer->version = beat->version;
        to_text(peer->digest, sizeof peer->digest, beat->digest);
        take_counters(peer, beat, data_now_ms(data));
        if (strcmp(peer->service, "rollout") == 0) policy_lag(data, peer);
        if (!ack.hello_again) remind(data, peer, beat);
    }
    err_t err = bus_send(data->bus, identity, WIRE_heartbeat_ack, &ack);
    if (err != ERR_ok) log_err(LOG_LEVEL_WARN, err, "answering a heartbeat");
}

/* Workers need not wait for the deadlines of every step. */
static void say_env_lost(struct data *data)
{
    if (!data->plan || !data->plan->running) return;
    struct wire_env_lost *lost = arena_array(&data->arena, struct wire_env_lost, 1);
    if (lost) lost->job = (uint64_t)data->plan->job;
    data_say(data, NULL, "rollout", WIRE_env_lost, lost);
}

void peers_say_again(struct data *data)
{
    const struct wire_heartbeat_ack ack = {.epoch = data->epoch, .hello_again = true};
    for (size_t i = 0; i < DATA_PEERS; i++) {
        const struct peer *peer = &data->peers[i];
        if (!peer->identity[0] || peer->gone) continue;
        err_t err = bus_send(data->bus, peer->identity, WIRE_heartbeat_ack, &ack);
        if (err != ERR_ok) log_err(LOG_LEVEL_WARN, err, peer->identity);
    }
}

void peers_miss_again(struct data *data)
{
    for (size_t i = 0; i < DATA_PEERS; i++) {
        const struct peer *peer = &data->peers[i];
        if (peer->identity[0] && peer->gone) finish_worker(data, peer->identity, OUTCOME_cancelled);
    }
}

void peers_forgive(struct data *data, uint64_t ms)
{
    uint64_t now = data_now_ms(data);
    log_warn("nothing was heard for %lu ms: what was said in them waits", (unsigned long)ms);
    for (size_t i = 0; i < DATA_PEERS; i++) {
        struct peer *peer = &data->peers[i];
        peer->heard_ms = peer->heard_ms + ms < now ? peer->heard_ms + ms : now;
    }
    if (data->plan) plan_postpone(data->plan, ms, now);
}

void peers_expire(struct data *data)
{
    uint64_t now = data_now_ms(data);
    for (size_t i = 0; i < DATA_PEERS; i++) {
        struct peer *peer = &data->peers[i];
        if (!peer->identity[0] || peer->gone || now < peer->heard_ms + DEAD_SILENT_MS) continue;
        bool dead = peer->local && !is_alive(peer);
        if (!dead && now - peer->heard_ms < DATA_SILENT_MS) continue;
        peer->gone = true;
        peer->demand = 0;
        peer->waits = false;
        alarm_gone(data, peer, dead);
        finish_worker(data, peer->identity, OUTCOME_cancelled);
        if (strcmp(peer->service, "env") == 0) say_env_lost(data);
        if (data->store && data_begin(data) == ERR_ok) data_fail(data, store_service_gone(data->store, peer->identity));
    }
}

err_t peers_write(struct data *data)
{
    for (size_t i = 0; i < DATA_PEERS; i++) {
        struct peer *peer = &data->peers[i];
        if (!peer->identity[0] || !peer->new_hello) continue;
        TRY(data_begin(data));
        TRY(store_service_hello(data->store, peer->identity, peer->service, peer->host, (int64_t)peer->pid));
        peer->new_hello = false;
    }
    return ERR_ok;
}
