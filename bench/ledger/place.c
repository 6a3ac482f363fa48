#include "bench/ledger/place.h"

#include "bench/support/rig.h"
#include "services/common/run/child.h"
#include "services/common/run/rundir.h"
#include "services/common/store/store.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS  60000
#define STOP_MS   30000
#define PROCESSES 64

static void must(err_t err, const char *what)
{
    if (err != ERR_ok) rig_die(what, err_text());
}

static int log_of(const struct place *place, const char *name)
{
    char path[PLACE_TEXT];
    (void)snprintf(path, sizeof path, "%s/%s.log", place->state, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) rig_die(path, "cannot be written");
    return fd;
}

void place_open(struct place *place)
{
    *place = (struct place){.state = "/tmp/pal-bench-XXXXXX"};
    if (!mkdtemp(place->state)) rig_die("a folder under /tmp", "cannot be made");
    must(rundir_path(place->state, place->run_dir, sizeof place->run_dir), "the place of sockets");
    must(rundir_make(place->run_dir), "the place of sockets");
    if (chmod(place->state, 0711) != 0 || chmod(place->run_dir, 0711) != 0)
        rig_die(place->state, "cannot be opened to PostgreSQL");
    must(postgres_init(&place->postgres, place->state, place->run_dir), "PostgreSQL");
    must(postgres_create(&place->postgres, true), "a cluster");
    int fd = log_of(place, "postgres");
    must(postgres_start(&place->postgres, fd, START_MS, &place->server), "PostgreSQL");
    (void)close(fd);
}

void place_close(struct place *place)
{
    char command[128];
    if (place->data) place_halt(place);
    must(postgres_stop(&place->server, STOP_MS), "stopping PostgreSQL");
    (void)snprintf(command, sizeof command, "rm -rf '%s'", place->state);
    if (system(command) != 0) rig_die("removing", place->state);
}

void place_data(struct place *place)
{
    char folder[PLACE_TEXT], program[PLACE_TEXT + 16];
    ssize_t n = readlink("/proc/self/exe", folder, sizeof folder - 1);
    if (n <= 0) rig_die("/proc/self/exe", "cannot be read");
    folder[n] = 0;
    *strrchr(folder, '/') = 0;
    (void)snprintf(program, sizeof program, "%s/pal-data", folder);
    char option[] = "--state", *argv[] = {program, option, place->state, NULL};
    int fd = log_of(place, "data");
    must(child_spawn(argv, -1, fd, &place->data), "pal-data");
    (void)close(fd);
}

void place_halt(struct place *place)
{
    int status = 0;
    (void)kill(place->data, SIGTERM);
    must(child_wait(place->data, STOP_MS, &status), "stopping pal-data");
    place->data = 0;
}

struct place_cpu place_cpu(const struct place *place)
{
    const struct rig rig = {.supervisor = (long)getpid()};
    struct rig_process all[PROCESSES];
    struct place_cpu cpu = {0};
    size_t count = rig_processes(&rig, all, PROCESSES);
    for (size_t i = 0; i < count; i++) {
        if (all[i].pid == rig.supervisor) cpu.self += all[i].cpu_s;
        if (all[i].pid == (long)place->data) cpu.data += all[i].cpu_s;
        if (strcmp(all[i].comm, "postgres") != 0) continue;
        cpu.postgres += all[i].cpu_s + (all[i].pid == (long)place->server ? all[i].children_s : 0);
    }
    return cpu;
}

void place_conninfo(const struct place *place, const char *role, char *ret, size_t size)
{
    (void)unsetenv("PAL_DATABASE_URL"); /* what is measured is ours */
    must(store_conninfo(place->run_dir, role, ret, size), "conninfo");
}
