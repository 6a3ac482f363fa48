/* The stage for a real pal-data: its process, its ledger, and scripted peers (rollout workers, trainers, a gateway) that
 * speak to it over the real bus and write down what it says. Only test_data.c reads this.
 *
 * Peers beat, say hello again when they are asked to, and then resend what is unacknowledged, as services do; everything else
 * they do when the test says so. Waiting is WAIT_FOR(condition): the loop turns until it holds; past STAGE_WAIT_MS the test
 * fails with the condition's text and the data manager's log. */
#ifndef PAL_TESTS_DATA_PEERS_H
#define PAL_TESTS_DATA_PEERS_H

#include "services/common/bus/bus.h"
#include "services/common/run/rundir.h"
#include "services/common/store/store_internal.h"
#include "services/common/store/store_verify.h"
#include "tests/support/cluster.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define STAGE_WAIT_MS  15000
#define STAGE_BEAT_MS  100
#define STAGE_TICK_MS  5 /* how often conditions are looked at while no message comes */
#define STAGE_PEERS    8
#define STAGE_LEASES   512
#define STAGE_BATCHES  32
#define STAGE_MEMBERS  64
#define STAGE_QUERIES  64
#define STAGE_TEXT     512
#define STAGE_MANAGERS 2
#define STAGE_MESSAGE  64 /* ends in one message */

struct lease {
    uint64_t job, episode, attempt, token, group, task, max_steps;
    int64_t min_version, pin_version;
    char source[16];
    /* how the worker ended it */
    bool said, acked;
    const char *outcome;
    double reward;
};

struct batch {
    int64_t lineage, update;
    char kind[16];
    uint64_t norm_tokens, groups, no_signal_groups;
    size_t count;
    uint64_t episode[STAGE_MEMBERS], group[STAGE_MEMBERS], payload[STAGE_MEMBERS]; /* a sum of the payload's bytes */
    double advantage[STAGE_MEMBERS];
    bool signal[STAGE_MEMBERS];
};

struct stage;

struct peer {
    struct stage *stage;
    const char *service;
    uint64_t pid; /* as told in hello: no process of ours */
    char identity[BUS_PEER_BYTES];
    struct bus *bus;
    bool mute; /* no beats, no hello */
    uint64_t free_slots;
    /* heard */
    uint64_t epoch, hellos_again;
    uint64_t job; /* assigned */
    int64_t lineage, resume_version;
    char resume_path[STAGE_TEXT];
    uint64_t assigns, stopped_job, stops;
    struct lease leases[STAGE_LEASES];
    size_t lease_count;
    uint64_t revoked[STAGE_LEASES];
    size_t revoked_count;
    uint64_t acks;        /* tokens acknowledged */
    int64_t wanted, seen; /* policy_wanted: newest version; messages */
    struct batch batches[STAGE_BATCHES];
    size_t batch_count;
    int64_t asked; /* the update of an open batch request, -1 */
    int64_t applied_ack, committed_ack;
    uint64_t policy_acks;
    uint64_t answers, answer_job;
    bool answer_created;
    char answer_error[64];
};

struct manager {
    pid_t pid;
    char state_dir[STAGE_TEXT];
};

struct stage {
    uv_loop_t loop;
    uv_timer_t tick, beat;
    struct store *ledger;
    struct manager managers[STAGE_MANAGERS];
    struct peer *peers[STAGE_PEERS];
    size_t peer_count;
    int64_t job; /* $1 of queries */
};

/* ---- waiting ---- */

static inline void stage_print_log(const struct manager *manager)
{
    char path[STAGE_TEXT + 16], chunk[4096];
    (void)snprintf(path, sizeof path, "%s/data.log", manager->state_dir);
    FILE *file = manager->state_dir[0] ? fopen(path, "re") : NULL;
    if (!file) return;
    for (size_t n = fread(chunk, 1, sizeof chunk, file); n > 0; n = fread(chunk, 1, sizeof chunk, file))
        (void)fwrite(chunk, 1, n, stderr);
    (void)fclose(file);
}

static inline void stage_step(struct stage *stage, uint64_t end, const char *what, int line)
{
    (void)uv_run(&stage->loop, UV_RUN_ONCE);
    if (uv_hrtime() < end) return;
    for (size_t i = 0; i < STAGE_MANAGERS; i++) stage_print_log(&stage->managers[i]);
    ck_abort_msg("line %d: waited in vain for %s", line, what);
}

#define WAIT_FOR(stage, condition)                                                                                           \
    for (uint64_t end_ = uv_hrtime() + (uint64_t)STAGE_WAIT_MS * 1000000; !(condition);)                                     \
    stage_step((stage), end_, #condition, __LINE__)

/* ---- the ledger ---- */

/* The one bigint that a query gives; $1 is the job on stage, $2 the argument. */
static inline int64_t ledger_ask(const struct stage *stage, const char *sql, int64_t argument)
{
    static struct store_statement queries[STAGE_QUERIES];
    static char names[STAGE_QUERIES][16];
    size_t i = 0;
    while (i < STAGE_QUERIES && queries[i].text && strcmp(queries[i].text, sql) != 0) i++;
    ck_assert_uint_lt(i, STAGE_QUERIES);
    if (!queries[i].text) {
        (void)snprintf(names[i], sizeof names[i], "asked_%zu", i);
        const struct store_statement query = {
            .name = names[i], .params = {STORE_INT8, STORE_INT8}, .columns = {STORE_INT8}, .text = sql};
        memcpy(&queries[i], &query, sizeof query);
    }
    AUTO(store_args) args = {0};
    AUTO(store_rows) rows = {0};
    store_args_init(&args, &queries[i]);
    store_put_int(&args, stage->job);
    store_put_int(&args, argument);
    err_t err = store_run_one(stage->ledger, &args, &rows, "an answer");
    ck_assert_msg(err == ERR_ok, "%s: %s", sql, err_text());
    return store_get_int(&rows, 0, 0);
}

static inline void ledger_verify(const struct stage *stage, int64_t job)
{
    for (size_t i = 0; i < store_verify_count(); i++) {
        struct store_verdict verdict;
        err_t err = store_verify(stage->ledger, i, job, &verdict);
        ck_assert_msg(err == ERR_ok, "%s: %s", store_verify_at(i)->name, err_text());
        ck_assert_msg(verdict.broken == 0, "job %lld breaks %ld times: %s", (long long)job, (long)verdict.broken,
                      store_verify_at(i)->doc);
    }
}

/* ---- the process ---- */

static inline void manager_start(struct manager *manager)
{
    char log[STAGE_TEXT + 16];
    (void)snprintf(log, sizeof log, "%s/data.log", manager->state_dir);
    manager->pid = fork();
    ck_assert_int_ge(manager->pid, 0);
    if (manager->pid > 0) return;
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0) (void)dup2(fd, STDERR_FILENO);
    (void)execl(PAL_BIN_DIR "/pal-data", "pal-data", "--state", manager->state_dir, (char *)NULL);
    _exit(127);
}

static inline void manager_kill(struct manager *manager)
{
    int status = 0;
    ck_assert_int_eq(kill(manager->pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(manager->pid, &status, 0), manager->pid);
    manager->pid = 0;
}

/* The exit code of a process that ended by itself, -1 while it runs. */
static inline int manager_ended(struct manager *manager)
{
    int status = 0;
    pid_t got = waitpid(manager->pid, &status, WNOHANG);
    if (got == 0) return -1;
    ck_assert_int_eq(got, manager->pid);
    manager->pid = 0;
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- what peers say ---- */

static inline void peer_send(struct peer *peer, enum wire_id id, const void *message)
{
    err_t err = bus_send(peer->bus, NULL, id, message);
    ck_assert_msg(err == ERR_ok, "%s sends message %d: %s", peer->identity, (int)id, err_text());
}

static inline void peer_hello(struct peer *peer)
{
    const struct wire_hello hello = {
        .service = span_text(peer->service), .host = span_text("stage"), .incarnation = 1, .pid = peer->pid};
    peer_send(peer, WIRE_hello, &hello);
}

static inline void peer_beat(struct peer *peer)
{
    const struct wire_heartbeat beat = {
        .incarnation = 1, .job = peer->job, .lineage = peer->lineage, .version = peer->wanted};
    peer_send(peer, WIRE_heartbeat, &beat);
}

static inline void worker_request(struct peer *worker, uint64_t free_slots)
{
    const struct wire_lease_request request = {worker->job, free_slots, worker->lease_count};
    worker->free_slots = free_slots;
    peer_send(worker, WIRE_lease_request, &request);
}

static inline int payload_text(uint64_t episode, char *ret, size_t size)
{
    return snprintf(ret, size, "payload of %llu", (unsigned long long)episode);
}

/* The worker's account of a lease's end; the payload is any bytes for the data manager. */
static inline void worker_account(const struct peer *worker, const struct lease *lease, char *payload, size_t size,
                                  struct wire_episode_done *ret)
{
    static const float entropy[] = {0.5f, 0.25f};
    bool good = strcmp(lease->outcome, "ok") == 0 || strcmp(lease->outcome, "truncated") == 0;
    int n = payload_text(lease->episode, payload, size);
    int64_t version = lease->pin_version >= 0 ? lease->pin_version : worker->wanted;
    *ret = (struct wire_episode_done){.episode = lease->episode,
                                      .attempt = lease->attempt,
                                      .token = lease->token,
                                      .outcome = span_text(lease->outcome),
                                      .reward = lease->reward,
                                      .version_min = good ? version : -1,
                                      .version_max = good ? version : -1,
                                      .error = span_text(good ? "" : "the script says so")};
    if (!good) return;
    ret->steps = 2;
    ret->prompt_tokens = 20;
    ret->action_tokens = 5 + lease->episode % 3;
    ret->turn_entropy = (struct wire_f32s){entropy, 2};
    ret->payload = span_of(payload, (size_t)n);
    ret->payload_raw = 100;
}

/* Sends the ends of some leases in one message, whatever was said of them before. */
static inline void worker_tell(struct peer *worker, struct lease *const *leases, size_t count)
{
    struct wire_episode_done ends[STAGE_MESSAGE];
    char payloads[STAGE_MESSAGE][64];
    ck_assert_uint_le(count, STAGE_MESSAGE);
    for (size_t i = 0; i < count; i++) {
        leases[i]->said = true;
        worker_account(worker, leases[i], payloads[i], sizeof payloads[i], &ends[i]);
    }
    const struct wire_episodes_done done = {.job = leases[0]->job, .episodes = ends, .episodes_count = count};
    peer_send(worker, WIRE_episodes_done, &done);
}

static inline void worker_end(struct peer *worker, struct lease *lease, const char *outcome, double reward)
{
    lease->outcome = outcome;
    lease->reward = reward;
    worker_tell(worker, &lease, 1);
}

static inline bool worker_acked(const struct peer *worker)
{
    for (size_t i = 0; i < worker->lease_count; i++) {
        if (worker->leases[i].said && !worker->leases[i].acked) return false;
    }
    return true;
}

static inline void worker_resend(struct peer *worker)
{
    struct lease *again[STAGE_MESSAGE];
    size_t count = 0;
    for (size_t i = 0; i < worker->lease_count; i++) {
        if (worker->leases[i].said && !worker->leases[i].acked) again[count++] = &worker->leases[i];
    }
    if (count) worker_tell(worker, again, count);
    if (worker->free_slots) worker_request(worker, worker->free_slots);
}

/* Ends every lease that is open here, and whose policy is here, with `ok`; reward 1 for odd episodes, so that groups have
 * signal, or 0 for all. */
static inline void worker_play(struct peer *worker, bool signal)
{
    for (size_t i = 0; i < worker->lease_count; i++) {
        struct lease *lease = &worker->leases[i];
        if (!lease->said && lease->min_version <= worker->wanted)
            worker_end(worker, lease, "ok", signal && lease->episode % 2 ? 1.0 : 0.0);
    }
}

static inline void trainer_ask(struct peer *trainer, int64_t update)
{
    const struct wire_batch_request request = {trainer->job, trainer->lineage, update};
    trainer->asked = update;
    peer_send(trainer, WIRE_batch_request, &request);
}

/* ---- what peers hear ---- */

static inline void peer_keep(char *to, size_t size, struct span text)
{
    (void)snprintf(to, size, "%.*s", SPAN_ARG(text));
}

static inline void hear_beat(struct peer *peer, const struct wire_heartbeat_ack *ack)
{
    peer->epoch = ack->epoch;
    if (!ack->hello_again) return;
    peer->hellos_again++;
    peer_hello(peer);
    if (strcmp(peer->service, "rollout") == 0) worker_resend(peer);
    if (peer->asked >= 0) trainer_ask(peer, peer->asked);
}

static inline void hear_assign(struct peer *peer, const struct wire_job_assign *assign)
{
    peer->job = assign->job;
    peer->lineage = assign->lineage;
    peer->resume_version = assign->resume_version;
    peer_keep(peer->resume_path, sizeof peer->resume_path, assign->resume_path);
    peer->assigns++;
}

static inline void hear_leases(struct peer *peer, const struct wire_leases *leases)
{
    for (size_t i = 0; i < leases->leases_count; i++) {
        const struct wire_lease *from = &leases->leases[i];
        ck_assert_uint_lt(peer->lease_count, STAGE_LEASES);
        struct lease *to = &peer->leases[peer->lease_count++];
        *to = (struct lease){.job = leases->job,
                             .episode = from->episode,
                             .attempt = from->attempt,
                             .token = from->token,
                             .group = from->group,
                             .task = from->task,
                             .max_steps = from->max_steps,
                             .min_version = from->min_version,
                             .pin_version = from->pin_version};
        peer_keep(to->source, sizeof to->source, from->source);
    }
}

static inline void hear_acks(struct peer *peer, const struct wire_episodes_ack *ack)
{
    peer->acks += ack->tokens.n;
    for (size_t i = 0; i < ack->tokens.n; i++) {
        for (size_t k = 0; k < peer->lease_count; k++) {
            struct lease *lease = &peer->leases[k];
            if (lease->job == ack->job && lease->token == ack->tokens.v[i]) lease->acked = true;
        }
    }
}

static inline void hear_batch(struct peer *peer, const struct wire_batch *from)
{
    ck_assert_uint_lt(peer->batch_count, STAGE_BATCHES);
    ck_assert_uint_le(from->members_count, STAGE_MEMBERS);
    struct batch *to = &peer->batches[peer->batch_count++];
    *to = (struct batch){.lineage = from->lineage,
                         .update = from->update,
                         .norm_tokens = from->norm_tokens,
                         .groups = from->groups,
                         .no_signal_groups = from->no_signal_groups,
                         .count = from->members_count};
    peer_keep(to->kind, sizeof to->kind, from->kind);
    for (size_t i = 0; i < from->members_count; i++) {
        const struct wire_batch_member *m = &from->members[i];
        to->episode[i] = m->episode;
        to->group[i] = m->group;
        to->advantage[i] = m->advantage;
        to->signal[i] = m->signal;
        for (size_t k = 0; k < m->payload.size; k++) to->payload[i] = to->payload[i] * 31 + m->payload.data[k];
    }
    if (peer->asked == from->update) peer->asked = -1;
}

static inline void hear_answer(struct peer *peer, const struct wire_job_answer *answer)
{
    peer->answer_job = answer->job;
    peer->answer_created = answer->created;
    peer_keep(peer->answer_error, sizeof peer->answer_error, answer->error);
    peer->answers++;
}

static inline void hear_more(struct peer *peer, enum wire_id id, const void *message)
{
    if (id == WIRE_trainer_ack) {
        const struct wire_trainer_ack *ack = message;
        *(ack->what == WIRE_update_done ? &peer->applied_ack : &peer->committed_ack) = ack->update;
    } else if (id == WIRE_policy_wanted) {
        peer->wanted = ((const struct wire_policy_wanted *)message)->version;
        peer->seen++;
    } else if (id == WIRE_job_stop) {
        peer->stopped_job = ((const struct wire_job_stop *)message)->job;
        peer->stops++;
    } else if (id == WIRE_lease_revoke) {
        const struct wire_lease_revoke *revoke = message;
        for (size_t i = 0; i < revoke->episodes.n && peer->revoked_count < STAGE_LEASES; i++)
            peer->revoked[peer->revoked_count++] = revoke->episodes.v[i];
    } else if (id == WIRE_policy_ack) {
        peer->policy_acks++;
    }
}

static inline void hear(void *ctx, const char *from, enum wire_id id, const void *message)
{
    struct peer *peer = ctx;
    (void)from;
    if (id == WIRE_heartbeat_ack)
        hear_beat(peer, message);
    else if (id == WIRE_job_assign)
        hear_assign(peer, message);
    else if (id == WIRE_leases)
        hear_leases(peer, message);
    else if (id == WIRE_episodes_ack)
        hear_acks(peer, message);
    else if (id == WIRE_batch)
        hear_batch(peer, message);
    else if (id == WIRE_job_answer)
        hear_answer(peer, message);
    else
        hear_more(peer, id, message);
}

static inline void hear_bad(void *ctx, const char *from, const char *why)
{
    (void)from;
    ck_abort_msg("a bad frame for %s: %s", ((struct peer *)ctx)->identity, why);
}

/* ---- peers come and go ---- */

/* `as`: the identity and process to be again, on another manager; NULL for a new one. */
static inline struct peer *peer_join(struct stage *stage, const struct manager *manager, const char *service,
                                     const struct peer *as)
{
    char run_dir[STAGE_TEXT], endpoint[STAGE_TEXT + 32];
    ck_assert_uint_lt(stage->peer_count, STAGE_PEERS);
    struct peer *peer = calloc(1, sizeof *peer);
    ck_assert_ptr_nonnull(peer);
    stage->peers[stage->peer_count++] = peer;
    peer->stage = stage;
    peer->service = service;
    peer->pid = as ? as->pid : 100000 + stage->peer_count;
    peer->asked = peer->wanted = peer->resume_version = peer->applied_ack = peer->committed_ack = -1;
    (void)snprintf(peer->identity, sizeof peer->identity, "%s-%016zx", service, stage->peer_count);
    if (as) memcpy(peer->identity, as->identity, sizeof peer->identity);
    ck_assert_int_eq(rundir_path(manager->state_dir, run_dir, sizeof run_dir), ERR_ok);
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s/data.sock", run_dir);
    const struct bus_events events = {.ctx = peer, .on_message = hear, .on_bad = hear_bad};
    ck_assert_int_eq(bus_connect(&peer->bus, &stage->loop, endpoint, peer->identity, events), ERR_ok);
    peer_hello(peer);
    WAIT_FOR(stage, peer->epoch > 0);
    return peer;
}

static inline void stage_on_beat(uv_timer_t *timer)
{
    struct stage *stage = timer->data;
    for (size_t i = 0; i < stage->peer_count; i++) {
        if (!stage->peers[i]->mute) peer_beat(stage->peers[i]);
    }
}

static inline void stage_on_tick(uv_timer_t *timer)
{
    (void)timer; /* it ends a turn of the loop, so that conditions are looked at */
}

static inline void manager_make(struct manager *manager, const struct cluster *cluster, const char *name)
{
    (void)snprintf(manager->state_dir, sizeof manager->state_dir, "%.100s/%s-%d", cluster->state_dir, name, (int)getpid());
    ck_assert_int_eq(rundir_make(manager->state_dir), ERR_ok);
    manager_start(manager);
}

/* A fresh ledger in the cluster and a data manager on it. */
static inline void stage_open(struct stage *stage, const struct cluster *cluster)
{
    char database[64], conninfo[CLUSTER_TEXT_BYTES];
    memset(stage, 0, sizeof *stage);
    (void)snprintf(database, sizeof database, "data_%d", (int)getpid());
    stage->ledger = cluster_ledger(cluster, database, PAL_SOURCE_DIR "/migrations");
    cluster_conninfo(cluster, database, "pal", conninfo, sizeof conninfo);
    ck_assert_int_eq(setenv("PAL_DATABASE_URL", conninfo, 1), 0);
    ck_assert_int_eq(uv_loop_init(&stage->loop), 0);
    ck_assert_int_eq(uv_timer_init(&stage->loop, &stage->tick), 0);
    ck_assert_int_eq(uv_timer_init(&stage->loop, &stage->beat), 0);
    stage->beat.data = stage;
    ck_assert_int_eq(uv_timer_start(&stage->tick, stage_on_tick, STAGE_TICK_MS, STAGE_TICK_MS), 0);
    ck_assert_int_eq(uv_timer_start(&stage->beat, stage_on_beat, STAGE_BEAT_MS, STAGE_BEAT_MS), 0);
    manager_make(&stage->managers[0], cluster, "one");
}

static inline void stage_close(struct stage *stage)
{
    for (size_t i = 0; i < STAGE_MANAGERS; i++) {
        struct manager *manager = &stage->managers[i];
        if (manager->pid == 0) continue;
        int code = -1;
        ck_assert_int_eq(kill(manager->pid, SIGTERM), 0);
        WAIT_FOR(stage, (code = manager_ended(manager)) >= 0);
        ck_assert_msg(code == 0, "pal-data ended with code %d", code);
    }
    for (size_t i = 0; i < stage->peer_count; i++) bus_free(&stage->peers[i]->bus);
    uv_close((uv_handle_t *)&stage->tick, NULL);
    uv_close((uv_handle_t *)&stage->beat, NULL);
    (void)uv_run(&stage->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&stage->loop), 0);
    for (size_t i = 0; i < stage->peer_count; i++) free(stage->peers[i]);
    store_close(&stage->ledger);
}

/* kill -9 and a new process; peers learn of it by their beats. */
static inline void stage_restart(struct stage *stage)
{
    manager_kill(&stage->managers[0]);
    manager_start(&stage->managers[0]);
}

#endif
