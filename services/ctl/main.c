#include "services/common/run/log.h"
#include "services/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct command {
    const char *name;
    int (*run)(struct ctl *ctl);
    const char *arguments;
    const char *doc;
};

static const struct command commands[] = {
#define COMMAND(name, function, arguments, doc) {name, command_##function, arguments, doc},
#include "services/ctl/commands.def"
#undef COMMAND
};

#define COMMANDS (sizeof commands / sizeof *commands)

static int usage(FILE *out, int code)
{
    (void)fprintf(out, "pal %s: train LLM agents with reinforcement learning\n\nusage: pal [--state DIR] COMMAND ...\n\n",
                  PAL_VERSION);
    for (size_t i = 0; i < COMMANDS; i++) (void)fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].doc);
    (void)fprintf(out,
                  "\n`pal COMMAND --help` shows its arguments. --state DIR (or PAL_STATE) is the stack's state directory,\n"
                  "by default $XDG_STATE_HOME/palaestra or ~/.local/state/palaestra. Exit: 0 done, 1 failed, 2 usage.\n");
    return code;
}

static int command_usage(const struct command *command, FILE *out, int code)
{
    (void)fprintf(out, "usage: pal [--state DIR] %s %s\n\n%s\n", command->name, command->arguments, command->doc);
    return code;
}

bool ctl_flag(struct ctl *ctl, const char *name)
{
    for (int i = 0; i < ctl->argc; i++) {
        if (strcmp(ctl->argv[i], name) != 0) continue;
        memmove(&ctl->argv[i], &ctl->argv[i + 1], (size_t)(ctl->argc - i) * sizeof *ctl->argv);
        ctl->argc--;
        return true;
    }
    return false;
}

const char *ctl_option(struct ctl *ctl, const char *name)
{
    for (int i = 0; i + 1 < ctl->argc; i++) {
        if (strcmp(ctl->argv[i], name) != 0) continue;
        const char *value = ctl->argv[i + 1];
        memmove(&ctl->argv[i], &ctl->argv[i + 2], (size_t)(ctl->argc - i - 1) * sizeof *ctl->argv);
        ctl->argc -= 2;
        return value;
    }
    return NULL;
}

bool ctl_no_more(const struct ctl *ctl, int allowed)
{
    if (ctl->argc <= allowed) return true;
    (void)fprintf(stderr, "pal: '%s' is not understood; see --help\n", ctl->argv[allowed]);
    return false;
}

bool ctl_id(struct ctl *ctl, int64_t *ret)
{
    char *end = NULL;
    *ret = ctl->argc == 1 ? strtoll(ctl->argv[0], &end, 10) : -1;
    if (ctl->argc == 1 && end != ctl->argv[0] && !*end && *ret >= 0) return true;
    (void)fprintf(stderr, "pal: one number is wanted; see --help\n");
    return false;
}

int ctl_fail(err_t err)
{
    (void)fprintf(stderr, "pal: %s\n", err_text()[0] ? err_text() : err_name(err));
    return 1;
}

static bool set_state(struct ctl *ctl, const char *path)
{
    char cwd[CTL_PATH_BYTES] = "";
    int n = path[0] == '/'            ? snprintf(ctl->state_dir, sizeof ctl->state_dir, "%s", path)
            : getcwd(cwd, sizeof cwd) ? snprintf(ctl->state_dir, sizeof ctl->state_dir, "%s/%s", cwd, path)
                                      : -1;
    return n > 0 && (size_t)n < sizeof ctl->state_dir;
}

static bool default_state(struct ctl *ctl)
{
    const char *state = getenv("PAL_STATE"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char path[CTL_PATH_BYTES];
    if (state && *state) return set_state(ctl, state);
    int n = xdg && *xdg ? snprintf(path, sizeof path, "%s/palaestra", xdg)
                        : snprintf(path, sizeof path, "%s/.local/state/palaestra", home && *home ? home : "/root");
    return n > 0 && (size_t)n < sizeof path && set_state(ctl, path);
}

static bool find_bin(struct ctl *ctl)
{
    ssize_t n = readlink("/proc/self/exe", ctl->bin_dir, sizeof ctl->bin_dir - 1);
    if (n <= 0) return false;
    ctl->bin_dir[n] = 0;
    char *slash = strrchr(ctl->bin_dir, '/');
    if (slash) *slash = 0;
    return slash != NULL;
}

int main(int argc, char **argv)
{
    struct ctl ctl = {.argc = argc - 1, .argv = argv + 1};
    log_open("pal");
    const char *state = ctl_option(&ctl, "--state");
    if (!(state ? set_state(&ctl, state) : default_state(&ctl)) || !find_bin(&ctl)) {
        (void)fprintf(stderr, "pal: the state directory's path is too long\n");
        return 2;
    }
    if (ctl.argc == 0) return usage(stderr, 2);
    const char *name = ctl.argv[0];
    ctl.argc--;
    ctl.argv++;
    if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0) return usage(stdout, 0);
    if (strcmp(name, "--version") == 0) return puts("pal " PAL_VERSION) < 0;
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) != 0) continue;
        if (ctl_flag(&ctl, "--help")) return command_usage(&commands[i], stdout, 0);
        ctl.json = ctl_flag(&ctl, "--json");
        return commands[i].run(&ctl);
    }
    (void)fprintf(stderr, "pal: there is no command '%s'\n\n", name);
    return usage(stderr, 2);
}
