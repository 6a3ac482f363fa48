#include "services/common/run/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* set once by log_open before any thread starts */
static const char *log_name = "pal";
static enum log_level log_max = LOG_LEVEL_INFO;

void log_open(const char *name)
{
    log_name = name;
    const char *want = getenv("PAL_LOG");
    const char *const names[] = {"error", "warn", "info", "debug"};
    for (int i = 0; want && i < 4; i++) {
        if (strcmp(want, names[i]) == 0) log_max = (enum log_level)i;
    }
}

void log_line(enum log_level level, const char *fmt, ...)
{
    if (level > log_max) return;
    static const char *const names[] = {"error", "warn", "info", "debug"};
    char line[2048];
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    (void)gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ %s %s: ", now.tv_nsec / 1000000, names[level], log_name);
    va_list args;
    va_start(args, fmt);
    int more = vsnprintf(line + n, sizeof line - n - 1, fmt, args);
    va_end(args);
    n += more > 0 ? (size_t)more : 0;
    if (n > sizeof line - 2) n = sizeof line - 2;
    for (size_t i = 0; i < n; i++) {
        if (line[i] == '\n') line[i] = ' ';
    }
    line[n++] = '\n';
    ssize_t wrote = write(STDERR_FILENO, line, n); /* one write, so lines of threads do not mix */
    (void)wrote;
}

void log_err(enum log_level level, err_t err, const char *what)
{
    log_line(level, "%s: %s: %s (%s)", what, err_name(err), err_text(), err_place());
}
