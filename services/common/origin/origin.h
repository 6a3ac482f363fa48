/* Where a job's policy begins: a preset's shape with random weights and the words tokenizer, or a Hugging Face directory.
 *
 * Trainer, rollout workers, gateway and `pal export` open the same origin and so agree on shape and token ids; a directory
 * whose files are not those of the submission (policy.init.sha256) is refused. */
#ifndef PAL_ORIGIN_ORIGIN_H
#define PAL_ORIGIN_ORIGIN_H

#include "services/common/job/job.h"
#include "services/common/origin/folder.h"
#include "trainer/model/chat.h"

struct origin {
    struct model_config model;
    struct tokenizer *tokenizer;
    struct chat *chat;    /* NULL: prompts are raw */
    bool pretrained;      /* from a directory; the following are then set */
    struct folder folder; /* open */
    struct hf_config hf;
};

/* ERR_conflict when the directory has changed since it was submitted. The spec is not kept. */
err_t origin_open(const struct job_spec *spec, struct origin *ret) MUST_USE;
void origin_fini(struct origin *origin);
/* The chat template of a directory, for an origin that was opened with raw prompts; origin_open does it where the job says
 * so. */
err_t origin_add_chat(struct origin *origin) MUST_USE;
/* Weights of version 0: from the directory (pretrained), of the origin's shape. */
err_t origin_weights(const struct origin *origin, struct model *model) MUST_USE;

/* At submission, after job_parse: opens the directory and adds to the problems (texts in the arena) what is wrong with it or
 * does not fit the job; fills policy.init.sha256. Nothing to do for presets. ERR_invalid when there is a problem. */
err_t origin_check(struct job_spec *spec, struct arena *arena, struct job_problems *problems) MUST_USE;

#endif
