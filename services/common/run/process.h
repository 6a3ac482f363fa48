/* What a process of this machine is doing, from /proc: evidence for a status page that must say why something does not
 * answer. */
#ifndef PAL_RUN_PROCESS_H
#define PAL_RUN_PROCESS_H

#include "services/common/base/err.h"

enum process_state {
    PROCESS_GONE,    /* there is none, or it was not reaped yet */
    PROCESS_RUNS,    /* running, or waiting for something */
    PROCESS_DISK,    /* waits for a device and cannot be interrupted */
    PROCESS_STOPPED, /* SIGSTOP, or a debugger */
};

enum process_state process_state(long pid);
/* "is stopped by a signal", ...; and what it comes from and how it is mended. */
const char *process_state_name(enum process_state state);
const char *process_cause(enum process_state state);
/* How many processes have this parent, and how many of them are stopped. */
void process_children(long parent, size_t *ret_count, size_t *ret_stopped);

/* RUN_DIR/NAME.pid: who is this service here? */
err_t process_note(const char *run_dir, const char *name) MUST_USE;
long process_noted(const char *run_dir, const char *name); /* 0 when it is not known */
/* The first number of a file, as in postmaster.pid; 0 when there is none. */
long process_read_pid(const char *path);

#endif
