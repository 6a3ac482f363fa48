/* An episode that was played with a context per turn: from its whole sequence to its segments, and back.
 *
 * The whole is one sequence as it was played, each token once. Its segments (sequence.h) are what the model saw at each turn:
 * the prefix (the hint, and what every context of the model begins with), what the turn's context repeats of earlier turns,
 * and the turn itself. */
#ifndef PAL_ROLLOUT_SEGMENTS_H
#define PAL_ROLLOUT_SEGMENTS_H

#include "rollout/sequence.h"

/* whole: one context, every turn has tokens; the first `prefix` of them begin every context. Turn t > 0 repeats tokens
 * [window[t], its first token) behind the prefix; window is [turns], its first entry is not read. A sequence of one turn
 * stays as it is. The result lives in the arena. ERR_invalid when a window is in the prefix or past its turn, or the hint
 * past the prefix; ERR_too_large past SEQUENCE_MAX_TOKENS. */
err_t segments_cut(const struct sequence *whole, uint32_t prefix, const uint32_t *window, struct arena *arena,
                   struct sequence *ret) MUST_USE;
/* The new parts of the segments, one after the other; a sequence of one context is borrowed as it is. */
err_t segments_join(const struct sequence *sequence, struct arena *arena, struct sequence *ret) MUST_USE;

#endif
