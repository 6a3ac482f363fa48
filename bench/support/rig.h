/* A stack for a measurement: started, asked over REST, its processes found, stopped and removed. Every failure ends the
 * program with a sentence. */
#ifndef PAL_BENCH_SUPPORT_RIG_H
#define PAL_BENCH_SUPPORT_RIG_H

#include <curl/curl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct rig {
    char bin[400];   /* where pal lies */
    char state[64];  /* a folder under /tmp */
    char url[64];    /* http://127.0.0.1:PORT */
    long supervisor; /* its pid */
    bool mounted;    /* the folder is a disk of its own */
    CURL *curl;
};

double rig_now(void); /* seconds */
void rig_pause(long ms);
void rig_die(const char *what, const char *why);
/* Options, each "--name" or "--name VALUE" with a word on it, NULL at the end: --help prints them, anything else on the
 * command line ends the program. */
struct rig_words {
    const char *option, *doc;
};
void rig_usage(int argc, char **argv, const struct rig_words *words);
/* "--name VALUE" of the command line, or otherwise. */
const char *rig_option(int argc, char **argv, const char *name, const char *otherwise);
bool rig_flag(int argc, char **argv, const char *name);

void rig_open(struct rig *rig);
bool rig_mount(struct rig *rig, long mib); /* a small disk in the place of the folder; false where that is not allowed */
void rig_close(struct rig *rig);           /* stops the stack and removes the folder */
double rig_start(struct rig *rig);         /* pal up; seconds until it is ready */
/* Runs pal with these words; the first line of its output in ret (may be NULL). */
bool rig_pal(const struct rig *rig, const char *words, char *ret, int size);
/* GET as JSON; NULL when the gateway does not answer with JSON. ret_ms: the time of the whole request (may be NULL). */
json_t *rig_ask(const struct rig *rig, const char *path, double *ret_ms);
json_t *rig_get(const struct rig *rig, const char *path, double *ret_ms); /* as above, but must answer */

double rig_number(const json_t *object, const char *key); /* 0 when absent */
/* Counters of the living process of a service in a status document; NULL when there is none. */
json_t *rig_counters(const json_t *status, const char *service);

struct rig_process {
    long pid, parent;
    char comm[32];
    double cpu_s, children_s; /* its own, and of children that ended */
};
/* Processes that descend from the supervisor, it included. Returns how many were written. */
size_t rig_processes(const struct rig *rig, struct rig_process *ret, size_t room);
double rig_memory_mib(long pid, const char *what); /* VmHWM, VmRSS */

#endif
