/* bench_soak: a long job, and whether any process grows: resident memory and open files of each, as a slope over the run.
 * --minutes N (default 30), --seed S; the first fifth is warm-up; ends with one JSON object under --json. */
#include "bench/support/rig.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLE_S    2.0
#define SAMPLES     20000
#define PIDS        256
#define LIMIT_SHARE 0.02 /* of its memory, over the whole run: more is growth */

static const char *const names[] = {"pal", "pal-data", "pal-env", "pal-rollout", "pal-trainer", "pal-gateway", "postgres"};
enum { NAMES = sizeof names / sizeof *names };

struct series {
    double at[SAMPLES], memory_mib[SAMPLES], files[SAMPLES];
    size_t count;
};

static double open_files(long pid)
{
    char path[64];
    double count = 0;
    (void)snprintf(path, sizeof path, "/proc/%ld/fd", pid);
    DIR *dir = opendir(path);
    for (struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir)) count++;
    if (dir) (void)closedir(dir);
    return count;
}

/* PostgreSQL: all its processes together, without the shared buffers that they fill page by page */
static void sample(const struct rig *rig, struct series *all, double now)
{
    struct rig_process processes[PIDS];
    size_t count = rig_processes(rig, processes, PIDS);
    for (size_t k = 0; k < NAMES; k++) {
        struct series *s = &all[k];
        if (s->count == SAMPLES) return;
        s->at[s->count] = now;
        s->memory_mib[s->count] = s->files[s->count] = 0;
        for (size_t i = 0; i < count; i++) {
            if (strcmp(processes[i].comm, names[k]) != 0) continue;
            s->memory_mib[s->count] +=
                rig_memory_mib(processes[i].pid, strcmp(names[k], "postgres") == 0 ? "RssAnon" : "VmRSS");
            s->files[s->count] += open_files(processes[i].pid);
        }
        s->count++;
    }
}

/* Least squares over the samples past the warm-up: change over the whole of them. */
static double growth(const struct series *s, const double *y)
{
    size_t first = s->count / 5, n = s->count - first;
    double mx = 0, my = 0, xy = 0, xx = 0;
    for (size_t i = first; i < s->count; i++) {
        mx += s->at[i] / (double)n;
        my += y[i] / (double)n;
    }
    for (size_t i = first; i < s->count; i++) {
        xy += (s->at[i] - mx) * (y[i] - my);
        xx += (s->at[i] - mx) * (s->at[i] - mx);
    }
    return xx > 0 ? xy / xx * (s->at[s->count - 1] - s->at[first]) : 0;
}

static const struct rig_words options[] = {
    {"--minutes N", "how long (30)"}, {"--seed S", "of the job (1)"}, {"--json", "ends with one JSON object"}, {NULL, NULL}};

int main(int argc, char **argv)
{
    rig_usage(argc, argv, options);
    static struct series all[NAMES];
    struct rig rig;
    char words[600];
    double minutes = strtod(rig_option(argc, argv, "--minutes", "30"), NULL);
    if (!(minutes > 0)) rig_die("--minutes", "must be above 0");
    rig_open(&rig);
    (void)rig_start(&rig);
    (void)snprintf(words, sizeof words,
                   "submit '%s/adventure.json' --set seed=%ld --set trainer.updates=1000000 --set trainer.schedule=constant"
                   " --set trainer.lr=0.0000001", /* or it has learned everything after 20 minutes, and ends */
                   PAL_EXAMPLES_DIR, strtol(rig_option(argc, argv, "--seed", "1"), NULL, 10));
    if (!rig_pal(&rig, words, NULL, 0)) rig_die("pal submit", "failed");
    double begin = rig_now(), told = begin, updates = 0, episodes = 0;
    while (rig_now() < begin + 60 * minutes) {
        rig_pause((long)(1e3 * SAMPLE_S));
        sample(&rig, all, rig_now() - begin);
        json_t *status = rig_get(&rig, "/v1/status", NULL), *job = json_object_get(status, "job");
        if (json_is_object(job)) {
            updates = rig_number(job, "update");
            episodes = rig_number(job, "episodes");
        }
        bool runs = json_is_object(job);
        json_decref(status);
        if (!runs && rig_now() > begin + 10) break; /* nothing is left to learn */
        if (rig_now() < told + 20) continue;
        told = rig_now();
        (void)fprintf(stderr, "%.1f of %.0f min: update %.0f, %.0f episodes\n", (told - begin) / 60, minutes, updates,
                      episodes);
    }
    double seconds = rig_now() - begin;
    json_t *rows = json_object();
    (void)printf("%.1f min: %.0f updates, %.0f episodes\n  %-12s %10s %14s %8s %12s\n", seconds / 60, updates, episodes,
                 "process", "MiB", "growth MiB", "files", "growth");
    bool flat = true;
    for (size_t k = 0; k < NAMES; k++) {
        const struct series *s = &all[k];
        double memory = s->memory_mib[s->count - 1], more = growth(s, s->memory_mib), files = growth(s, s->files);
        bool grows = more > LIMIT_SHARE * memory && more > 1;
        flat &= !grows;
        (void)printf("  %-12s %10.1f %14.2f %8.0f %12.2f%s\n", names[k], memory, more, s->files[s->count - 1], files,
                     grows ? "  GROWS" : "");
        (void)json_object_set_new(rows, names[k],
                                  json_pack("{s:f, s:f, s:f, s:f}", "mib", memory, "growth_mib", more, "files",
                                            s->files[s->count - 1], "growth_files", files));
    }
    if (rig_flag(argc, argv, "--json")) {
        json_t *out = json_pack("{s:s, s:f, s:f, s:f, s:b, s:O}", "bench", "soak", "minutes", seconds / 60, "updates",
                                updates, "episodes", episodes, "flat", (int)flat, "processes", rows);
        (void)json_dumpf(out, stdout, JSON_COMPACT);
        (void)printf("\n");
        json_decref(out);
    }
    json_decref(rows);
    rig_close(&rig);
    return 0;
}
