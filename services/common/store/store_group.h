/* Episode groups in the ledger, written in sets. */
#ifndef PAL_STORE_STORE_GROUP_H
#define PAL_STORE_STORE_GROUP_H

#include "services/common/store/store.h"

struct store_group {
    int64_t id;
    int64_t task;
    const char *source; /* fresh | hinted | demonstration | import | evaluation | score */
    int64_t size;
    int64_t update_for;  /* -1: none */
    int64_t pin_version; /* -1: none */
    int64_t min_version;
    int64_t replaces;        /* -1: none */
    int64_t refills;         /* groups without signal that had its place before; read only */
    int64_t phase;           /* WebRL */
    int64_t of_episode;      /* score: the stored episode that is measured, -1: none */
    int64_t pool;            /* the episode that saved it, -1: none; read only */
    const char *state;       /* read only */
    const char *verdict;     /* read only, "" while open */
    const double *advantage; /* by slot, NaN where it is not trained on; read only, NULL when there is none */
    size_t advantage_count;
};

struct store_group_close {
    int64_t id;
    const char *state;   /* closed | void */
    const char *verdict; /* signal | no_signal | void | measured | refilled | stale | hinted */
    int64_t done;
    double reward_sum;
    const double *advantage; /* [advantage_count] by slot, NaN where it is not trained on, then the pool's; NULL: none */
    size_t advantage_count;
    int64_t pool; /* the episode that saved it, -1: none */
};

err_t store_group_insert(struct store *store, int64_t job, const struct store_group *groups, size_t count) MUST_USE;
err_t store_group_close(struct store *store, int64_t job, const struct store_group_close *groups, size_t count) MUST_USE;
/* Episodes of a group that its hinted group took in: their advantages, known when that one closes. */
err_t store_group_share(struct store *store, int64_t job, int64_t group, const double *advantage, size_t count) MUST_USE;
/* What the mirror needs after a restart: open groups, closed demonstration groups while updates_done is -1, and what closed
 * for updates past updates_done. */
err_t store_group_list(struct store *store, int64_t job, int64_t updates_done, struct arena *arena, struct store_group **ret,
                       size_t *ret_count) MUST_USE;

struct store_group_counts {
    int64_t next_group, next_episode, next_token; /* first unused */
    int64_t fresh;                                /* fresh groups planned, replacements included */
    int64_t replacements;
    int64_t demonstrations; /* demonstration groups planned */
    int64_t tokens;         /* of all done episodes that are no evaluation */
};
err_t store_group_counts(struct store *store, int64_t job, struct store_group_counts *ret) MUST_USE;
/* Void groups of a task after its last closed one, tasks without any left out; evaluations do not count. */
struct store_void_streak {
    int64_t task, groups;
};
err_t store_group_void_streaks(struct store *store, int64_t job, struct arena *arena, struct store_void_streak **ret,
                               size_t *ret_count) MUST_USE;
/* Fresh groups planned per environment, [environments]. */
err_t store_group_drawn(struct store *store, int64_t job, uint64_t *ret, size_t environments) MUST_USE;
/* Voids open groups that are pinned past a version and those that score (they are planned anew), or all open ones, with the
 * outcome cancelled. */
#define STORE_GROUP_ALL (-2)
err_t store_group_abandon(struct store *store, int64_t job, int64_t pinned_past) MUST_USE;
/* One open group that came too late: void with verdict stale, its open slots void with outcome stale. */
err_t store_group_drop(struct store *store, int64_t job, int64_t group) MUST_USE;
/* The open slots of a group are void, with an outcome that is a failure. */
err_t store_group_void_slots(struct store *store, int64_t job, int64_t group, const char *outcome) MUST_USE;

#endif
