/* The yardstick: what PostgreSQL takes when nothing is asked of it but to keep the same bytes. Rows of the shapes of
 * `episode` and `episode_payload` (their columns, keys, checks and storage, without foreign keys), inserted one by one in
 * libpq's pipeline mode, RAW_COMMIT episodes a transaction, over one connection. */
#ifndef PAL_BENCH_LEDGER_RAW_H
#define PAL_BENCH_LEDGER_RAW_H

#include <stddef.h>
#include <stdint.h>

#define RAW_COMMIT 100

/* Makes the tables anew and fills them for so long; episodes that were committed. */
uint64_t raw_run(const char *conninfo, size_t payload, double seconds, double *ret_seconds);
/* Statements that end with ";" and an empty line, one after the other. */
void raw_script(const char *conninfo, const char *text);
/* One statement: the first value of its answer, "" when there is none. */
void raw_ask(const char *conninfo, const char *sql, char *ret, size_t size);

#endif
