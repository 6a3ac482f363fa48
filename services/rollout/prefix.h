/* Beginnings that are computed once (prefix.c). */
#ifndef PAL_ROLLOUT_SERVICE_PREFIX_H
#define PAL_ROLLOUT_SERVICE_PREFIX_H

#include "services/rollout/rollout.h"

/* Of seats that play with one policy and have their slots: gives those with an empty slot what another slot holds of their
 * beginning, and moves those that had better wait for one of the others to the end. Returns how many may be fed now, at least
 * one; the rest come through here again after that. */
size_t prefix_share(struct rollout *rollout, struct seat **seats, size_t count);

#endif
