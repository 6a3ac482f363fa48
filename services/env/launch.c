#include "services/env/launch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

void launch_main(int argc, char **argv)
{
    if (argc <= LAUNCH_WORDS || strcmp(argv[1], LAUNCH_FLAG) != 0) return;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* a parent that died before the line above sends no signal any more */
    if (getppid() != (pid_t)strtol(argv[2], NULL, 10)) _exit(LAUNCH_ORPHANED);
    const struct rlimit no_core = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)close_range(STDERR_FILENO + 1, ~0u, 0);
    (void)execvp(argv[LAUNCH_WORDS], argv + LAUNCH_WORDS);
    (void)fprintf(stderr, "%s: %s\n", argv[LAUNCH_WORDS], strerror(errno));
    _exit(LAUNCH_NOT_FOUND);
}
