/* The ledger's door: a connection to PostgreSQL, prepared statements, transactions.
 *
 * Only this folder includes libpq; statements live in store_<noun>.c, each file a static table (name, parameters, text) at
 * its head and one typed function per statement; always prepared, always bound, never printed. Calls block, at most
 * STORE_STATEMENT_MS by the server's own timeout. A failed call leaves an error class: ERR_unavailable when the
 * connection is lost (reconnect with store_open; whether a COMMIT in flight happened must be re-read by key), ERR_conflict
 * for a broken constraint, ERR_stale when the data epoch is not ours, ERR_timeout when the server's timeout ended a
 * statement, ERR_busy after a deadlock or for want of resources (nothing was written), ERR_refused when the role may not,
 * else ERR_database. A connection belongs to one thread. */
#ifndef PAL_STORE_STORE_H
#define PAL_STORE_STORE_H

#include "services/common/base/arena.h"
#include "services/common/base/buf.h"

#define STORE_CONNECT_MS   3000
#define STORE_STATEMENT_MS 30000
#define STORE_IDLE_MS      60000 /* a session that idles inside a transaction for this long is ended by the server */
#define STORE_PORT         5432  /* only the name of the socket file: nothing listens on the network */
#define STORE_DATABASE     "palaestra"

struct store;

/* conninfo: libpq's "host=/run/dir dbname=palaestra user=pal". All statements of the tables are prepared on first use. */
err_t store_open(struct store **ret, const char *conninfo) MUST_USE;
/* For a connection whose statements all go by key: prepared while tables are small, plans would otherwise scan and hash, and
 * stay so when the tables have grown (foreign-key checks likewise). */
err_t store_plan_by_key(struct store *store) MUST_USE;
/* Statistics of the job tables now: prepared statements are planned again with them. Autovacuum looks once a minute, which is
 * late for a job that wrote 50 000 episodes by then. */
err_t store_analyze(struct store *store) MUST_USE;
void store_close(struct store **store);
void store_free(struct store **store);       /* the same, for AUTO_PTR(store) */
bool store_alive(const struct store *store); /* false after the connection was lost */

/* Applies migrations/NNNN_*.sql found in the folder, in order, each in one transaction, recording number and SHA-256 in
 * schema_migration. ERR_conflict when an applied one has changed or the schema is newer than the folder. */
err_t store_migrate(struct store *store, const char *folder) MUST_USE;

/* The conninfo of a stack's private cluster for a role ("pal" or "pal_reader"), or PAL_DATABASE_URL when that is set. */
err_t store_conninfo(const char *run_dir, const char *role, char *ret, size_t size) MUST_USE;

/* A write transaction of the data manager: BEGIN and the epoch check in one go. */
err_t store_begin(struct store *store, uint64_t epoch) MUST_USE;
err_t store_commit(struct store *store) MUST_USE;
void store_rollback(struct store *store);
/* Increments and returns data_epoch. */
err_t store_take_epoch(struct store *store, uint64_t *ret) MUST_USE;

#endif
