/* The table of rotary positions: for each position E/2 cosines, then E/2 sines, of position * f(theta^(-2i/E)), where f is
 * the config's scaling. */
#ifndef PAL_TRAINER_MODEL_ROPE_H
#define PAL_TRAINER_MODEL_ROPE_H

#include "trainer/model/model.h"

/* [positions, head_dim] floats, malloced; ERR_memory. */
err_t rope_table(float **ret, const struct model_config *config, size_t positions) MUST_USE;

#endif
