#include "services/common/store/store.h"

#include "services/common/store/store_link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* SQLSTATE by prefix, first match wins */
static const struct {
    const char *prefix;
    err_t code;
} states[] = {
    {"23", ERR_conflict},       /* integrity constraint violation */
    {"08", ERR_unavailable},    /* connection exception */
    {"57014", ERR_timeout},     /* query_canceled: statement_timeout */
    {"57P", ERR_unavailable},   /* admin_shutdown, crash_shutdown, cannot_connect_now, ... */
    {"25P03", ERR_unavailable}, /* idle_in_transaction_session_timeout */
    {"40", ERR_busy},           /* serialization failure, deadlock: nothing was written */
    {"53", ERR_busy},           /* disk full, out of memory, too many connections */
    {"42501", ERR_refused},     /* insufficient_privilege */
    {"25006", ERR_refused},     /* read_only_sql_transaction */
};

static err_t code_of(const char *sqlstate)
{
    for (size_t i = 0; sqlstate && i < sizeof states / sizeof *states; i++)
        if (strncmp(sqlstate, states[i].prefix, strlen(states[i].prefix)) == 0) return states[i].code;
    return ERR_database;
}

/* libpq's sentences end in newlines */
static err_t lost(struct store *store, const char *what)
{
    store->lost = true;
    const char *text = PQerrorMessage(store->conn);
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == '\n') n--;
    if (n == 0) return err_set(ERR_unavailable, "%s: the connection to PostgreSQL was lost", what);
    return err_set(ERR_unavailable, "%s: the connection to PostgreSQL was lost: %.*s", what, (int)n, text);
}

static err_t refused(struct store *store, const char *what, const PGresult *result)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    if (!state) return lost(store, what); /* libpq's own: the connection broke */
    err_t code = code_of(state);
    if (code == ERR_unavailable || PQstatus(store->conn) == CONNECTION_BAD) {
        store->lost = true;
        code = ERR_unavailable;
    }
    return err_set(code, "%s: %s%s%s (SQLSTATE %s)", what, message ? message : "?", detail ? "; " : "", detail ? detail : "",
                   state);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until a result can be taken without blocking. */
static err_t wait_ready(struct store *store, const char *what, int64_t deadline)
{
    for (;;) {
        int flushing = PQflush(store->conn);
        if (flushing < 0) return lost(store, what);
        if (flushing == 0 && !PQisBusy(store->conn)) return ERR_ok;
        int64_t left = deadline - now_ms();
        if (left <= 0) {
            store->lost = true; /* the answer may still come: this connection is of no use any more */
            return err_set(ERR_unavailable, "%s: PostgreSQL did not answer in time; the connection was given up", what);
        }
        struct pollfd fd = {PQsocket(store->conn), (short)(POLLIN | (flushing ? POLLOUT : 0)), 0};
        int n = poll(&fd, 1, (int)left);
        if (n < 0 && errno != EINTR) return lost(store, what);
        if (n > 0 && !PQconsumeInput(store->conn)) return lost(store, what);
    }
}

err_t store_answer(struct store *store, int sent, const char *what, int ms, PGresult **ret)
{
    if (!sent) return lost(store, what);
    int64_t deadline = now_ms() + ms;
    PGresult *last = NULL;
    for (;;) {
        err_t err = wait_ready(store, what, deadline);
        if (err != ERR_ok) {
            PQclear(last);
            return err;
        }
        PGresult *result = PQgetResult(store->conn);
        if (!result) break;
        PQclear(last);
        last = result;
        ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
            PQclear(last);
            store->lost = true;
            return err_set(ERR_database, "%s: COPY is not spoken here", what);
        }
    }
    ExecStatusType status = PQresultStatus(last);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY) {
        *ret = last;
        return ERR_ok;
    }
    err_t err = refused(store, what, last);
    PQclear(last);
    return err;
}

err_t store_simple(struct store *store, const char *sql, int ms, PGresult **ret)
{
    if (!store_alive(store)) return err_set(ERR_unavailable, "the connection to PostgreSQL was lost before");
    char what[48];
    (void)snprintf(what, sizeof what, "%.*s", (int)sizeof what - 1, sql); /* for errors: its beginning */
    PGresult *result = NULL;
    TRY(store_answer(store, PQsendQuery(store->conn, sql), what, ms, &result));
    if (ret)
        *ret = result;
    else
        PQclear(result);
    return ERR_ok;
}

static void ignore_notice(void *ctx, const PGresult *result)
{
    (void)ctx;
    (void)result;
}

/* libpq's own time limit is in whole seconds, at least two, and blocks: a server that hangs would hang whoever asks it. */
static err_t dial(struct store *store, const char *const *words, const char *const *values)
{
    int64_t deadline = now_ms() + STORE_CONNECT_MS;
    store->conn = PQconnectStartParams(words, values, 1);
    if (!store->conn) return err_set(ERR_memory, "a connection");
    PostgresPollingStatusType status = PQstatus(store->conn) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
    while (status != PGRES_POLLING_OK) {
        int64_t left = deadline - now_ms();
        struct pollfd fd = {PQsocket(store->conn), status == PGRES_POLLING_READING ? POLLIN : POLLOUT, 0};
        if (status == PGRES_POLLING_FAILED) return lost(store, "connect");
        if (left <= 0) return err_set(ERR_unavailable, "connect: PostgreSQL did not answer within %d ms", STORE_CONNECT_MS);
        if (poll(&fd, 1, (int)left) < 0 && errno != EINTR) return lost(store, "connect");
        if (fd.revents) status = PQconnectPoll(store->conn);
    }
    return ERR_ok;
}

err_t store_open(struct store **ret, const char *conninfo)
{
    AUTO_PTR(store) store = calloc(1, sizeof *store);
    if (!store) return err_set(ERR_memory, "a store");
    /* what comes after dbname wins over the conninfo's words, what comes before does not */
    const char *const words[] = {"tcp_user_timeout", "fallback_application_name", "dbname", "client_encoding", NULL};
    const char *const values[] = {"15000", program_invocation_short_name, conninfo, "UTF8", NULL};
    TRY(dial(store, words, values));
    (void)PQsetNoticeReceiver(store->conn, ignore_notice, NULL);
    if (PQsetnonblocking(store->conn, 1) != 0) return lost(store, "connect");
    store->patience_ms = STORE_STATEMENT_MS + STORE_GRACE_MS;
    TRY(store_simple(store, STORE_SESSION, STORE_STATEMENT_MS, NULL));
    *ret = store;
    store = NULL;
    return ERR_ok;
}

err_t store_plan_by_key(struct store *store)
{
    return store_simple(store,
                        "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;"
                        " SET enable_material = off; SET plan_cache_mode = force_generic_plan",
                        STORE_STATEMENT_MS, NULL);
}

err_t store_analyze(struct store *store)
{
    return store_simple(store, "ANALYZE task, episode_group, episode, batch, training_use, evaluation",
                        STORE_STATEMENT_MS + STORE_GRACE_MS, NULL);
}

void store_free(struct store **store)
{
    if (!*store) return;
    PQfinish((*store)->conn);
    free(*store);
    *store = NULL;
}

void store_close(struct store **store)
{
    store_free(store);
}

bool store_alive(const struct store *store)
{
    return !store->lost && PQstatus(store->conn) == CONNECTION_OK;
}

err_t store_begin(struct store *store, uint64_t epoch)
{
    BUG_IF(store_alive(store) && PQtransactionStatus(store->conn) != PQTRANS_IDLE);
    PGresult *result = NULL;
    TRY(store_simple(store, "BEGIN; SELECT epoch FROM data_epoch FOR SHARE", STORE_STATEMENT_MS + STORE_GRACE_MS, &result));
    bool some = PQntuples(result) == 1;
    uint64_t current = some ? strtoull(PQgetvalue(result, 0, 0), NULL, 10) : 0;
    PQclear(result);
    if (some && current == epoch) return ERR_ok;
    store_rollback(store);
    return err_set(ERR_stale, "the ledger belongs to data epoch %llu, ours is %llu", (unsigned long long)current,
                   (unsigned long long)epoch);
}

err_t store_commit(struct store *store)
{
    PGresult *result = NULL;
    err_t err = store_simple(store, "COMMIT", STORE_STATEMENT_MS + STORE_GRACE_MS, &result);
    if (err == ERR_unavailable) return err_prefix(err, "whether the transaction was committed must be read again");
    if (err != ERR_ok) return err;
    bool committed = strcmp(PQcmdStatus(result), "COMMIT") == 0;
    PQclear(result);
    return committed ? ERR_ok
                     : err_set(ERR_conflict, "COMMIT: a statement of the transaction had failed; nothing was written");
}

void store_rollback(struct store *store)
{
    if (!store_alive(store) || PQtransactionStatus(store->conn) == PQTRANS_IDLE) return;
    if (store_simple(store, "ROLLBACK", STORE_STATEMENT_MS + STORE_GRACE_MS, NULL) != ERR_ok) store->lost = true;
}

/* ' and \ are escaped inside '...' of a conninfo */
static err_t quote(const char *text, struct buf *out)
{
    TRY(buf_text(out, "'"));
    for (const char *c = text; *c; c++) {
        if (*c == '\'' || *c == '\\') TRY(buf_text(out, "\\"));
        TRY(buf_append(out, c, 1));
    }
    return buf_text(out, "'");
}

err_t store_conninfo(const char *run_dir, const char *role, char *ret, size_t size)
{
    const char *url = getenv("PAL_DATABASE_URL");
    AUTO(buf) text = {0};
    buf_init(&text, size - 1);
    if (url && *url) {
        TRY(buf_text(&text, url));
    } else {
        AUTO(buf) host = {0};
        TRY(buf_printf(&host, "%s/pg", run_dir));
        TRY(buf_text(&text, "host="));
        TRY(quote(buf_chars(&host), &text));
        TRY(buf_printf(&text, " port=%d dbname=%s user=", STORE_PORT, STORE_DATABASE));
        TRY(quote(role, &text));
    }
    memcpy(ret, buf_chars(&text), text.size + 1);
    return ERR_ok;
}
