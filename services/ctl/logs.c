/* pal logs: the files the supervisor keeps. */
#include "services/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TAIL_BYTES 16384
#define LOOK_MS    200

static const char *const names[] = {"pal", "postgres", "data", "env", "rollout", "trainer", "gateway"};

#define NAMES (sizeof names / sizeof *names)

struct tail {
    FILE *file;
    const char *name;
};

/* Copies what is new, each line with its log's name when there are several. */
static void copy(const struct tail *tail, bool named)
{
    char line[4096];
    clearerr(tail->file);
    while (fgets(line, sizeof line, tail->file)) (void)printf(named ? "%-8s %s" : "%s%s", named ? tail->name : "", line);
    (void)fflush(stdout);
}

static bool open_tail(const struct ctl *ctl, const char *name, struct tail *ret)
{
    char path[CTL_PATH_BYTES + 64], skipped[4096];
    (void)snprintf(path, sizeof path, "%s/logs/%s.log", ctl->state_dir, name);
    *ret = (struct tail){fopen(path, "re"), name};
    if (!ret->file) return false;
    if (fseek(ret->file, -(long)TAIL_BYTES, SEEK_END) != 0)
        rewind(ret->file);
    else
        (void)!fgets(skipped, sizeof skipped, ret->file); /* to the next whole line */
    return true;
}

int command_logs(struct ctl *ctl)
{
    bool follow = ctl_flag(ctl, "-f");
    struct tail tails[NAMES];
    size_t count = 0;
    if (!ctl_no_more(ctl, 1)) return 2;
    for (size_t i = 0; i < NAMES; i++) {
        if (ctl->argc == 1 && strcmp(ctl->argv[0], names[i]) != 0) continue;
        if (open_tail(ctl, names[i], &tails[count])) count++;
    }
    if (count == 0) {
        (void)fprintf(stderr,
                      "pal: there is no such log in %s/logs; services: data env rollout trainer gateway postgres pal\n",
                      ctl->state_dir);
        return 1;
    }
    do {
        for (size_t i = 0; i < count; i++) copy(&tails[i], count > 1);
        const struct timespec pause = {0, LOOK_MS * 1000000};
        if (follow) (void)nanosleep(&pause, NULL);
    } while (follow);
    for (size_t i = 0; i < count; i++) (void)fclose(tails[i].file);
    return 0;
}
