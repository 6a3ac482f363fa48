/* A job from beginning to end on a stack of its own. Every failure ends the program with a sentence. */
#ifndef PAL_BENCH_SUPPORT_PLAY_H
#define PAL_BENCH_SUPPORT_PLAY_H

#include <jansson.h>

/* Plays the job, checks it with `pal verify` and returns what is kept of it: points (version, tokens, success, levels of each
 * evaluation), means (of some metrics over the updates), hint_rate, hinted_before, hinted_after, seconds, reason. With
 * `first`, the policy of version 0 is exported into that folder. Says what it does on standard error, under the name `what`.
 */
json_t *play_job(const char *job, const char *what, const char *first);
/* Replaces the file in one step. */
void play_write(const char *path, const char *text);

#endif
