/* An episode as training sees it: tokens, which of them are targets, and what was recorded of them.
 *
 * The arrays are borrowed. An episode without signal has none: it gets no forward pass, but its action tokens stay in the
 * denominator of the update's loss. */
#ifndef PAL_TRAINER_EPISODE_H
#define PAL_TRAINER_EPISODE_H

#include "services/common/base/err.h"

#include <stdint.h>

struct episode {
    uint64_t id;
    uint64_t group;
    bool signal;            /* false: count and the arrays are not looked at */
    bool sampled;           /* false: a demonstration; logp is not looked at */
    uint32_t count;         /* T */
    uint32_t action_tokens; /* targets, also of an episode without signal */
    const int32_t *token;   /* [T] */
    const uint8_t *target;  /* [T] 0 or 1 */
    const float *logp;      /* [T] behave */
    const int32_t *version; /* [T] policy version that drew it, or NULL: not known */
    double advantage;
};

/* ERR_malformed naming the episode: no target, a target without anything before it, another number of targets than
 * action_tokens, a token outside the vocabulary, more tokens up to the last target than max_tokens. */
err_t episode_check(const struct episode *episode, int32_t vocab, size_t max_tokens) MUST_USE;
/* Tokens up to and including the last target: what a forward pass needs. */
uint32_t episode_trimmed(const struct episode *episode);

#endif
