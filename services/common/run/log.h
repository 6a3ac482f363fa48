/* The log of a process: one line per event on standard error, which the supervisor files.
 * A failure is logged once, by the handler where it ends. */
#ifndef PAL_RUN_LOG_H
#define PAL_RUN_LOG_H

#include "services/common/base/err.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* name is kept by reference. PAL_LOG=error|warn|info|debug in the environment sets the level. */
void log_open(const char *name);
void log_line(enum log_level level, const char *fmt, ...) PRINTF(2, 3);
/* "what: code: sentence (place)" of the last err_set of this thread. */
void log_err(enum log_level level, err_t err, const char *what);

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
