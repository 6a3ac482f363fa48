/* WebRL's replay: which successes of earlier phases an update trains on again.
 *
 * Those whose perplexity under the previous phase's actor is in [low, high] (1/0.95 to 1/0.5: neither known by heart nor
 * foreign; arXiv 2411.02337, section 3.3) and that were replayed fewer than `cap` times. Least replayed first, then in an
 * order of the update's own. Uses are spread over the phase: an update takes at most its share of the uses that are left, and
 * never more action tokens than `most_tokens` (a multiple of the new ones); what does not fit is passed over. */
#ifndef PAL_CURATION_REPLAY_H
#define PAL_CURATION_REPLAY_H

#include "services/common/base/err.h"

#include <stdint.h>

struct replay_config {
    double low, high; /* perplexity */
    int64_t cap;
    double most_tokens;
    int64_t updates_left; /* of the phase, this one included; >= 1 */
};

struct replay_candidate {
    int64_t episode;
    double perplexity; /* NaN: not measured */
    int64_t uses;
    int64_t tokens; /* sampled */
};

/* May it be replayed at all? */
bool replay_eligible(const struct replay_config *config, const struct replay_candidate *candidate);
/* Writes the places of those chosen, in training order; ret has room for `count`. The same for the same seed. */
err_t replay_choose(const struct replay_config *config, const struct replay_candidate *candidates, size_t count,
                    uint64_t seed, size_t *ret, size_t *ret_count) MUST_USE;

#endif
