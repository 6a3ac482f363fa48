/* Programs that are run to their end, with a deadline: text in, output back. */
#ifndef PAL_RUN_CHILD_H
#define PAL_RUN_CHILD_H

#include "services/common/base/buf.h"

#include <sys/types.h>

/* Starts argv[0] (a path, or found in PATH) in directory "/" with default signals; in_fd, out_fd become its standard
 * input, and output and error; -1 keeps ours. */
err_t child_spawn(char *const *argv, int in_fd, int out_fd, pid_t *ret) MUST_USE;

/* Waits at most timeout_ms for its end and reaps it: ERR_timeout when it still runs. ret_status as of waitpid. */
err_t child_wait(pid_t pid, int timeout_ms, int *ret_status) MUST_USE;

/* Runs it to its end: input is its standard input (at most 4 KB, a pipe holds it), output and error are appended to `output`
 * up to its maximum, the rest is dropped. ERR_timeout after killing it; ERR_io when it ended otherwise than with 0, with the
 * last line it wrote. */
err_t child_run(char *const *argv, struct span input, int timeout_ms, struct buf *output) MUST_USE;

#endif
