/* Episodes and their payloads in the ledger, written in sets. */
#ifndef PAL_STORE_STORE_EPISODE_H
#define PAL_STORE_STORE_EPISODE_H

#include "services/common/store/store.h"

/* A slot, as planned or leased; also how slots are read back. */
struct store_episode {
    int64_t id;
    int64_t group;
    int64_t slot;
    bool leased; /* else pending */
    int64_t attempt;
    int64_t token;
    const char *worker; /* "" while it was never leased */
    int64_t seed;
    int64_t max_steps;
    bool hinted;
    const char *script; /* actions to play, one a line; NULL or "" without */
    /* read back only */
    const char *state;
    const char *outcome; /* "" for none */
    struct span *failures;
    size_t failure_count;
    double reward;
    int64_t steps, prompt_tokens, action_tokens;
    int64_t version_min;
    double *turn_entropy, *turn_tokens; /* [turns], [turns_told]: 0 where none were told */
    size_t turns, turns_told;
};

/* An attempt that ended. */
struct store_episode_end {
    int64_t id;
    int64_t token;
    const char *state; /* done | void | pending (to be tried again) */
    const char *outcome;
    bool failed;   /* adds the outcome to failures */
    double reward; /* of done */
    int64_t steps, prompt_tokens, action_tokens;
    int64_t version_min, version_max;        /* -1: none */
    const float *turn_entropy, *turn_tokens; /* [turns]; tokens may be NULL: not told */
    size_t turns;
    bool judged; /* the reward is a judge's, and `verified` the environment's own */
    double verified;
    const char *scores; /* JSON object; NULL: nothing was measured */
    double engine_ms, env_ms;
    struct span payload; /* empty: none is stored */
    int64_t payload_raw;
    const char *error; /* "" for none */
};

/* Rows of all jobs, as of the last statistics. */
err_t store_episode_rows(struct store *store, uint64_t *ret) MUST_USE;
err_t store_episode_insert(struct store *store, int64_t job, const struct store_episode *episodes, size_t count) MUST_USE;
/* Pending slots that are leased now: attempt, token, worker and seed are set. ERR_conflict unless all were pending. */
err_t store_episode_lease(struct store *store, int64_t job, const struct store_episode *episodes, size_t count) MUST_USE;
/* Only leased slots with the same token change; ERR_conflict unless all did. */
err_t store_episode_end(struct store *store, int64_t job, const struct store_episode_end *ends, size_t count) MUST_USE;
/* Slots of these groups, by group and slot. */
err_t store_episode_list(struct store *store, int64_t job, const int64_t *groups, size_t count, struct arena *arena,
                         struct store_episode **ret, size_t *ret_count) MUST_USE;

/* Which of these scripts are played or were played for their tasks. */
err_t store_episode_imported(struct store *store, int64_t job, const int64_t *tasks, const char *const *scripts, size_t count,
                             bool *ret) MUST_USE;

struct store_payload {
    int64_t episode;
    int64_t raw_size;
    struct span bytes;
};
/* In the order of `episodes`; ERR_not_found when one is missing. */
err_t store_payload_read(struct store *store, int64_t job, const int64_t *episodes, size_t count, struct arena *arena,
                         struct store_payload *ret) MUST_USE;

#endif
