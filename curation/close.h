/* When a group closes, and whether it was worth something.
 *
 * A slot ends `done` (with an outcome) or `void` (its retries are spent). A group closes when no slot is open. It then needs
 * max(2, ceil(n/2)) done slots (groups of size 1: that one), else it is void and a replacement is drawn. Three void groups of
 * a task in a row quarantine the task. (docs/architecture.md, admission and leases.) */
#ifndef PAL_CURATION_CLOSE_H
#define PAL_CURATION_CLOSE_H

#include <stdbool.h>
#include <stddef.h>

#define CLOSE_VOIDS_TO_QUARANTINE 3

enum close {
    CLOSE_OPEN,   /* a slot has not ended yet */
    CLOSE_CLOSED, /* closed with enough outcomes */
    CLOSE_VOID,   /* closed with too few */
};

const char *close_name(enum close verdict); /* "open", "closed", "void": the states of episode_group */

/* Done slots that a group of this size (>= 1) needs. */
size_t close_needs(size_t size);
/* size >= 1, done + voided <= size. */
enum close close_verdict(size_t size, size_t done, size_t voided);
/* Void groups of one task in a row, the newest included. */
bool close_quarantines(size_t voids_in_a_row);

#endif
