#include "bench/ledger/filled.h"

#include "bench/ledger/raw.h"
#include "bench/support/rig.h"
#include "services/common/base/buf.h"

#include <stdio.h>
#include <string.h>

static void must(err_t err)
{
    if (err != ERR_ok) rig_die("filled.sql", err_text());
}

/* The file with its numbers put in. */
static void read_script(uint64_t job, struct buf *out)
{
    const struct {
        const char *name;
        unsigned long long value;
    } numbers[] = {{":job", job}, {":u", FILLED_UPDATES}, {":g", FILLED_GROUPS}};
    char text[8192];
    FILE *file = fopen(PAL_BENCH_DIR "/ledger/filled.sql", "re");
    size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (!file || !feof(file)) rig_die(PAL_BENCH_DIR "/ledger/filled.sql", "cannot be read");
    (void)fclose(file);
    text[size] = 0;
    for (const char *at = text; *at;) {
        size_t i = 0, count = sizeof numbers / sizeof *numbers;
        bool cast = at[0] == ':' && (at[1] == ':' || (at > text && at[-1] == ':'));
        while (i < count && (cast || strncmp(at, numbers[i].name, strlen(numbers[i].name)) != 0)) i++;
        if (i < count) must(buf_printf(out, "%llu", numbers[i].value));
        if (i == count) must(buf_append(out, at, 1));
        at += i < count ? strlen(numbers[i].name) : 1;
    }
}

double filled_make(const struct place *place, uint64_t job)
{
    char conninfo[PLACE_TEXT];
    AUTO(buf) script = {0};
    double begin = rig_now();
    place_conninfo(place, "postgres", conninfo, sizeof conninfo);
    read_script(job, &script);
    raw_script(conninfo, buf_chars(&script));
    return rig_now() - begin;
}
