/* The mirror of the job on stage: its tasks, its open groups with their slots, and what waits for its update.
 *
 * Everything here is in the ledger or follows from it. Slots are found by episode id; a group is freed when its data was
 * handed to the trainer (or, for evaluations, counted). Payloads of ended episodes stay here until then, up to
 * PLAN_PAYLOAD_BYTES; past that they are read back from the ledger. */
#ifndef PAL_DATA_PLAN_H
#define PAL_DATA_PLAN_H

#include "curation/curriculum.h"
#include "curation/errors.h"
#include "curation/replay_ratio.h"
#include "rollout/outcome.h"
#include "services/common/base/digest.h"
#include "services/common/bus/bus.h"
#include "services/common/job/job.h"
#include "services/common/store/store_score.h"
#include "services/data/gain.h"
#include "services/data/method.h"
#include "services/data/phase.h"
#include "services/data/rates.h"
#include "services/data/record.h"

#define PLAN_PAYLOAD_BYTES ((size_t)256 << 20)

enum slot_state { SLOT_PENDING, SLOT_LEASED, SLOT_DONE, SLOT_VOID };
enum group_source {
    GROUP_FRESH,
    GROUP_HINTED, /* in the place of a fresh one that failed */
    GROUP_DEMONSTRATION,
    GROUP_IMPORT,
    GROUP_EVALUATION,
    GROUP_SCORE,
    GROUP_SOURCES
};
enum group_state { GROUP_OPEN, GROUP_CLOSED };

struct group;

/* What is known of a turn, while turns are chosen by it (curation.dart.keep). */
struct slot_turn {
    double entropy; /* mean, nats */
    int64_t tokens; /* sampled */
    bool dropped;   /* not trained on */
};

struct slot {
    struct group *group;
    struct slot *next_in_bucket;
    struct slot *next_pending; /* in its queue */
    int64_t episode;
    int64_t index; /* in the group */
    enum slot_state state;
    bool written; /* the ledger has its row */
    int64_t attempt;
    int64_t token;
    char worker[BUS_PEER_BYTES];
    uint64_t granted_ms; /* 0: by a data manager before this one */
    uint64_t deadline_ms;
    uint8_t failures[OUTCOME_COUNT]; /* attempts that ended so */
    bool hinted;                     /* played with the task's hint */
    bool member;                     /* once its group is closed: trained on, with `advantage` */
    enum outcome outcome;
    double reward;
    double advantage;
    int64_t steps, prompt_tokens, action_tokens, version_min;
    uint64_t turns;         /* with sampled tokens */
    struct slot_turn *turn; /* owned; NULL where no turns are chosen or they were not told */
    size_t turn_count;
    struct span payload; /* owned; empty when it is only in the ledger */
    int64_t payload_raw;
};

struct group {
    struct group *next; /* in plan->groups */
    int64_t id;
    size_t task; /* index into plan->tasks */
    enum group_source source;
    enum group_state state;
    bool signal;
    bool replaced; /* by a hinted group: only while the mirror is read */
    int64_t update_for, pin_version, min_version, replaces;
    uint64_t complete_ms; /* when all other groups of its update had closed; 0: not yet */
    size_t size, done, voided;
    int refills;        /* groups without signal that had this place before */
    int64_t max_steps;  /* of its leases */
    int64_t phase;      /* WebRL */
    int64_t of_episode; /* score: the stored episode that is measured; -1: the task's start */
    double perplexity;  /* what came of it */
    int64_t pool;       /* the episode that saves it, -1: none; with: */
    double pool_reward, pool_advantage;
    int64_t pool_steps;
    char *script;        /* imports: the actions to play, one a line; owned */
    struct group *plain; /* hinted: the failed group in whose place it stands; owned, and not in plan->groups */
    struct slot slots[];
};

struct plan_task {
    int64_t id;
    int64_t environment;
    bool holdout, quarantined;
    int64_t level;
    const char *body, *hint;
    uint8_t void_streak;
    int64_t phase; /* WebRL: the first one it may be drawn in */
    bool generated, candidate, refused;
    struct record record;
    bool solved;              /* its newest plain episodes all won (GAIN-RL) */
    struct store_score score; /* the newest that is known here; version -1: none */
};

/* Weights that workers can pull. */
struct published {
    int64_t lineage, version;
    char digest[DIGEST_HEX_BYTES];
    char where[1024];
};

struct evaluation {
    struct evaluation *next;
    int64_t lineage, version;
    struct published weights; /* of this version, maybe by a lineage before or after its own */
    size_t episodes, open;
    size_t done, successes;
};

struct queue {
    struct slot *first, *last;
};

/* Figures of the batch that was handed out, for its metrics. */
struct batch_figures {
    int64_t update;
#define FIGURE(name, doc) double name;
#include "services/data/figures.def"
#undef FIGURE
};

struct plan {
    struct plan *next_over; /* in data->over */
    int64_t job;
    struct arena arena; /* spec, tasks: as long as the plan */
    struct job_spec spec;
    const char *spec_text;
    bool running; /* past `starting` */
    bool paused;
    int64_t lineage, updates_done, version;
    int64_t published; /* newest published version of this lineage, -1: none yet */
    char published_digest[DIGEST_HEX_BYTES];
    char published_where[1024];
    char trainer[BUS_PEER_BYTES]; /* owns the lineage */
    int64_t resume_version;       /* -1: from scratch */
    char resume_path[1024];
    char resume_sha256[DIGEST_HEX_BYTES];
    int64_t checkpoint_version; /* newest committed of this lineage or before, -1 */
    int64_t checkpoint_update;  /* last update in it, -1 */
    struct plan_task *tasks;
    size_t task_count, task_room;
    size_t *train[JOB_ENVIRONMENTS]; /* task indices by environment */
    size_t train_count[JOB_ENVIRONMENTS];
    size_t *holdout;
    size_t holdout_count;
    struct curriculum_environment draws[JOB_ENVIRONMENTS];
    int64_t next_group, next_episode, next_token;
    int64_t fresh, replacements; /* groups planned */
    int64_t demonstrations;
    int64_t tokens_spent; /* processed by rollouts, evaluations left out */
    size_t demonstrations_open;
    struct group *groups;
    struct slot **buckets;
    size_t bucket_count, slot_count;
    struct queue pending[GROUP_SOURCES];
    size_t payload_bytes;
    struct evaluation *evaluations;
    int64_t last_evaluated; /* newest version with an ended evaluation, -1 */
    double last_success;
    int64_t skipped_in_a_row;
    const char *hopeless; /* why the job fails with this turn; NULL: it does not */
    struct errors errors[JOB_ENVIRONMENTS];
    const char *ending; /* reason, once no further update is handed out */
    bool end_said;      /* the trainer was told */
    struct batch_figures figures;
    struct method_figures method_figures;
    struct replay_ratio ratio; /* after the newest update recorded */
    struct rates rates;
    struct gain gain;                           /* likewise */
    struct phase phase;                         /* likewise */
    int64_t replayed_update;                    /* a batch that was handed out by this process, */
    size_t replayed;                            /* and its members that were replayed */
    uint64_t episodes, tokens, retried, voided; /* since this process started */
    int64_t lag_said;                           /* version for which a lag alarm was raised */
    uint64_t started_ms;
    uint64_t moved_ms; /* last time an episode, a batch, an update or an evaluation was recorded */
    uint64_t failures; /* attempts that failed since then */
    char last_failure[160];
    bool stall_said; /* there is an alarm about this stall */
};

err_t plan_new(struct plan **ret) MUST_USE;
void plan_free(struct plan **plan);
/* Parses the spec (kept as text too) and makes the tables that follow from it. */
err_t plan_set_spec(struct plan *plan, const char *text) MUST_USE;
/* One more task; pointers into tasks are no longer good. */
err_t plan_add_task(struct plan *plan, const struct plan_task *task) MUST_USE;
/* Fills train, holdout and draws from tasks: those of the phase that began last, or before. */
err_t plan_index_tasks(struct plan *plan) MUST_USE;
/* A new group of pending, unwritten slots in its queue. */
err_t plan_add_group(struct plan *plan, struct group **ret, enum group_source source, size_t task, size_t size) MUST_USE;
void plan_remove_group(struct plan *plan, struct group *group); /* and what it holds */
/* Takes a closed group out of the plan's groups: it is kept with the hinted group in its place. */
void plan_hold_group(struct plan *plan, struct group *plain, struct group *hinted);
void plan_drop_payloads(struct plan *plan, struct group *group); /* they are in the ledger */
struct slot *plan_slot(struct plan *plan, int64_t episode);      /* NULL when it is not open here */
void plan_queue(struct plan *plan, struct slot *slot, bool in_front);
struct slot *plan_dequeue(struct plan *plan, enum group_source source); /* NULL when empty */
/* Keeps a copy of an ended episode's payload, within PLAN_PAYLOAD_BYTES. */
void plan_keep_payload(struct plan *plan, struct slot *slot, struct span payload, int64_t raw);
/* Nothing could be heard for so long: leases end later, nobody kept an update waiting, the job did not stand still. */
void plan_postpone(struct plan *plan, uint64_t ms, uint64_t now);
/* Groups of an update that are closed. */
size_t plan_closed_for(const struct plan *plan, int64_t update);
/* Does an update consume groups of this source? */
bool plan_is_for_update(enum group_source source);
const char *plan_source_name(enum group_source source);
bool plan_source_find(const char *name, enum group_source *ret);
/* The sampling seed of an attempt, and the environment's seed of an episode. Both fit a bigint. */
int64_t plan_seed(const struct plan *plan, int64_t episode, int64_t attempt);
int64_t plan_episode_seed(const struct plan *plan, int64_t episode);

#endif
