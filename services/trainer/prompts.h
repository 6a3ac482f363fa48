/* The angle signal of an update's prompts (GAIN-RL, arXiv 2506.02281, ALGORITHMS A6), measured by the learner.
 *
 * A prompt is what the policy read before its first action, the hint left out: one of each group of the batch whose tokens
 * are there, replayed episodes aside. C = C_intra + C_inter as rollout/angle.h has it, the template found as rollout workers
 * find it: what every prompt of the model begins with, whatever the task says. */
#ifndef PAL_SERVICES_TRAINER_PROMPTS_H
#define PAL_SERVICES_TRAINER_PROMPTS_H

#include "services/trainer/intake.h"
#include "trainer/model/chat.h"
#include "trainer/trainee.h"

#define PROMPTS_TEMPLATE 160 /* tokens of a template at most */

struct prompts {
    bool on;
    int32_t opening[PROMPTS_TEMPLATE]; /* an empty first observation's prompt */
    size_t opening_count;
};

/* chat NULL: prompts are raw. ERR_too_large when a template is longer than PROMPTS_TEMPLATE. */
err_t prompts_init(struct prompts *prompts, const struct tokenizer *tokenizer, const struct chat *chat) MUST_USE;
/* Mean C of the prompts under the trainee's weights of now; NaN without a prompt. intake is decoded. */
err_t prompts_angle(const struct prompts *prompts, struct trainee *trainee, const struct intake *intake,
                    double *ret) MUST_USE;

#endif
