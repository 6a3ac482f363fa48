#include "curation/phase.h"

#include "services/common/base/err.h"
#include "services/common/base/rng.h"

#define MUTATIONS  3
#define TEST_SHARE 5 /* one task in so many */

const char *phase_state_name(enum phase_state state)
{
    static const char *const names[] = {
        [PHASE_COLLECTING] = "collecting", [PHASE_TRAINING] = "training", [PHASE_GENERATING] = "generating"};
    return names[state];
}

int64_t phase_of(int64_t update, int64_t length)
{
    BUG_IF(length < 1);
    return update < 1 ? 0 : (update - 1) / length;
}

int64_t phase_last(int64_t phase, int64_t length)
{
    return (phase + 1) * length;
}

bool phase_ends(int64_t update, int64_t length)
{
    return update >= 1 && update == phase_last(phase_of(update, length), length);
}

bool phase_may_start(int64_t update, int64_t now, int64_t length, bool overlap)
{
    return overlap || phase_of(update, length) <= now;
}

struct phase_candidate phase_candidate(uint64_t job_seed, int64_t phase, size_t index, size_t seeds)
{
    BUG_IF(seeds == 0);
    size_t round = index / seeds;
    return (struct phase_candidate){.seed = index % seeds,
                                    .mutation = (int)((index % seeds + round) % MUTATIONS),
                                    .random = rng_mix(rng_mix(job_seed, (uint64_t)phase), index)};
}

bool phase_in_band(double value, double low, double high)
{
    return value >= low && value <= high;
}

bool phase_tests(uint64_t job_seed, int64_t task)
{
    return rng_mix(job_seed ^ 0x6f726dU, (uint64_t)task) % TEST_SHARE == 0;
}
