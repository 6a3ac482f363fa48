/* The environment contract.
 *
 * An environment is a row of functions (struct env_class) over a state that the caller owns: `state_bytes` zeroed bytes,
 * 64-byte aligned. Everything random comes from the task's seed, so the same task and the same actions give the same
 * observations on every machine. No globals, no allocation, no I/O. Life cycle: reset -> step* ; a state needs no closing
 * (providers that own processes live in services/env).
 *
 * A task is text: one line of JSON made by `generate` or `mutate` (or read from a JSONL file) and understood by `reset`.
 * Rewards are 0 or 1, from a verifier, on the last step. `terminated` means the episode's own end; `truncated` that the
 * step limit was reached (the caller's business). A wrong action by the agent is an ordinary observation ("you can't do
 * that"), never an error; err_t is for broken tasks. */
#ifndef PAL_ENV_ENV_H
#define PAL_ENV_ENV_H

#include "services/common/base/digest.h"
#include "services/common/base/err.h"
#include "services/common/base/rng.h"
#include "services/common/base/span.h"

#define ENV_TASK_BYTES   1024 /* longest task text, terminator included */
#define ENV_TEXT_BYTES   2048 /* longest observation of a built-in environment */
#define ENV_ACTION_BYTES 256  /* longer actions are cut by the caller before they get here */
#define ENV_HINT_BYTES   256

struct env_task {
    int32_t level; /* 1.. */
    uint64_t seed;
    char text[ENV_TASK_BYTES]; /* JSON object on one line, terminated */
};

struct env_obs {
    char text[ENV_TEXT_BYTES]; /* printable ASCII and newlines, terminated, no trailing newline */
    double reward;             /* 0 or 1; 0 until the end */
    bool terminated;
};

enum env_mutation { ENV_MUTATION_HARDER, ENV_MUTATION_EASIER, ENV_MUTATION_VARIED };

struct env_class {
    const char *name;
    const char *doc;   /* one sentence */
    int32_t levels;    /* levels are 1..levels */
    int32_t max_steps; /* sensible default limit */
    size_t state_bytes;
    const char *const *words; /* vocabulary for the presets' tokenizer, NULL-terminated */

    /* The task of (level, seed). ERR_invalid outside the levels. variant: NULL or an environment-specific name. */
    err_t (*generate)(int32_t level, uint64_t seed, const char *variant, struct env_task *ret);
    /* A neighbour of a task: one notch harder or easier (staying within the levels), or the same difficulty varied. */
    err_t (*mutate)(const struct env_task *task, enum env_mutation kind, uint64_t seed, struct env_task *ret);
    /* Starts the episode. episode_seed matters only to variants that are random per episode.
     * ERR_malformed when the text is no task of this environment. */
    err_t (*reset)(void *state, struct span task_text, uint64_t episode_seed, struct env_obs *ret);
    /* One action: trimmed by the environment, case kept. */
    err_t (*step)(void *state, struct span action, struct env_obs *ret);
    /* The scripted expert's next action; with probability noise a random legal action instead. Always solves when noise is 0.
     * action holds ENV_ACTION_BYTES. */
    void (*expert)(const void *state, double noise, struct rng *rng, char *action);
    /* What would help an agent most, in one line ("" if nothing); hint holds ENV_HINT_BYTES. */
    void (*hint)(const void *state, char *hint);
    /* SHA-256 of the canonical initial state (what makes two tasks the same task), from a state just reset. */
    err_t (*digest)(const void *state, struct digest *ret);
};

/* All built-in environments (registry.c; one row each). */
const struct env_class *env_find(const char *name); /* NULL when there is none */
size_t env_count(void);
const struct env_class *env_at(size_t index);

#endif
