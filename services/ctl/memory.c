#include "services/ctl/memory.h"

#include "services/rollout/policies.h"
#include "services/trainer/assignment.h"
#include "trainer/model/decoder.h"

#define PROCESS_BYTES ((size_t)12 << 20) /* a service that has no job yet */

static size_t trainer_bytes(const struct job_spec *spec, const struct model_config *model, size_t threads)
{
    struct trainee_config config = {.model = *model};
    assignment_trainee_config(spec, &config);
    size_t others = spec->webrl.on ? 2 : spec->trainer.kl > 0 ? 1 : 0; /* reference; with webrl the outcome reward model */
    return PROCESS_BYTES + trainee_bytes_of(&config, threads, others);
}

/* Episodes that run play with as many versions as they may lag behind, and one more that is newer. */
static size_t versions_held(const struct job_spec *spec)
{
    size_t most = (size_t)spec->trainer.max_staleness + 2;
    return most < POLICIES_RESIDENT ? most : POLICIES_RESIDENT;
}

static size_t rollout_bytes(const struct job_spec *spec, const struct model_config *model, size_t threads)
{
    size_t slots = 0, versions = versions_held(spec), context = (size_t)spec->rollout.max_context;
    for (size_t i = 0; i < spec->environment_count; i++) slots += (size_t)spec->environments[i].slots;
    if (context > (size_t)model->max_positions) context = (size_t)model->max_positions;
    const struct decoder_options options = {(uint32_t)slots, (uint32_t)context, spec->rollout.kv_cache == JOB_KV_CACHE_FP16};
    return PROCESS_BYTES + versions * model_parameters(model) * sizeof(float) +
           decoder_bytes_of(model, &options, threads, versions) + learner_bytes_of(model, 1, context, LEARNER_KIND_forward) +
           (slots + 1) * (size_t)model->vocab * sizeof(float);
}

struct memory memory_of(const struct job_spec *spec, const struct model_config *model, size_t threads)
{
    return (struct memory){trainer_bytes(spec, model, threads), rollout_bytes(spec, model, threads)};
}
