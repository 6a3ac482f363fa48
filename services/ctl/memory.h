/* How much memory a job's processes will take at most, before it runs: the formula of docs/memory.md. */
#ifndef PAL_CTL_MEMORY_H
#define PAL_CTL_MEMORY_H

#include "services/common/job/job.h"
#include "trainer/model/model.h"

struct memory {
    size_t trainer, rollout; /* bytes of pal-trainer and of pal-rollout */
};

struct memory memory_of(const struct job_spec *spec, const struct model_config *model, size_t threads);

#endif
