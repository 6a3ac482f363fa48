/* The connection itself, for store.c, store_run.c and store_migrate.c. */
#ifndef PAL_STORE_STORE_LINK_H
#define PAL_STORE_STORE_LINK_H

#include "services/common/store/store_internal.h"

#include <libpq-fe.h>

#define STORE_PREPARED 1024u /* slots of the table of prepared statements; a power of two */
#define STORE_GRACE_MS 5000  /* how much longer than the server's own timeout we wait for it */

#define STORE_TEXT_OF_(x) #x
#define STORE_TEXT_OF(x)  STORE_TEXT_OF_(x)

/* Session settings. A data manager that hangs inside a transaction holds data_epoch's row; the server ends such a session,
 * so that its successor is not kept waiting for longer than this. */
#define STORE_SESSION                                                                                                        \
    "SET client_min_messages = warning; SET statement_timeout = " STORE_TEXT_OF(                                             \
        STORE_STATEMENT_MS) "; "                                                                                             \
                            "SET idle_in_transaction_session_timeout = " STORE_TEXT_OF(                                      \
                                STORE_IDLE_MS) "; SET TimeZone = 'UTC'; SET jit = off"

struct store {
    PGconn *conn;
    bool lost;
    int patience_ms; /* for the answer of a statement */
    /* statements that this connection has prepared: open addressing by address */
    const struct store_statement *prepared[STORE_PREPARED];
    size_t prepared_count;
};

unsigned store_type_oid(enum store_type type);
enum store_type store_type_element(enum store_type type); /* STORE_NONE: not an array */

/* Waits for the answer of what was sent with PQsend...; `what` names it in errors. ret gets the last result. */
err_t store_answer(struct store *store, int sent, const char *what, int ms, PGresult **ret) MUST_USE;
err_t store_prepare(struct store *store, const struct store_statement *statement) MUST_USE;

#endif
