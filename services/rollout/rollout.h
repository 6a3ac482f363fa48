/* The rollout service: takes leases, plays episodes through the environment cluster and the embedded engine, hands in ends.
 *
 * A seat is one leased episode from its lease to its end, one per slot. The engine runs on the
 * loop thread in short steps while some seat has tokens to feed; between steps the sockets are served. Ends are kept until
 * the data manager has committed them. */
#ifndef PAL_ROLLOUT_SERVICE_ROLLOUT_H
#define PAL_ROLLOUT_SERVICE_ROLLOUT_H

#include "rollout/runner.h"
#include "services/common/origin/origin.h"
#include "services/common/run/service.h"
#include "services/rollout/outbox.h"
#include "services/rollout/policies.h"
#include "trainer/model/decoder.h"
#include "trainer/model/learner.h"

#define ROLLOUT_POLICY_WAIT_MS 5000            /* for weights that a lease needs */
#define ROLLOUT_ENV_SPARE_MS   3000            /* past the environment's own deadline */
#define ROLLOUT_FLUSH_MS       20              /* ends and requests leave at most this often */
#define ROLLOUT_AGAIN_MS       1500            /* a call to the cluster is sent again, the next time after twice as long */
#define ROLLOUT_HELD_MS        1000            /* between accounts of what is held */
#define ROLLOUT_HELD_MOST      16384           /* tokens in one */
#define ROLLOUT_HINT_OWN       "{environment}" /* in a lease's hint: the environment's own */
#define ROLLOUT_CHECK_EVERY    500             /* episodes between comparisons with the learner */

enum seat_state {
    SEAT_FREE,
    SEAT_ENV,  /* waits for an observation */
    SEAT_PLAY, /* has tokens to feed */
};

struct seat {
    enum seat_state state;
    uint64_t episode, attempt, token, environment;
    bool demonstration;
    char hint[1024]; /* with HINT_OWN in it, until the environment has said its own; else empty */
    uint64_t sampling_seed;
    int64_t min_version, pin_version;
    uint64_t started_ms, ends_ms; /* of the lease */
    uint64_t since_ms;            /* entered this state */
    uint64_t deadline_ms;         /* of this state */
    uint64_t again_ms;            /* when a call without an answer is sent again */
    uint64_t again_wait_ms;
    struct policy *policy; /* held while playing */
    int32_t slot;          /* of the decoder, -1 for none */
    struct runner runner;
    struct buf task;              /* owned: what `reset` borrows */
    struct wire_reset_item reset; /* as it was sent */
    double engine_ms, env_ms;
};

struct rollout_counters {
    uint64_t episodes, demonstrations, steps, prompt_tokens, shared_tokens, action_tokens, leases, revoked, checked,
        calls_resent;
    uint64_t failures[OUTCOME_COUNT];
    double engine_ms, idle_ms, env_wait_ms, logp_gap_max;
    uint64_t engine_steps;
};

struct rollout {
    struct service *service;
    struct bus *env;
    struct pool *pool;
    uv_idle_t idle;
    uv_timer_t flush, sweep;
    uint64_t idle_since_ms; /* 0: busy */
    /* of the job */
    uint64_t job; /* 0: none */
    int64_t lineage;
    struct arena arena;
    struct job_spec spec;
    struct origin origin; /* shape, tokenizer, chat template */
    struct decoder *decoder;
    struct learner *checker;
    struct policies policies;
    struct seat *seats;
    size_t seat_count, slots, used;
    int32_t *free_slots;
    size_t free_slot_count;
    float *logits;              /* [slots, V] */
    float *scratch;             /* [V] */
    struct decoder_item *items; /* [slots] */
    struct seat **fed;          /* [slots] */
    /* of the turn */
    struct wire_reset_item *resets; /* [seat_count] */
    struct wire_action_item *actions;
    size_t reset_count, action_count;
    uint64_t released_episodes[256], released_tokens[256];
    size_t released_count;
    bool ask;
    uint64_t newest_token; /* greatest of this job's leases */
    uint64_t held_said_ms;
    struct outbox outbox;
    struct rollout_counters counters;
    uint64_t since_check;
};

/* seats.c */
err_t seats_open(struct rollout *rollout) MUST_USE; /* for the assigned job */
void seats_close(struct rollout *rollout);
void seats_lease(struct rollout *rollout, const struct wire_lease *lease);
void seats_observe(struct rollout *rollout, const struct wire_observation *observation);
void seats_revoke(struct rollout *rollout, uint64_t episode);
void seats_env_lost(struct rollout *rollout); /* every episode under way lost its environment */
void seats_sweep(struct rollout *rollout);    /* deadlines */
void seats_end(struct rollout *rollout, struct seat *seat, enum outcome outcome, const char *error);
void seats_flush(struct rollout *rollout);                           /* sends resets, actions, releases of this turn */
void seats_reset(struct rollout *rollout, const struct seat *seat);  /* adds its reset to the vector */
void seats_action(struct rollout *rollout, const struct seat *seat); /* and its action */
/* again.c: what makes up for messages that were lost */
void again_await(struct rollout *rollout, struct seat *seat); /* a call was sent */
void again_look(struct rollout *rollout, struct seat *seat);  /* sends it again when it is time */
/* Which leases and slots are held here: to data and to the environment cluster, so that both drop what was lost on the way.
 */
void again_say_held(struct rollout *rollout);
/* play.c */
/* after its runner moved, or could not */
void play_follow(struct rollout *rollout, struct seat *seat, err_t err);
void play_wake(struct rollout *rollout);
void play_step(struct rollout *rollout);
void play_check(struct rollout *rollout, const struct seat *seat);

uint64_t rollout_now_ms(const struct rollout *rollout);
double rollout_clock_ms(void);

extern const struct service_class rollout_class;

#endif
