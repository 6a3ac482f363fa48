/* The data manager: owns the jobs' plans and every write of the ledger.
 *
 * Messages of one bus turn are applied to the in-memory mirror of the running job (plan.h) and collected as sets of rows
 * (writes.h); the turn ends with one transaction and only then are answers sent (`say`). A write that fails throws the
 * mirror away and reads it again from the ledger, so memory never knows more than the ledger; what was not acknowledged
 * is sent again by its sender. There is one data manager: its epoch is checked inside every transaction. */
#ifndef PAL_DATA_DATA_H
#define PAL_DATA_DATA_H

#include "services/common/run/service.h"
#include "services/common/store/store.h"
#include "services/data/plan.h"
#include "services/data/writes.h"

#define DATA_PEERS      256
#define DATA_SILENT_MS  5000 /* a peer that is silent this long is gone */
#define DATA_JANITOR_MS 100
#define DATA_ON_WAY_MS  3000 /* a lease that its worker has not seen after this long is lost */
#define DATA_COUNTERS   128

#define JOBS_QUARANTINED "every training task is quarantined"

struct peer {
    char identity[BUS_PEER_BYTES]; /* name-incarnation; "" for a free row */
    char service[32];
    char host[256];
    uint64_t pid;
    uint64_t heard_ms;
    bool local;       /* its process can be looked at: whether it lives is known before its silence is long */
    bool gone;        /* silent or said goodbye; kept for the status page until its row is needed */
    bool new_hello;   /* write it with the next turn */
    uint64_t demand;  /* rollout: free slots it asked to fill and was not granted yet */
    uint64_t granted; /* leases sent to it, in step with its own count */
    bool in_step;     /* its count is known */
    bool waits;       /* trainer: a batch request is open */
    bool asked;       /* and was not looked up in the ledger yet */
    uint64_t request; /* gateway: number of its newest submit or command; they only grow */
    int64_t wanted_lineage, wanted_update;
    int64_t lineage, version; /* policy served */
    char digest[DIGEST_HEX_BYTES];
    uint64_t moved_ms; /* its stage's clock: when a counter of what it gets done last grew */
    size_t counter_count;
    struct {
        char name[64];
        double value, before, rate; /* per second */
        uint64_t at_ms;
    } counters[DATA_COUNTERS];
};

/* A message to send after the commit. */
struct saying {
    char peer[BUS_PEER_BYTES];
    enum wire_id id;
    const void *message; /* in the turn's arena */
};

struct data {
    struct service *service;
    struct bus *bus;
    struct store *store; /* NULL while the database cannot be reached */
    uint64_t epoch;
    char migrations[SERVICE_PATH_BYTES];
    uv_timer_t janitor;
    uv_signal_t on_continue; /* SIGCONT: this process was stopped */
    bool continued;
    uint64_t deaf_ms;               /* stood still for so long, and the alarm is due; 0: did not */
    double longest_turn_ms;         /* since the janitor's last look */
    uint64_t retry_at_ms, retry_ms; /* the next look at the ledger, and how long was waited for it; 0: no trouble lately */
    uint64_t trouble_ms;            /* when the connection or a turn was lost last */
    uint64_t looked_ms;             /* the janitor's last look */
    char trouble[160];              /* why, for the status page and the watchdog */
    int64_t moved_job;              /* the job whose clock goes on over a lost turn; 0: none */
    uint64_t moved_ms;
    struct peer peers[DATA_PEERS];
    struct plan *plan; /* the job on stage, or NULL */
    struct plan *over; /* jobs that ended in this turn: what is still to be said borrows from them */
    struct writes writes;
    struct arena arena; /* of the turn */
    struct saying *sayings;
    size_t saying_count, saying_room;
    bool in_transaction;
    err_t turn_err;            /* first failure of this turn */
    bool look_for_job;         /* a queued job may be there */
    uint64_t late_ends;        /* ends that were acknowledged and ignored */
    uint64_t rows, analyze_at; /* episodes in the ledger, about; how many there are when its statistics are taken again */
    uint64_t turns, failed_turns;
    uint64_t written_episodes;
    double ack_ms; /* of the newest turn */
};

uint64_t data_now_ms(const struct data *data);
/* Queues a message (in the turn's arena) for after the commit. peer NULL: to every living peer of `service`. */
void data_say(struct data *data, const char *peer, const char *service, enum wire_id id, const void *message);
/* Starts the turn's transaction when there is none yet. */
err_t data_begin(struct data *data) MUST_USE;
/* Ends a turn: advance the plan, write, commit, send. */
void data_turn(struct data *data);
/* Remembers the first failure of a turn. */
void data_fail(struct data *data, err_t err);
struct peer *data_peer(struct data *data, const char *identity); /* NULL when it is not known */

/* peers.c */
void peers_hello(struct data *data, const char *identity, const struct wire_hello *hello);
void peers_heartbeat(struct data *data, const char *identity, const struct wire_heartbeat *beat);
void peers_expire(struct data *data);
/* Everyone shall say hello and send what is unacknowledged: what a lost turn took with it comes again at once. */
void peers_say_again(struct data *data);
/* The ledger was read again: what it has of workers that went away meanwhile is not theirs any more. */
void peers_miss_again(struct data *data);
/* This process could not hear for so long (a slow commit, a stopped process): nobody was silent in it. */
void peers_forgive(struct data *data, uint64_t ms);
err_t peers_write(struct data *data) MUST_USE;
/* jobs.c */
void jobs_submit(struct data *data, const char *peer, const struct wire_job_submit *submit);
void jobs_command(struct data *data, const char *peer, const struct wire_job_command *command);
err_t jobs_advance(struct data *data) MUST_USE; /* takes the next job, starts, ends */
void jobs_assign(struct data *data, const struct peer *peer);
err_t jobs_end(struct data *data, const char *state, const char *reason) MUST_USE;
err_t jobs_index_tasks(struct data *data, struct plan *plan) MUST_USE;
/* load.c */
err_t jobs_load(struct data *data) MUST_USE; /* the mirror from the ledger */
/* lineage.c */
void lineage_hello(struct data *data, struct peer *trainer);
/* tasks.c */
err_t tasks_materialise(struct data *data, struct plan *plan) MUST_USE;
/* hints.c */
struct store_task;
/* The hash of a task's initial state (of its text, where the environment cannot be asked here) and the environment's own
 * hint, ret_hint[ENV_HINT_BYTES]. An error: it is no task of this environment. */
err_t hints_look(const struct job_environment *env, const char *body, struct digest *ret_hash, char *ret_hint) MUST_USE;
/* Hints of a file replace the environments' own. ERR_invalid when the job wants hints and none of its tasks has one, or one
 * is too long. */
err_t hints_settle(struct plan *plan, struct store_task *tasks, size_t count) MUST_USE;
/* grant.c */
err_t grant_advance(struct data *data) MUST_USE;
/* Plans a fresh group for an update; replaces: the group in whose place it is drawn, or NULL. ERR_not_found when every task
 * is quarantined. */
err_t grant_fresh(struct data *data, int64_t update, const struct group *replaces) MUST_USE;
/* A fresh group in the place of one that counts as nothing. When no task is left the job fails with this turn. */
err_t grant_replacement(struct data *data, const struct group *replaces) MUST_USE;
/* May a task of an environment (by its place in plan->train) be drawn? */
bool grant_may_draw(const struct plan *plan, size_t environment, uint64_t task);
/* Writes a new group's row with the turn. */
err_t grant_note(struct data *data, struct group *group) MUST_USE;
/* Plans a group of one: an evaluation or a score pinned to a version, or a demonstration. */
err_t grant_pinned(struct data *data, enum group_source source, size_t task, int64_t version) MUST_USE;
/* The leases of a worker last a whole term from now: it says hello again after this process started anew. */
void grant_renew(struct data *data, const struct peer *worker);
/* finish.c */
void finish_episodes(struct data *data, const char *peer, const struct wire_episodes_done *done);
void finish_expired(struct data *data);
void finish_worker(struct data *data, const char *identity, enum outcome outcome);
/* Leases that a worker should have and has not never reached it: they end at once. */
void finish_held(struct data *data, const char *worker, const struct wire_leases_held *held);
/* A decision row of this turn; inputs is JSON (NULL: ERR_memory). */
err_t finish_decide(struct data *data, const char *subject, int64_t key, const char *rule, const char *verdict,
                    const char *inputs) MUST_USE;
/* Tells the worker to drop an attempt that has ended here. */
void finish_revoke(struct data *data, const struct slot *slot);
/* judge.c */
/* A group's row as it closes; its members' advantages with the verdicts signal and no_signal. */
err_t judge_close(struct data *data, struct group *group, const char *state, const char *verdict) MUST_USE;
void judge_members(const struct plan *plan, struct group *group); /* which of its episodes are trained on */
/* Its members, of the group that it holds too, in the turn's arena. */
err_t judge_list(struct data *data, struct group *group, struct slot ***ret, size_t *ret_count) MUST_USE;
bool judge_varies(const struct group *group); /* do the rewards of its members? */
/* Losses that make their advantages from a value head: every group has signal. */
bool judge_by_value(const struct job_spec *spec);
err_t judge_group(struct data *data, struct group *group) MUST_USE;
/* guide.c */
err_t guide_hint(struct data *data, const struct plan_task *task, struct span *ret) MUST_USE; /* in the turn's arena */
void guide_balance(const struct plan *plan, struct group *group); /* balanced: every second slot of a new group is hinted */
/* Shall this closed group be played again with its task's hint? */
bool guide_wants(const struct plan *plan, const struct group *group);
err_t guide_again(struct data *data, struct group *plain) MUST_USE;
/* mixin: the hinted successes, and as many plain failures as fill the group. */
void guide_mix(const struct plan *plan, struct group *group);
err_t guide_share(struct data *data, const struct group *group) MUST_USE; /* writes the advantages of those failures */
/* dart.c */
size_t dart_size(struct data *data, size_t task); /* episodes of the task's next fresh group */
/* The step limit of a new fresh group, and why it has its size. */
err_t dart_planned(struct data *data, struct group *group) MUST_USE;
bool dart_selects(const struct plan *plan); /* are turns chosen by their entropy? */
err_t dart_keep_turns(struct slot *slot, const struct wire_episode_done *done) MUST_USE;
/* Which turns of a closed group are trained on; decide: and writes why. */
err_t dart_select(struct data *data, struct group *group, struct slot *const *members, size_t n, bool decide) MUST_USE;
/* pool.c */
/* Draws a success for a closed group whose members all failed, where the pool has one; judge_members was called. */
err_t pool_save(struct data *data, struct group *group) MUST_USE;
/* import.c */
void import_request(struct data *data, const char *peer, const struct wire_pool_import *message);
err_t import_file(struct data *data) MUST_USE;                                    /* of the job, when it starts */
err_t import_close(struct data *data, struct group *group, bool voided) MUST_USE; /* frees the group */
/* score.c: what a model says of tasks and stored episodes; nothing is played */
/* Measures the start of a task, or a stored episode of it (-1: none), under a version. */
err_t score_plan(struct data *data, size_t task, int64_t of_episode, int64_t version, int64_t phase) MUST_USE;
err_t score_lease(struct data *data, const struct group *group, struct wire_lease *lease) MUST_USE;
/* What a worker measured: ERR_malformed when it is not what was asked for; JSON in *ret_json. */
err_t score_end(struct data *data, struct group *group, const struct wire_episode_done *done, const char **ret_json) MUST_USE;
/* What a judge said, as JSON. */
err_t score_judged(struct data *data, const struct wire_episode_done *done, const char **ret_json) MUST_USE;
err_t score_close(struct data *data, struct group *group, bool voided) MUST_USE; /* frees the group */
void score_drop(struct plan *plan); /* the groups that are open: those who asked plan them anew */
/* late.c */
void late_mark(struct data *data);
bool late_is_stale(const struct group *group);
err_t late_drop(struct data *data, struct group *group, const char *why) MUST_USE;
/* batch.c */
err_t batch_advance(struct data *data) MUST_USE; /* answers open batch requests */
void batch_update_done(struct data *data, const char *peer, const struct wire_update_done *done);
/* Why nothing more is handed out, if so, from the ledger's rows up to plan->updates_done. */
err_t batch_load_ending(struct data *data) MUST_USE;
/* pack.c */
struct store_batch;
/* The batch of an update from its closed groups, in order; and one that was handed out before, from its row. */
err_t pack_groups(struct data *data, int64_t update, struct group **groups, size_t count, struct store_batch *ret,
                  struct wire_batch_member **ret_members) MUST_USE;
/* Members from the pool: their passes, once it is known how many the batch makes, and what the ledger has of them. */
err_t pack_pooled(struct data *data, struct store_batch *batch, struct wire_batch_member *members) MUST_USE;
err_t pack_stored(struct data *data, const struct store_batch *batch, struct wire_batch_member **ret) MUST_USE;
err_t pack_payloads(struct data *data, struct wire_batch_member *members, size_t count) MUST_USE;
/* figures.c */
void figures_take(struct plan *plan, int64_t update, struct group **groups, size_t count);
/* policy.c */
void policy_published(struct data *data, const char *peer, const struct wire_policy_published *published);
void policy_checkpoint(struct data *data, const char *peer, const struct wire_checkpoint_committed *checkpoint);
void policy_lag(struct data *data, const struct peer *worker);
const struct wire_policy_wanted *policy_wanted(struct data *data);
const struct wire_policy_wanted *policy_orm(struct data *data); /* the outcome reward model */
/* The weights just published are those of this evaluation. */
void policy_take_weights(const struct plan *plan, struct evaluation *evaluation);
/* Tells a worker where the weights of a pinned version are: it may have started, or begun a lineage, since they were
 * published. */
err_t policy_announce(struct data *data, const char *worker, int64_t version) MUST_USE;
/* evaluate.c */
err_t evaluate_start(struct data *data, int64_t version) MUST_USE;
err_t evaluate_close(struct data *data, struct evaluation *evaluation) MUST_USE;
/* alarm.c */
void alarm_gone(struct data *data, const struct peer *peer, bool dead);
void alarm_deaf(struct data *data, uint64_t ms); /* this process did nothing for so long */
/* remind.c: after a heartbeat */
void remind(struct data *data, const struct peer *peer, const struct wire_heartbeat *beat);
/* stall.c: the watchdog */
struct stall {
    const char *stage; /* env | rollout | trainer | data */
    char evidence[512];
    const char *cause; /* what it most likely comes from */
};
/* Why nothing moves, as far as it can be seen. */
void stall_find(const struct data *data, struct stall *ret);
bool stall_lasts(const struct data *data); /* longer than STALL_MS */
void stall_look(struct data *data);        /* raises the alarm, and ends a job that stays stalled */
void stall_over(struct data *data);        /* something moved */
/* peers.c */
const struct peer *peers_living(const struct data *data, const char *service); /* the newest; NULL when there is none */
double peers_counter(const struct peer *peer, const char *name, bool rate);    /* 0 when it is not known */
/* status.c */
err_t status_write(struct data *data, struct buf *out) MUST_USE;

extern const struct service_class data_class;

#endif
