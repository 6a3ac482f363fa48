/* An episode as training sees it: tokens, which of them are targets, and what was recorded of them.
 *
 * The arrays are borrowed. An episode without tokens gets no forward pass, but its action tokens stay in the denominator of
 * the update's loss; one without signal but with tokens is only for the value head. Its tokens are one context, or several
 * (segments), each a sequence of its own; a hint stands before every one of them, and a context without it is the plain one.
 * Targets of dropped turns are not trained on. */
#ifndef PAL_TRAINER_EPISODE_H
#define PAL_TRAINER_EPISODE_H

#include "services/common/base/err.h"

#include <stdint.h>

struct episode {
    uint64_t id;
    uint64_t group;
    bool signal;
    bool sampled;            /* false: nothing is on record of its actions; logp is not looked at */
    uint32_t count;          /* T, 0: no tokens, and no array is looked at */
    uint32_t action_tokens;  /* targets without those of dropped turns, also of an episode without tokens */
    uint32_t action_turns;   /* turns with such targets, likewise; 0: not known */
    const int32_t *token;    /* [T] */
    const uint8_t *target;   /* [T] 0 or 1 */
    const float *logp;       /* [T] behave */
    const int32_t *version;  /* [T] policy version that drew it, or NULL: not known */
    uint32_t turns;          /* E */
    const uint16_t *turn;    /* [T] ascending below E, or NULL: all are of turn 0 */
    const uint8_t *dropped;  /* [E] 1: not trained on, or NULL: none is */
    uint32_t hint;           /* tokens of each context that only the hinted one has */
    uint32_t segments;       /* 0 or 1: one context */
    const uint32_t *segment; /* [segments + 1] where each begins, 0 to T; NULL with one context */
    double advantage;
    double reward;
};

/* Tokens [from, to) of the episode that are a context. */
struct episode_context {
    uint32_t from, to;
};

uint32_t episode_contexts(const struct episode *episode); /* 0 without tokens */
/* Context i, with its hint or without. */
struct episode_context episode_context(const struct episode *episode, uint32_t i, bool with_hint);
uint32_t episode_turn(const struct episode *episode, uint32_t at); /* the turn of a token */
bool episode_drops(const struct episode *episode, uint32_t turn);

/* ERR_malformed naming the episode: signal without tokens, contexts, turns or a hint that do not fit its tokens, a
 * target with nothing before it in its plain context, another number of targets or turns than on record, a token outside the
 * vocabulary, a context of more tokens up to its last target than max_tokens, an advantage or reward that is not finite. */
err_t episode_check(const struct episode *episode, int32_t vocab, size_t max_tokens) MUST_USE;

#endif
