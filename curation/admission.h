/* Admission: which update a fresh group is reserved to, when it may start, how old its data may be.
 *
 * updates_done is the last update recorded (-1: none yet, 0: warm start done), so the weights that update g starts from
 * are those after update g - 1. Versions are numbers of updates and have gaps where an update was skipped; therefore every
 * bound on a version is capped by the newest version there is. (docs/architecture.md, admission and leases.) */
#ifndef PAL_CURATION_ADMISSION_H
#define PAL_CURATION_ADMISSION_H

#include <stdbool.h>
#include <stdint.h>

/* The update the next fresh group is reserved to: floor((planned - voided - replaced) / groups_per_update) + 1, where
 * planned counts all fresh groups, voided those with verdict void, replaced those that another one replaced for a different
 * reason (stale, refilled). A replacement is reserved to the update of the group it replaces instead. */
int64_t admission_update(int64_t planned, int64_t voided, int64_t replaced, int64_t groups_per_update);

/* May a group of update g start now? (g - 1) - updates_done <= max_staleness. */
bool admission_may_start(int64_t update, int64_t updates_done, int64_t max_staleness);

/* The oldest version a lease of this group may be played with: min(g - 1 - max_staleness, version after the newest update
 * recorded), at least 0. */
int64_t admission_min_version(int64_t update, int64_t max_staleness, int64_t newest_version);

/* Versions between that of the oldest token and the weights the consuming update starts from; 0 is on-policy. */
int64_t admission_age(int64_t version, int64_t oldest_version);

#endif
