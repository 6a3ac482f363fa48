/* One sequence form for every loss (DESIGN section 10): what an episode's payload holds.
 *
 * A sequence is T tokens in the order the model saw them. Tokens of observations have target 0; tokens that were sampled (or
 * shown by a demonstration) have target 1 and, if sampled, the log-prob and full-vocabulary entropy (nats, tempered) under
 * the distribution they were drawn from and the policy version that drew them. Encoded little-endian with a magic, a format
 * number and counts that are checked before memory is taken; compression is the caller's. Text is not stored: tokens decode
 * to it; the transcript on the outside is made from tokens and turns.
 *
 * Two contexts in one sequence (Guide): the first `hint` tokens are the hint's line; without them it is the plain context.
 * Several contexts (rollout.context step): segment i is tokens [segment[i], segment[i + 1]), a sequence of its own that ends
 * with its turn's action. It begins with the same hint, if there is one, and with what it repeats of earlier turns: tokens
 * before own[i], never targets. From own[i] on it is new; the new parts one after the other are the episode as it was
 * played, every target in one of them. All tokens of a segment are of its turn; the last segment may hold the last
 * observation and no target. */
#ifndef PAL_ROLLOUT_SEQUENCE_H
#define PAL_ROLLOUT_SEQUENCE_H

#include "services/common/base/arena.h"
#include "services/common/base/buf.h"

#define SEQUENCE_MAX_TOKENS (1u << 20)

struct sequence {
    uint32_t count; /* T */
    uint32_t turns;
    const int32_t *token;    /* [T] */
    const uint8_t *target;   /* [T] 0 or 1 */
    const uint16_t *turn;    /* [T] the turn a token belongs to: its observation and its action */
    const float *logp;       /* [T] behave log-prob, 0 where target is 0 or nothing was sampled */
    const float *entropy;    /* [T] nats, 0 likewise */
    const int32_t *version;  /* [T] policy version that drew it, -1 likewise */
    bool sampled;            /* false: a demonstration without log-probs */
    uint32_t hint;           /* leading tokens that only the hinted context has; 0 without a hint */
    uint32_t segments;       /* 0 or 1: the whole sequence is one context, and nothing is read from the two arrays */
    const uint32_t *segment; /* [segments + 1] ascending from 0 to T; NULL with one context */
    const uint32_t *own;     /* [segments] first token of each segment that is new; own[0] is 0; NULL likewise */
};

err_t sequence_encode(const struct sequence *sequence, struct buf *out) MUST_USE;
/* Arrays live in the arena. ERR_malformed says what is wrong: bad magic, lengths, a target without a finite log-prob <= 0,
 * a turn out of order, a target in a hint or in what a segment repeats. Payloads of format 1 are read, too. */
err_t sequence_decode(struct span bytes, struct arena *arena, struct sequence *ret) MUST_USE;

#endif
