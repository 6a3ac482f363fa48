/* Where a stack keeps things: everything under one state directory, sockets in a short path.
 * Unix socket paths end near 100 bytes, so a long state directory gets its sockets in /tmp/pal-UID-HASH. */
#ifndef PAL_RUN_RUNDIR_H
#define PAL_RUN_RUNDIR_H

#include "services/common/base/err.h"

/* The directory for sockets of this (absolute) state directory; not created. */
err_t rundir_path(const char *state_dir, char *ret, size_t size) MUST_USE;
/* mkdir -p with 0700 for what is new. */
err_t rundir_make(const char *path) MUST_USE;
/* The prefix of this stack's shared-memory files: "/dev/shm/pal-HASH-". */
err_t rundir_shm_prefix(const char *state_dir, char *ret, size_t size) MUST_USE;

#endif
