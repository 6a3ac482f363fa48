/* WebRL's phases (Qi et al., WebRL: Training LLM Web Agents via Self-Evolving Online Curriculum Reinforcement Learning,
 * arXiv 2411.02337): a phase is `length` updates; its failed tasks seed the tasks of the next one.
 *
 * Phase p has the updates p length + 1 to (p + 1) length. Without overlap a group of a later phase may start only once that
 * phase has begun. Candidate i is made from the seed i mod seeds, one notch harder, easier or varied in turn; the turn is
 * shifted by one with each round, so that every seed meets every kind. */
#ifndef PAL_CURATION_PHASE_H
#define PAL_CURATION_PHASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum phase_state {
    PHASE_COLLECTING, /* its groups are planned, played and trained on */
    PHASE_TRAINING,   /* its last batch is handed out; its checkpoint is waited for */
    PHASE_GENERATING, /* tasks of the next phase are made, checked and scored */
};

const char *phase_state_name(enum phase_state state);

/* length >= 1, update >= 1. */
int64_t phase_of(int64_t update, int64_t length);
int64_t phase_last(int64_t phase, int64_t length); /* its last update */
bool phase_ends(int64_t update, int64_t length);
/* May a group of this update start while phase `now` is the newest that began? */
bool phase_may_start(int64_t update, int64_t now, int64_t length, bool overlap);

struct phase_candidate {
    size_t seed;     /* which of the failed tasks */
    int mutation;    /* 0 harder, 1 easier, 2 varied: the order of enum env_mutation */
    uint64_t random; /* what the environment makes of it */
};
/* Candidate number `index` for a phase; seeds >= 1. */
struct phase_candidate phase_candidate(uint64_t job_seed, int64_t phase, size_t index, size_t seeds);

/* The critic's filter: V of the start in [low, high]; what is not a number is outside. */
bool phase_in_band(double value, double low, double high);
/* Is a task one that the outcome reward model is tested on (a fifth of them) and never learns from? */
bool phase_tests(uint64_t job_seed, int64_t task);

#endif
