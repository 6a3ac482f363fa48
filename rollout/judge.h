/* Asking an outcome reward model whether an episode solved its task (WebRL, arXiv 2411.02337, ALGORITHMS B 2.3).
 *
 * The judge is a model of the policy's shape. It reads the episode as it was played, the hint left out, and then the verdict
 * prompt; its verdict is P(YES) / (P(YES) + P(NO)) of the next token's distribution, solved at 0.5 or more. It learns by
 * cross-entropy on that next token: judge_layout and then `yes` or `no` is the sequence, the last token its only target. YES
 * and NO are the letters Y and N, and the prompt is printable ASCII, which every tokenizer has.
 *
 * What is longer than the room is cut in the middle: the first observation, which says what the task is, and the newest
 * tokens stay. */
#ifndef PAL_ROLLOUT_JUDGE_H
#define PAL_ROLLOUT_JUDGE_H

#include "rollout/sequence.h"
#include "trainer/model/tokenizer.h"

#define JUDGE_PROMPT      "\nsolved?"
#define JUDGE_PROMPT_MOST 16  /* tokens */
#define JUDGE_SOLVED      0.5 /* least score of a solved episode */

struct judge {
    int32_t prompt[JUDGE_PROMPT_MOST];
    uint32_t prompt_count;
    int32_t yes, no;
};

/* ERR_unsupported when the tokenizer has no single token for a letter. */
err_t judge_init(struct judge *judge, const struct tokenizer *tokenizer) MUST_USE;

/* The tokens that the judge reads of an episode (of one context or of several), the prompt included: into tokens [room],
 * returns how many; 0 when the room is not even enough for the prompt and one token of the episode. One more position is
 * needed behind them to learn. */
uint32_t judge_layout(const struct judge *judge, const struct sequence *sequence, int32_t *tokens, uint32_t room);

/* P(YES) / (P(YES) + P(NO)) from the logits [V] behind the layout: 1 / (1 + e^(no - yes)). */
double judge_score(const struct judge *judge, const float *logits);

#endif
