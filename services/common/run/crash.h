/* Crash points: named places where a process can be told to kill itself, so that tests reach what a random kill rarely hits.
 *
 * PAL_CRASH_AT=POINT/LIFE/NUMBER[,...] in the environment: the first time the process passes POINT in that life (a trainer's
 * lineage, a data manager's epoch) at NUMBER (update, turn) or later, it sends itself SIGKILL: nothing is flushed, closed or
 * removed. Its successor lives its next life, so an entry kills once. Without the variable a point costs a look into the
 * environment, a few times per update. Points are rows of crash.def. */
#ifndef PAL_RUN_CRASH_H
#define PAL_RUN_CRASH_H

#include <stddef.h>
#include <stdint.h>

enum crash {
#define CRASH(name, doc) CRASH_##name,
#include "services/common/run/crash.def"
#undef CRASH
    CRASH_COUNT
};

const char *crash_name(enum crash point);
/* Where this thread is in the life of its process, from here on. */
void crash_count(int64_t life, int64_t number);
void crash_here(enum crash point);

#endif
