#include "services/common/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct err_row {
    const char *name;
    const char *text;
    int http;
    bool retry;
};

static const struct err_row rows[ERR_COUNT] = {
#define ERR(name, text, http, retry) {#name, text, http, retry},
#include "services/common/base/err.def"
#undef ERR
};

static _Thread_local char last_text[ERR_TEXT_BYTES];
static _Thread_local char last_place[128];

err_t err_record(err_t code, const char *file, int line, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(last_text, sizeof last_text, fmt, args);
    va_end(args);
    (void)snprintf(last_place, sizeof last_place, "%s:%d", file, line);
    return code;
}

err_t err_prefix(err_t code, const char *fmt, ...)
{
    char kept[ERR_TEXT_BYTES];
    memcpy(kept, last_text, sizeof kept);
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(last_text, sizeof last_text, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n + 3 > sizeof last_text) return code;
    size_t room = sizeof last_text - (size_t)n - 3, length = strlen(kept);
    if (length > room) length = room;
    memcpy(last_text + n, ": ", 2);
    memcpy(last_text + n + 2, kept, length);
    last_text[(size_t)n + 2 + length] = 0;
    return code;
}

const char *err_text(void)
{
    return last_text;
}

const char *err_place(void)
{
    return last_place;
}

const char *err_name(err_t code)
{
    return rows[code].name;
}

int err_http(err_t code)
{
    return rows[code].http;
}

bool err_retry(err_t code)
{
    return rows[code].retry;
}

_Noreturn void err_bug(const char *condition, const char *file, int line)
{
    (void)fprintf(stderr, "BUG: %s at %s:%d\n", condition, file, line);
    abort();
}
