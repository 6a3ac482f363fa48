/* Combinations of the methods that make no sense. */
#include "services/common/job/check.h"

static void check_replay_ratio(struct job_reader *reader, const struct job_spec *spec)
{
    const struct job_replay_ratio *r = &spec->replay_ratio;
    if (!r->on) return;
    if (spec->trainer.epochs != 1)
        job_problem(reader, "/trainer/epochs",
                    "is %lld; must be 1 with curation.replay_ratio, which says how many passes an update makes",
                    (long long)spec->trainer.epochs);
    if (r->low > r->high)
        job_problem(reader, "/curation/replay_ratio/low", "is %g, which is above high (%g)", r->low, r->high);
}

void job_check_methods(struct job_reader *reader, const struct job_spec *spec)
{
    check_replay_ratio(reader, spec);
}
