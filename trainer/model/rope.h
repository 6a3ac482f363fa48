/* The table of rotary positions: for each position E/2 cosines, then E/2 sines, of position * theta^(-2i/E). */
#ifndef PAL_TRAINER_MODEL_ROPE_H
#define PAL_TRAINER_MODEL_ROPE_H

#include "trainer/model/model.h"

/* [positions, head_dim] floats, malloced; ERR_memory. */
err_t rope_table(float **ret, const struct model_config *config, size_t positions) MUST_USE;

#endif
