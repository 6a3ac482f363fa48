#include "services/common/run/process.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 600

/* The letter of /proc/PID/stat and the parent; false when there is no such process. */
static bool read_stat(const char *pid, char *ret_letter, long *ret_parent)
{
    char path[300], text[1024] = "";
    (void)snprintf(path, sizeof path, "/proc/%s/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file) return false;
    bool good = fgets(text, sizeof text, file) != NULL;
    (void)fclose(file);
    const char *close = strrchr(text, ')'); /* a name may hold spaces and brackets */
    return good && close && sscanf(close + 1, " %c %ld", ret_letter, ret_parent) == 2;
}

static enum process_state state_of(char letter)
{
    if (letter == 'T' || letter == 't') return PROCESS_STOPPED;
    if (letter == 'D') return PROCESS_DISK;
    return letter == 'Z' || letter == 'X' ? PROCESS_GONE : PROCESS_RUNS;
}

enum process_state process_state(long pid)
{
    char name[32], letter = 0;
    long parent = 0;
    (void)snprintf(name, sizeof name, "%ld", pid);
    return pid > 0 && read_stat(name, &letter, &parent) ? state_of(letter) : PROCESS_GONE;
}

const char *process_state_name(enum process_state state)
{
    switch (state) {
    case PROCESS_GONE:
        return "is not there";
    case PROCESS_RUNS:
        return "runs";
    case PROCESS_DISK:
        return "waits for a device";
    case PROCESS_STOPPED:
        return "is stopped";
    }
    return "";
}

const char *process_cause(enum process_state state)
{
    switch (state) {
    case PROCESS_GONE:
        return "it died and was not started again yet: its log says why";
    case PROCESS_RUNS:
        return "it is busy or hangs: its log may say with what; killed, it is started again";
    case PROCESS_DISK:
        return "a disk or network drive does not answer";
    case PROCESS_STOPPED:
        return "a signal (SIGSTOP) or a debugger stopped it: kill -CONT, or kill -9 and it is started again";
    }
    return "";
}

void process_children(long parent, size_t *ret_count, size_t *ret_stopped)
{
    DIR *dir = opendir("/proc");
    *ret_count = *ret_stopped = 0;
    for (struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) {
        char letter = 0;
        long of = 0;
        if (!isdigit((unsigned char)entry->d_name[0]) || !read_stat(entry->d_name, &letter, &of) || of != parent) continue;
        *ret_count += 1;
        *ret_stopped += state_of(letter) == PROCESS_STOPPED;
    }
    if (dir) (void)closedir(dir);
}

err_t process_note(const char *run_dir, const char *name)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s.pid", run_dir, name);
    FILE *file = fopen(path, "we");
    bool good = file && fprintf(file, "%ld\n", (long)getpid()) > 0;
    good = file && fclose(file) == 0 && good;
    return good ? ERR_ok : err_set(ERR_io, "%s: %s", path, strerror(errno));
}

long process_read_pid(const char *path)
{
    char line[32] = "";
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    if (!fgets(line, sizeof line, file)) line[0] = 0;
    (void)fclose(file);
    return strtol(line, NULL, 10);
}

long process_noted(const char *run_dir, const char *name)
{
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s.pid", run_dir, name);
    return process_read_pid(path);
}
