/* The rollout service: takes leases, plays episodes through the environment cluster and the embedded engine, hands in ends.
 *
 * A seat is one leased episode from its lease to its end, one per slot. The engine runs on the
 * loop thread in short steps while some seat has tokens to feed; between steps the sockets are served. Ends are kept until
 * the data manager has committed them.
 *
 *     lease -> ENV <-> PLAY -> end                    PLAY with an engine, or with a measurement where nothing is played
 *                       -> JUDGE -> end               where the reward is the outcome reward model's
 *
 * A measurement (source score) of a prompt resets the environment for its first observation and leaves it; that of a stored
 * episode has none and begins in PLAY. */
#ifndef PAL_ROLLOUT_SERVICE_ROLLOUT_H
#define PAL_ROLLOUT_SERVICE_ROLLOUT_H

#include "rollout/judge.h"
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
    SEAT_PLAY, /* has tokens to feed, or a measurement to make */
    SEAT_JUDGE /* has a verdict to wait for */
};

/* Where its actions come from. */
enum seat_player {
    PLAYER_POLICY,
    PLAYER_EXPERT, /* the environment's */
    PLAYER_SCRIPT, /* the lease's */
    PLAYER_NONE    /* a measurement */
};

struct seat {
    enum seat_state state;
    uint64_t episode, attempt, token, environment;
    enum seat_player player;
    char hint[1024]; /* with HINT_OWN in it, until the environment has said its own; else empty */
    uint64_t sampling_seed;
    struct buf given; /* the script, or the payload to measure; owned */
    size_t given_at;  /* of the script: where its next action begins */
    uint64_t given_raw;
    bool replay;      /* measurement: of a stored episode, not of a prompt */
    int64_t judge;    /* version of the outcome reward model that gives the reward, 0: none */
    int32_t *verdict; /* [max_context] what it reads, owned; allocated with the first use */
    uint32_t verdict_count, verdict_fed;
    double verdict_score;
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

/* What its slot is to hold before the next token is drawn, or the verdict given. */
struct seat_context {
    const int32_t *token; /* [count], borrowed */
    uint32_t count;
    uint32_t fed; /* of them in the slot */
};

struct rollout_counters {
    uint64_t episodes, demonstrations, imports, scores, judged, steps, prompt_tokens, shared_tokens, action_tokens, leases,
        revoked, checked, calls_resent;
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
    struct judge judge;
    struct seat *seats;
    size_t seat_count, slots, used;
    size_t first_seat; /* of the next engine step */
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

/* lease.c */
void lease_take(struct rollout *rollout, const struct wire_lease *lease);
/* The first observation is there: the episode begins anew where its hint was still to come. */
err_t lease_hint(struct seat *seat, struct span own) MUST_USE;
/* The script's next action; empty past its end. */
struct span lease_action(struct seat *seat);
/* seats.c */
err_t seats_open(struct rollout *rollout) MUST_USE; /* for the assigned job */
void seats_close(struct rollout *rollout);
struct seat *seats_take(struct rollout *rollout, uint64_t episode); /* for a new lease of it; NULL when none is free */
/* Its environment. ERR_memory. */
err_t seats_ask(struct rollout *rollout, struct seat *seat, const struct wire_lease *lease) MUST_USE;
void seats_act(struct rollout *rollout, struct seat *seat); /* its runner's action */
void seats_observe(struct rollout *rollout, const struct wire_observation *observation);
void seats_revoke(struct rollout *rollout, uint64_t episode);
void seats_env_lost(struct rollout *rollout);                         /* every episode under way lost its environment */
void seats_sweep(struct rollout *rollout);                            /* deadlines */
void seats_release(struct rollout *rollout, const struct seat *seat); /* its environment is not wanted any more */
void seats_leave(struct rollout *rollout, struct seat *seat);         /* nothing is said of it */
void seats_reset(struct rollout *rollout, const struct seat *seat);   /* adds its reset to the vector */
void seats_action(struct rollout *rollout, const struct seat *seat);  /* and its action */
void seats_flush(struct rollout *rollout);                            /* sends resets, actions, releases of this turn */
/* end.c */
void end_failed(struct rollout *rollout, struct seat *seat, enum outcome outcome, const char *error);
void end_played(struct rollout *rollout, struct seat *seat);
/* The episode as it is stored: whole, or a segment per turn. */
err_t end_sequence(const struct seat *seat, struct arena *arena, struct sequence *ret) MUST_USE;
/* A measurement: sequence NULL where no payload goes with it. */
void end_measured(struct rollout *rollout, struct seat *seat, const struct sequence *sequence,
                  const struct wire_counter *scores, size_t count);
/* again.c: what makes up for messages that were lost */
void again_await(struct rollout *rollout, struct seat *seat); /* a call was sent */
void again_look(struct rollout *rollout, struct seat *seat);  /* sends it again when it is time */
/* Which leases and slots are held here: to data and to the environment cluster, so that both drop what was lost on the way.
 */
void again_say_held(struct rollout *rollout);
/* play.c */
struct seat_context play_context(const struct seat *seat);
/* after its runner moved, or could not */
void play_follow(struct rollout *rollout, struct seat *seat, err_t err);
void play_begin(struct rollout *rollout, struct seat *seat, enum seat_state state); /* it waits for the engine */
void play_wake(struct rollout *rollout);
void play_step(struct rollout *rollout);
/* score.c */
/* Makes the measurement; false when its weights are not there yet. */
bool score_seat(struct rollout *rollout, struct seat *seat);
/* Log-probs of a sequence's targets, each context a sequence of its own with its hint or without it, in order; a target with
 * nothing before it has none. */
err_t score_targets(struct rollout *rollout, const struct model *model, const struct sequence *sequence, bool with_hint,
                    float *logp, size_t *ret_count) MUST_USE;
/* What the sampler recorded against what the learner says, for a sample of the episodes. */
void score_check(struct rollout *rollout, const struct seat *seat);
uint64_t rollout_now_ms(const struct rollout *rollout);
double rollout_clock_ms(void);

extern const struct service_class rollout_class;

#endif
