/* What the built-in environments share: their task text, bounded text and shuffles. Internal to env/.
 *
 * A built-in task is {"level":2,"seed":7} with an optional "variant". Seeds keep 53 bits, so that every JSON reader in
 * the world returns the number it was given. The reader is strict: it accepts these keys once each and nothing else. */
#ifndef PAL_ENV_KIT_H
#define PAL_ENV_KIT_H

#include "env/env.h"

#define KIT_SEED_MAX (((uint64_t)1 << 53) - 1)

struct kit_rules {
    const char *name;
    int32_t levels;
    int32_t last_step;           /* harder goes no further than this level; levels above it are a kind of their own */
    const char *const *variants; /* NULL-terminated, or NULL when there are none */
};

struct kit_task {
    int32_t level;
    uint64_t seed;
    const char *variant; /* one of the rules', or NULL */
};

err_t kit_generate(const struct kit_rules *rules, int32_t level, uint64_t seed, const char *variant,
                   struct env_task *ret) MUST_USE;
/* Harder and easier move one level where there is one, varied stays; each draws a new seed from the task's and `seed`. */
err_t kit_mutate(const struct kit_rules *rules, const struct env_task *task, enum env_mutation kind, uint64_t seed,
                 struct env_task *ret) MUST_USE;
/* ERR_malformed names the field. */
err_t kit_parse(const struct kit_rules *rules, struct span text, struct kit_task *ret) MUST_USE;

/* The randomness of a task: the same for the same (environment, level, seed). */
void kit_rng(const struct kit_task *task, uint64_t salt, struct rng *ret);
void kit_shuffle(struct rng *rng, uint8_t *items, size_t count);

/* Appends to a terminated text of `size` bytes; what does not fit is cut. */
void kit_text(char *text, size_t size, const char *fmt, ...) PRINTF(3, 4);
/* Without the white space around it. */
struct span kit_trim(struct span text);
/* Takes the first word (and the spaces behind it) off *rest. */
struct span kit_word(struct span *rest);

/* The answer of one step. */
void kit_answer(struct env_obs *ret, const char *text);
void kit_end(struct env_obs *ret, const char *text, double reward);

#endif
