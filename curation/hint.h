/* Hints (Guide, arXiv 2506.13923): when a group is played again with one, and what the agent reads then.
 *
 * A plain group whose mean reward is at most the threshold (the authors: 0.001, every rollout wrong) is played again with
 * the task's hint in the context; what is learned from it is learned as if it had been played without (trainer/). */
#ifndef PAL_CURATION_HINT_H
#define PAL_CURATION_HINT_H

#include "services/common/base/buf.h"

#define HINT_MARK  "{hint}"
#define HINT_BYTES 1024 /* most bytes of a rendered hint */

bool hint_wanted(double mean_reward, double threshold);
/* Appends the template with every {hint} in it replaced; line ends of the hint become spaces, since a hint is one line.
 * ERR_too_large past HINT_BYTES, ERR_invalid when the template has no {hint}. */
err_t hint_render(struct span template, struct span hint, struct buf *out) MUST_USE;

#endif
