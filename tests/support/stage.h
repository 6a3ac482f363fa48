/* The stage for a real pal-data: its process, a ledger of its own, and scripted peers (rollout workers, trainers, a gateway)
 * that speak to it over the real bus and write down what it says.
 *
 * A test program lists its tests in main and calls stage_main: each test finds an open stage (Check gives it a process of its
 * own) and, when it ends, every invariant of every job's ledger is checked. Peers beat, say hello again when they are asked
 * to, and then resend what is unacknowledged, as services do; everything else they do when the test says so. Waiting is
 * WAIT_FOR(condition): the loop turns until it holds; past STAGE_WAIT_MS the test fails with the condition's text and the
 * data manager's log. stage.c the process and its ledger, stage_peer.c what peers say and hear, stage_job.c what they do
 * together. */
#ifndef PAL_TESTS_STAGE_H
#define PAL_TESTS_STAGE_H

#include "services/common/bus/bus.h"
#include "services/common/store/store_internal.h"
#include "tests/support/cluster.h"
#include "tests/support/proxy.h"

#include <check.h>

#define STAGE_WAIT_MS  40000 /* on a busy machine */
#define STAGE_PEERS    8
#define STAGE_LEASES   512
#define STAGE_BATCHES  128
#define STAGE_MEMBERS  64
#define STAGE_TEXT     512
#define STAGE_MANAGERS 2
#define STAGE_DIGEST   "of-the-weights" /* that every scripted policy has */

struct lease {
    uint64_t job, episode, attempt, token, group, task, max_steps;
    int64_t min_version, pin_version;
    char source[16], score[16], hint[256], script[256];
    uint64_t measured; /* a sum of the payload's bytes */
    int64_t judge;
    /* how the worker ended it */
    bool said, acked;
    const char *outcome;
    double reward, verified;       /* of a judged one the environment's own */
    uint64_t steps;                /* 0: 2 */
    bool idle;                     /* no steps, and not two */
    const float *entropy, *tokens; /* of its turns; NULL: two turns of 0.5 and 0.25 nats, their tokens not told */
    size_t turns;
};

struct batch {
    int64_t lineage, update;
    char kind[16];
    uint64_t norm_tokens, groups, no_signal_groups, extra_passes, phase;
    bool discarded, phase_end;
    size_t judged, judged_tests, judged_successes;
    size_t count;
    uint64_t episode[STAGE_MEMBERS], group[STAGE_MEMBERS], payload[STAGE_MEMBERS]; /* a sum of the payload's bytes */
    double advantage[STAGE_MEMBERS];
    bool signal[STAGE_MEMBERS];
    char source[STAGE_MEMBERS][16];
    uint64_t tokens[STAGE_MEMBERS], pass[STAGE_MEMBERS], dropped[STAGE_MEMBERS]; /* turns as bits */
};

/* What a worker measures of a score's lease: figures, at most STAGE_SCORES. */
#define STAGE_SCORES 8
typedef size_t (*scorer)(const struct lease *lease, struct wire_counter ret[STAGE_SCORES]);

struct peer {
    const char *service;
    uint64_t pid; /* as told in hello: no process of ours */
    char identity[BUS_PEER_BYTES];
    struct bus *bus;
    bool mute;       /* no beats, no hello */
    struct buf said; /* every frame, each behind its size; but for beats */
    uint64_t free_slots;
    scorer scorer;        /* worker: NULL fits any score: C falls with the task's id, V is a half, perplexity 1.5 */
    size_t payload_bytes; /* of each end; 0: a few */
    /* a trainer's outbox: sent again after hello_again until it is acknowledged */
    struct {
        bool open;
        int64_t lineage, update, version;
        const char *outcome;
        const struct wire_counter *figures;
        size_t figure_count;
    } done, saved;
    int64_t published, published_orm; /* -1: none */
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
    int64_t wanted_orm;
    struct batch batches[STAGE_BATCHES];
    size_t batch_count;
    int64_t asked; /* the update of an open batch request, -1 */
    int64_t applied_ack, committed_ack;
    int64_t version; /* trainer: after the newest update it told */
    uint64_t policy_acks;
    uint64_t answers, answer_job;
    bool answer_created;
    char answer_error[64], answer_detail[STAGE_TEXT];
    uint64_t planned, known, refused; /* pool_answer; refused: the place of the first problem, +1 */
    uint64_t statuses;
    bool ready; /* the last one said that the ledger can be written */
};

struct manager {
    pid_t pid;
    char state_dir[STAGE_TEXT];
};

struct stage {
    struct cluster *cluster; /* one for the program */
    char name[32];           /* of the database */
    uv_loop_t loop;
    uv_timer_t tick, beat;
    struct store *ledger;
    struct manager managers[STAGE_MANAGERS];
    struct peer *peers[STAGE_PEERS];
    size_t peer_count;
    int64_t job; /* $1 of queries */
    bool twice;  /* every message is sent twice */
    struct proxy proxy;
    bool proxied;
};

extern struct stage stage;

/* main of a test program: a cluster, the tests, each on a stage of its own. A test that is listed several times finds in _i
 * which time it is, from 0. A program that kills its server wants CK_FORK=no. */
int stage_main(const char *name, const TTest *const *tests, size_t count);
/* Turns the loop once; past `end` (uv_hrtime) the test fails. */
void stage_step(uint64_t end, const char *what, const char *file, int line);
#define WAIT_FOR(condition)                                                                                                  \
    for (uint64_t end_ = uv_hrtime() + (uint64_t)STAGE_WAIT_MS * 1000000; !(condition);)                                     \
    stage_step(end_, #condition, __FILE__, __LINE__)

/* ---- the ledger ---- */

/* The one bigint that a query gives; $1 is the job on stage, $2 the argument. */
int64_t ledger_ask(const char *sql, int64_t argument);
void ledger_verify(int64_t job);
/* The named invariant holds for the job on stage, and is broken by this statement, which no constraint or trigger hinders and
 * which is rolled back. */
void ledger_notices(const char *invariant, const char *sql);
bool ledger_state_is(int64_t job, const char *state);
int64_t ledger_digest(void); /* of the job's episodes: changes when any of them does */

/* ---- the process ---- */

/* Another data manager on the same ledger, with a folder of its own; never through the proxy. */
struct manager *manager_join(const char *name);
void manager_kill(struct manager *manager); /* -9 */
int manager_ended(struct manager *manager); /* the exit code of a process that ended by itself, -1 while it runs */
void stage_recluster(void);                 /* PostgreSQL starts again after cluster_kill */
void stage_behind_proxy(void);              /* the same, and it reaches its ledger through stage.proxy from now on */
void stage_restart(void);                   /* kill -9 and a new process; peers learn of it by their beats */

/* ---- peers ---- */

struct peer *stage_join(const char *service);
/* `as`: the identity and process to be again, on another manager; NULL for a new one. */
struct peer *peer_join(const struct manager *manager, const char *service, const struct peer *as);
void peer_send(struct peer *peer, enum wire_id id, const void *message);
void peer_replay(struct peer *peer); /* says all that it said so far again, in the same order */
void peer_hello(struct peer *peer);
void peer_beat(struct peer *peer);

void worker_request(struct peer *worker, uint64_t free_slots);
void worker_end(struct peer *worker, struct lease *lease, const char *outcome, double reward);
/* Sends the ends of some leases in one message, whatever was said of them before. */
void worker_tell(struct peer *worker, struct lease *const *leases, size_t count);
bool worker_acked(const struct peer *worker); /* all it said */
void worker_resend(struct peer *worker);      /* what is not acknowledged */
/* As a worker's outbox does: sends again every 200 ms until all is acknowledged. *next_ms starts at 0. */
bool worker_delivered(struct peer *worker, uint64_t *next_ms);
/* Ends every lease that is open here, and whose policy is here, with `ok`; reward 1 for odd episodes, so that groups have
 * signal, or 0 for all. */
void worker_play(struct peer *worker, bool signal);
/* The same, but every lease of one task ends as poisoned. */
void worker_play_but(struct peer *worker, uint64_t task);
/* Fails every attempt of a lease until its retries are spent; returns how often it was tried. */
int worker_fails(struct peer *worker, uint64_t episode, const char *outcome);
bool worker_revoked(const struct peer *worker, uint64_t episode);
size_t worker_leases_past(const struct peer *worker, uint64_t episode, size_t first); /* of it, after the `first` ones */
struct lease *worker_lease(struct peer *worker, uint64_t episode);                    /* the newest of it */

void trainer_ask(struct peer *trainer, int64_t update);
bool trainer_has(const struct peer *trainer, int64_t update);
const struct batch *trainer_batch(const struct peer *trainer, int64_t update); /* the newest of it */
const struct batch *trainer_fetch(struct peer *trainer, int64_t update);       /* asks until the answer comes */
void trainer_say_done(struct peer *trainer, int64_t update, int64_t lineage, const char *outcome, int64_t version);
/* The same with figures; waits until it is acknowledged. Updates that are not applied keep the version before. */
void trainer_tell(struct peer *trainer, int64_t update, const char *outcome, const struct wire_counter *figures,
                  size_t count);
void trainer_apply(struct peer *trainer, int64_t update);
void trainer_publish(struct peer *trainer, int64_t version);
void trainer_publish_orm(struct peer *trainer, int64_t version); /* an outcome reward model */
void trainer_commit(struct peer *trainer, int64_t version);
void trainer_resend(struct peer *trainer); /* what its outbox holds, the version it published, the batch it waits for */
void batch_same(const struct batch *a, const struct batch *b); /* or the test fails */

/* ---- jobs ---- */

struct stage_job {
    int tasks, group_size, groups, updates, staleness, evaluated, every;
    const char *key;     /* of idempotency, or NULL */
    const char *rollout; /* further keys of /rollout, each after a comma */
    const char *trainer; /* further keys of /trainer, each after a comma */
    const char *more;    /* further keys of the job, likewise */
};

extern const struct stage_job STAGE_SMALL; /* two groups of four, two updates, on policy */

/* Sends it again while the ledger is away; without a key that may make two jobs. */
int64_t stage_submit(struct peer *gateway, const struct stage_job *job, const char *key);
bool stage_ready(struct peer *gateway); /* asks */
void stage_command(struct peer *gateway, int64_t job, const char *word, const char *want_error);
/* Submits the job and brings it to its first version: nothing is played before. */
void stage_begin(struct peer *gateway, struct peer *trainer, struct peer *worker, const struct stage_job *job);
/* Plays what is open, makes the update of it and publishes its version. */
void stage_update(struct peer *trainer, struct peer *worker, int64_t update);

#endif
