/* The moment between fork and the environment's own program.
 *
 * libuv offers no hook there, so the cluster starts its own binary with LAUNCH_FLAG, and that turns into the command: it
 * dies with the cluster (PR_SET_PDEATHSIG), inherits no descriptor but its three pipes, writes no core file. A program that
 * uses provider_process calls launch_main at the head of its main(). */
#ifndef PAL_SERVICE_ENV_LAUNCH_H
#define PAL_SERVICE_ENV_LAUNCH_H

#define LAUNCH_FLAG "--launch-environment"
/* argv[0], LAUNCH_FLAG, the parent's pid, then the command */
#define LAUNCH_WORDS 3

/* Exit statuses of a command that never ran. */
#define LAUNCH_NOT_FOUND 127
#define LAUNCH_ORPHANED  126

/* Returns when argv does not ask for a launch; else becomes the command or exits. */
void launch_main(int argc, char **argv);

#endif
