/* pal doctor: what is wrong with this machine, and how to mend it. */
#include "services/common/run/postgres.h"
#include "services/common/run/rundir.h"
#include "services/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define DISK_MB   1024
#define MEMORY_MB 1024
#define SHM_MB    64

static void find(json_t *findings, const char *what, bool good, const char *detail)
{
    (void)json_array_append_new(findings, json_pack("{s:s, s:b, s:s}", "what", what, "ok", good, "detail", detail));
}

static void check_programs(const struct ctl *ctl, json_t *findings)
{
    static const char *const programs[] = {"pal-data", "pal-env", "pal-rollout", "pal-trainer", "pal-gateway"};
    char path[CTL_PATH_BYTES + 32], missing[256] = "";
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        size_t n = strlen(missing);
        (void)snprintf(path, sizeof path, "%s/%s", ctl->bin_dir, programs[i]);
        if (access(path, X_OK) != 0) (void)snprintf(missing + n, sizeof missing - n, " %s", programs[i]);
    }
    char detail[600];
    (void)snprintf(detail, sizeof detail, *missing ? "missing in %s:%s; build them with ./run build" : "all in %s%s",
                   ctl->bin_dir, missing);
    find(findings, "programs", !*missing, detail);
}

static void check_space(json_t *findings, const char *what, const char *path, unsigned long wanted_mb)
{
    struct statvfs fs;
    char detail[600];
    bool known = statvfs(path, &fs) == 0;
    unsigned long mb = known ? (unsigned long)(fs.f_bavail * fs.f_frsize >> 20) : 0;
    (void)snprintf(detail, sizeof detail, "%lu MB free at %s%s", mb, path,
                   mb >= wanted_mb ? "" : "; make room or choose another --state");
    find(findings, what, mb >= wanted_mb, detail);
}

static void check_memory(json_t *findings)
{
    struct sysinfo info;
    char detail[128];
    unsigned long mb = sysinfo(&info) == 0 ? (info.freeram + info.bufferram) * info.mem_unit >> 20 : 0;
    (void)snprintf(detail, sizeof detail, "%lu MB free without caches%s", mb,
                   mb >= MEMORY_MB ? "" : "; the demo needs about 600 MB");
    find(findings, "memory", mb >= MEMORY_MB / 4, detail);
}

static void check_postgres(const struct ctl *ctl, json_t *findings)
{
    struct postgres postgres;
    char run_dir[CTL_PATH_BYTES], detail[1200];
    err_t err = rundir_make(ctl->state_dir);
    if (err == ERR_ok) err = rundir_path(ctl->state_dir, run_dir, sizeof run_dir);
    if (err == ERR_ok) err = rundir_make(run_dir);
    if (err == ERR_ok) err = postgres_init(&postgres, ctl->state_dir, run_dir);
    if (err == ERR_ok)
        (void)snprintf(detail, sizeof detail, "programs in %s, sockets in %s", postgres.bin, postgres.sockets);
    else
        (void)snprintf(detail, sizeof detail, "%s; on Debian: apt-get install postgresql", err_text());
    find(findings, "PostgreSQL", err == ERR_ok, detail);
}

static void check_state(const struct ctl *ctl, json_t *findings)
{
    long pid = 0;
    char detail[CTL_PATH_BYTES + 128];
    bool runs = stack_runs(ctl, &pid), writable = rundir_make(ctl->state_dir) == ERR_ok && access(ctl->state_dir, W_OK) == 0;
    if (runs)
        (void)snprintf(detail, sizeof detail, "%s: a stack runs (pid %ld)", ctl->state_dir, pid);
    else
        (void)snprintf(detail, sizeof detail, "%s: %s", ctl->state_dir,
                       writable ? "no stack runs" : "cannot be written; choose another --state");
    find(findings, "state directory", writable, detail);
}

static void check_stack(const struct ctl *ctl, json_t *findings)
{
    long pid = 0;
    if (!stack_runs(ctl, &pid)) return;
    bool ready = client_ready(ctl);
    find(findings, "stack", ready, ready ? "ready" : "runs but is not ready: see `pal status` and `pal logs`");
}

int command_doctor(struct ctl *ctl)
{
    json_t *findings = json_array(), *row = NULL;
    size_t index = 0;
    bool good = true;
    if (!ctl_no_more(ctl, 0)) return 2;
    check_programs(ctl, findings);
    check_state(ctl, findings);
    check_postgres(ctl, findings);
    check_space(findings, "disk", ctl->state_dir, DISK_MB);
    check_space(findings, "shared memory", "/dev/shm", SHM_MB);
    check_memory(findings);
    check_stack(ctl, findings);
    json_array_foreach(findings, index, row)
    {
        bool ok = json_is_true(json_object_get(row, "ok"));
        good = good && ok;
        if (!ctl->json) (void)printf("%-5s %-16s %s\n", ok ? "ok" : "WRONG", ctl_text(row, "what"), ctl_text(row, "detail"));
    }
    if (ctl->json) {
        char *text = json_dumps(findings, JSON_INDENT(2));
        (void)printf("%s\n", text ? text : "[]");
        free(text);
    }
    json_decref(findings);
    return good ? 0 : 1;
}
