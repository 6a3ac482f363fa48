#include "services/common/bus/faults.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* FNV-1a */
static uint64_t hash(const char *text)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (const char *c = text; *c; c++) h = (h ^ (uint8_t)*c) * 0x100000001b3u;
    return h;
}

static err_t set(struct faults *faults, uint64_t *seed, const char *text, size_t length)
{
    static const char *const names[] = {"drop", "duplicate", "delay", "delay_ms", "seed"};
    const char *equals = memchr(text, '=', length);
    size_t name = equals ? (size_t)(equals - text) : length, which = 0, count = sizeof names / sizeof *names;
    while (which < count && (strlen(names[which]) != name || memcmp(text, names[which], name) != 0)) which++;
    char *end = NULL;
    double value = equals ? strtod(equals + 1, &end) : -1, most = which < 3 ? 1 : which == 3 ? FAULTS_DELAY_MS : 0x1p53;
    if (which == count || !equals || end == equals + 1 || end != text + length || !isfinite(value) || value < 0 ||
        value > most)
        return err_set(ERR_invalid,
                       FAULTS_VARIABLE ": '%.*s' is not drop, duplicate or delay (0 to 1), delay_ms (0 to %d) or seed, "
                                       "followed by = and a number",
                       (int)length, text, FAULTS_DELAY_MS);
    if (which < 3)
        *(which == 0 ? &faults->drop : which == 1 ? &faults->duplicate : &faults->delay) = value;
    else
        *(which == 3 ? &faults->delay_ms : seed) = (uint64_t)value;
    return ERR_ok;
}

err_t faults_init(struct faults *faults, const char *text, const char *name)
{
    uint64_t seed = 0;
    *faults = (struct faults){.delay = -1};
    for (const char *at = text ? text : ""; *at; at += *at == ',') {
        size_t length = strcspn(at, ",");
        TRY(set(faults, &seed, at, length));
        faults->on = true;
        at += length;
    }
    if (faults->delay < 0) faults->delay = faults->delay_ms ? 1 : 0;
    rng_init(&faults->rng, seed, hash(name));
    return ERR_ok;
}

struct fault faults_draw(struct faults *faults)
{
    /* always four draws, so that one probability does not change what the others hit */
    double drop = rng_unit(&faults->rng), duplicate = rng_unit(&faults->rng), delay = rng_unit(&faults->rng),
           share = rng_unit(&faults->rng);
    return (struct fault){.drop = drop < faults->drop,
                          .duplicate = duplicate < faults->duplicate,
                          .delay_ms = delay < faults->delay ? (uint64_t)(share * (double)faults->delay_ms + 0.5) : 0};
}
