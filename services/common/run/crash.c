#include "services/common/run/crash.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Thread_local int64_t life_now = -1, number_now = -1;

static const char *const names[CRASH_COUNT] = {
#define CRASH(name, doc) [CRASH_##name] = #name,
#include "services/common/run/crash.def"
#undef CRASH
};

const char *crash_name(enum crash point)
{
    return names[point];
}

void crash_count(int64_t life, int64_t number)
{
    life_now = life;
    number_now = number;
}

/* Does POINT/LIFE/NUMBER mean here and now? */
static bool is_meant(const char *text, enum crash point)
{
    size_t length = strlen(names[point]);
    char *end = NULL;
    if (strncmp(text, names[point], length) != 0 || text[length] != '/') return false;
    long long life = strtoll(text + length + 1, &end, 10);
    return *end == '/' && life == life_now && number_now >= strtoll(end + 1, NULL, 10);
}

void crash_here(enum crash point)
{
    for (const char *text = getenv("PAL_CRASH_AT"); text && *text; text += *text == ',') {
        if (is_meant(text, point)) {
            (void)kill(getpid(), SIGKILL);
            for (;;) (void)pause(); /* the signal is on its way */
        }
        text += strcspn(text, ",");
    }
}
