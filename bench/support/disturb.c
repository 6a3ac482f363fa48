#include "bench/support/disturb.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define POLL_MS   20
#define RECOVER_S 60.0 /* a stage that is not back by then is lost */
#define FULL_MS   1500 /* how long the disk stays full */
#define PIDS      256

/* What dies, and by what it is seen to work again: a row that its stage commits. */
static const struct victim {
    const char *comm, *name;
    enum { SIGN_EPISODES, SIGN_UPDATES, SIGN_ANSWER } sign;
} victims[DISTURB_VICTIMS] = {{"pal-env", "env", SIGN_EPISODES},       {"pal-rollout", "rollout", SIGN_EPISODES},
                              {"pal-data", "data", SIGN_EPISODES},     {"pal-trainer", "trainer", SIGN_UPDATES},
                              {"pal-gateway", "gateway", SIGN_ANSWER}, {"postgres", "postgres", SIGN_EPISODES}};

const char *disturb_victim(size_t index)
{
    return victims[index].name;
}

static uint64_t draw(struct disturb *d)
{
    uint64_t z = d->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double disturb_unit(struct disturb *d)
{
    return (double)(draw(d) >> 11) * 0x1p-53;
}

/* PostgreSQL's postmaster: its backends go with it. */
static long pid_of(const struct disturb *d, const struct victim *victim)
{
    struct rig_process all[PIDS];
    size_t count = rig_processes(d->rig, all, PIDS);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(all[i].comm, victim->comm) == 0 && all[i].parent == d->rig->supervisor) return all[i].pid;
    }
    return 0;
}

struct sight {
    bool answers, runs, ended;
    double episodes, updates, lineage, epoch;
    double forked_at; /* update at which the lineage after a trainer's death was first seen; -1: not yet */
};

/* The ledger's own counts, as far as the stack can say them now. */
static struct sight look(const struct disturb *d)
{
    struct sight s = {.forked_at = -1};
    char path[64];
    json_t *status = rig_ask(d->rig, "/v1/status", NULL), *job = json_object_get(status, "job");
    const json_t *data = json_object_get(status, "data");
    s.answers = json_is_object(data);
    s.runs = json_is_object(job) && (long)rig_number(job, "id") == d->job;
    s.episodes = rig_number(data, "written_episodes");
    s.epoch = rig_number(data, "epoch");
    s.updates = rig_number(job, "update");
    s.lineage = rig_number(job, "lineage");
    json_decref(status);
    if (!s.answers || s.runs) return s;
    (void)snprintf(path, sizeof path, "/v1/jobs/%ld", d->job); /* is it over, or not read again yet? */
    json_t *row = rig_ask(d->rig, path, NULL);
    const char *state = json_string_value(json_object_get(row, "state"));
    s.ended = state && (strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0);
    json_decref(row);
    return s;
}

/* Has the stage committed a row since `before`? An end that was on its way as the environments died does not count. */
static bool works(const struct victim *victim, const struct sight *before, const struct sight *now)
{
    if (victim->sign == SIGN_ANSWER) return now->answers;
    if (!now->runs) return false;
    if (victim->sign == SIGN_UPDATES) return before->forked_at >= 0 && now->updates > before->forked_at;
    return now->epoch != before->epoch ? now->episodes > 0 : now->episodes > before->episodes + 256;
}

/* Seconds until it works again; negative when the job ended first. */
static double recovery(struct disturb *d, const struct victim *victim, struct sight *before, double begin)
{
    for (;;) {
        rig_pause(POLL_MS);
        struct sight now = look(d);
        if (now.ended) return -1;
        if (before->forked_at < 0 && now.runs && now.lineage > before->lineage) before->forked_at = now.updates;
        if (works(victim, before, &now)) return rig_now() - begin;
        if (rig_now() - begin > RECOVER_S) rig_die(victim->name, "did not come back within 60 s");
    }
}

bool disturb_kill(struct disturb *d)
{
    size_t v = (size_t)(draw(d) % DISTURB_VICTIMS);
    struct sight before = look(d);
    long pid = pid_of(d, &victims[v]);
    if (before.ended) return false;
    if (!before.runs || pid == 0) return true; /* it is still coming back: another moment */
    double begin = rig_now();
    (void)kill((pid_t)pid, SIGKILL);
    d->kills++;
    d->killed[v]++;
    double took = recovery(d, &victims[v], &before, begin);
    if (took < 0) return false;
    d->recovery_s[d->recoveries++] = took;
    (void)fprintf(stderr, "kill %zu: %s, back after %.2f s\n", d->kills, victims[v].name, took);
    return true;
}

/* Everything that is left. */
static int fill(const char *path)
{
    struct statvfs fs;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fstatvfs(fd, &fs) != 0) rig_die(path, strerror(errno));
    off_t size = (off_t)(fs.f_bavail * fs.f_frsize), step = (off_t)1 << 26;
    off_t at = 0;
    for (; step >= 4096; step /= 2) {
        while (at + step <= size + ((off_t)1 << 26) && posix_fallocate(fd, at, step) == 0) at += step;
    }
    return fd;
}

bool disturb_disk(struct disturb *d)
{
    static const struct victim disk = {"", "the disk", SIGN_EPISODES};
    char path[128];
    if (!d->has_disk || d->disks == DISTURB_DISKS) return true;
    (void)snprintf(path, sizeof path, "%s/full", d->rig->state);
    int fd = fill(path);
    rig_pause(FULL_MS);
    struct sight before = look(d);
    if (unlink(path) != 0 || close(fd) != 0) rig_die(path, strerror(errno));
    double took = before.ended ? -1 : recovery(d, &disk, &before, rig_now());
    if (took < 0) return false;
    d->disk_recovery_s[d->disks++] = took;
    (void)fprintf(stderr, "the disk was full for %.1f s; %.2f s later the job goes on\n", FULL_MS / 1e3, took);
    return true;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

double disturb_quantile(const double *values, size_t count, double share)
{
    double *sorted = calloc(count + 1, sizeof *sorted);
    if (!sorted) rig_die("a quantile", "no memory");
    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_value);
    double value = count ? sorted[(size_t)ceil(share * (double)(count - 1))] : 0;
    free(sorted);
    return value;
}
