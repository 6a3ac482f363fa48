/* Where the ledger is measured: a private cluster on the disk of /tmp with all its durability, and a real pal-data on it.
 * Every failure ends the program with a sentence. */
#ifndef PAL_BENCH_LEDGER_PLACE_H
#define PAL_BENCH_LEDGER_PLACE_H

#include "services/common/run/postgres.h"

#include <stdint.h>

#define PLACE_TEXT 512

struct place {
    char state[64];
    char run_dir[PLACE_TEXT];
    struct postgres postgres;
    pid_t server, data;
};

/* CPU seconds so far, with what ended. */
struct place_cpu {
    double data, postgres, self;
};

/* Rows written so far, in all tables of the database; statistics lag by up to a second. */
struct place_rows {
    double inserted, updated;
};

void place_open(struct place *place);
void place_close(struct place *place); /* stops everything, removes the folder */
void place_data(struct place *place);  /* starts pal-data */
void place_halt(struct place *place);  /* stops it */
struct place_cpu place_cpu(const struct place *place);
/* conninfo of a role ("pal", "postgres"). */
void place_conninfo(const struct place *place, const char *role, char *ret, size_t size);

#endif
