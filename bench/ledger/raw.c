#include "bench/ledger/raw.h"

#include "bench/ledger/crew.h"
#include "bench/support/rig.h"

#include <endian.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOISE_BYTES ((size_t)8 << 20)
#define AHEAD       4 /* transactions that are sent and not answered */
#define PARAMS      20
#define ROOM        512

static const char make[] = "SET client_min_messages = warning; DROP TABLE IF EXISTS raw_episode, raw_payload;"
                           "CREATE TABLE raw_episode (LIKE episode INCLUDING ALL) WITH (fillfactor = 60);"
                           "CREATE TABLE raw_payload (LIKE episode_payload INCLUDING ALL)";
static const char episode_sql[] =
    "INSERT INTO raw_episode (job, id, group_id, slot, state, attempt, token, worker, seed, max_steps, leased_at, ended_at,"
    " outcome, reward, steps, prompt_tokens, action_tokens, version_min, version_max, turn_entropy, turn_tokens, engine_ms, "
    "env_ms)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now(), now(), $11, $12, $13, $14, $15, $16, $17, $18, $18, $19, $20)";
static const char payload_sql[] = "INSERT INTO raw_payload (job, episode, raw_size, bytes) VALUES ($1, $2, $3, $4)";

/* The parameters of one statement, in binary. */
struct row {
    char bytes[ROOM];
    size_t at;
    const char *values[PARAMS];
    int sizes[PARAMS], formats[PARAMS], count;
};

static void put(struct row *row, const void *bytes, size_t size)
{
    memcpy(row->bytes + row->at, bytes, size);
    row->values[row->count] = row->bytes + row->at;
    row->sizes[row->count] = (int)size;
    row->formats[row->count++] = 1;
    row->at += size;
}

static void put8(struct row *row, uint64_t value)
{
    value = htobe64(value);
    put(row, &value, sizeof value);
}

static void put4(struct row *row, uint32_t value)
{
    value = htobe32(value);
    put(row, &value, sizeof value);
}

static void put_double(struct row *row, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put8(row, bits);
}

static void put_float(struct row *row, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put4(row, bits);
}

static void put_text(struct row *row, const char *text)
{
    put(row, text, strlen(text));
}

/* real[]: dimensions, no NULL, oid 700, count, lower bound, then (4, value) each */
static void put_turns(struct row *row)
{
    uint32_t words[5 + 2 * CREW_TURNS] = {1, 0, 700, CREW_TURNS, 1};
    for (size_t i = 0; i < CREW_TURNS; i++) {
        float value = 0.5f;
        words[5 + 2 * i] = 4;
        memcpy(&words[6 + 2 * i], &value, sizeof value);
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) words[i] = htobe32(words[i]);
    put(row, words, sizeof words);
}

static void die(PGconn *conn)
{
    rig_die("raw inserts", PQerrorMessage(conn));
}

static PGconn *dial(const char *conninfo)
{
    PGconn *conn = PQconnectdb(conninfo);
    if (PQstatus(conn) != CONNECTION_OK) die(conn);
    return conn;
}

void raw_ask(const char *conninfo, const char *sql, char *ret, size_t size)
{
    PGconn *conn = dial(conninfo);
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) rig_die(sql, PQerrorMessage(conn));
    (void)snprintf(ret, size, "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    PQfinish(conn);
}

void raw_script(const char *conninfo, const char *text)
{
    PGconn *conn = dial(conninfo);
    for (const char *at = text; at && *at;) {
        char sql[4096];
        const char *end = strstr(at, ";\n\n");
        int n = snprintf(sql, sizeof sql, "%.*s", end ? (int)(end - at) : (int)strlen(at), at);
        if (n < 0 || (size_t)n >= sizeof sql) rig_die("a statement", "is too long");
        PGresult *result = PQexec(conn, sql);
        if (PQresultStatus(result) != PGRES_COMMAND_OK) rig_die(sql, PQerrorMessage(conn));
        PQclear(result);
        at = end ? end + 3 : NULL;
    }
    PQfinish(conn);
}

static void prepare(PGconn *conn, const char *name, const char *sql)
{
    PGresult *result = PQprepare(conn, name, sql, 0, NULL);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) die(conn);
    PQclear(result);
}

static void send_episode(PGconn *conn, uint64_t id, const uint8_t *noise, size_t payload)
{
    struct row e = {.at = 0}, p = {.at = 0};
    put8(&e, 1);
    put8(&e, id);
    put8(&e, id / 8);
    put4(&e, (uint32_t)(id % 8));
    put_text(&e, "done");
    put4(&e, 0);
    put8(&e, id);
    put_text(&e, "rollout-0000000000000003");
    put8(&e, id * 2654435761u >> 1);
    put4(&e, 24);
    put_text(&e, "ok");
    put_double(&e, (double)(id % 2));
    put4(&e, CREW_TURNS);
    put4(&e, 48);
    put4(&e, 21);
    put8(&e, id / 128);
    put8(&e, id / 128);
    put_turns(&e);
    put_float(&e, 1.5f);
    put_float(&e, 0.5f);
    put8(&p, 1);
    put8(&p, id);
    put4(&p, (uint32_t)payload);
    p.values[p.count] = (const char *)noise + id * 2654435761u % (NOISE_BYTES - payload);
    p.sizes[p.count] = (int)payload;
    p.formats[p.count++] = 1;
    if (!PQsendQueryPrepared(conn, "raw_episode", e.count, e.values, e.sizes, e.formats, 1) ||
        !PQsendQueryPrepared(conn, "raw_payload", p.count, p.values, p.sizes, p.formats, 1))
        die(conn);
}

static void send_transaction(PGconn *conn, uint64_t first, const uint8_t *noise, size_t payload)
{
    if (!PQsendQueryParams(conn, "BEGIN", 0, NULL, NULL, NULL, NULL, 1)) die(conn);
    for (uint64_t id = first; id < first + RAW_COMMIT; id++) {
        send_episode(conn, id, noise, payload);
        if (id % 16 == 0 && PQflush(conn) < 0) die(conn);
    }
    if (!PQsendQueryParams(conn, "COMMIT", 0, NULL, NULL, NULL, NULL, 1) || !PQpipelineSync(conn)) die(conn);
}

/* Takes what has come; transactions that ended. */
static uint64_t take_answers(PGconn *conn, bool wait)
{
    uint64_t ended = 0;
    struct pollfd fd = {PQsocket(conn), POLLIN, 0};
    int flushing = PQflush(conn);
    if (flushing > 0) fd.events |= POLLOUT;
    if (wait) (void)poll(&fd, 1, 1000);
    if (flushing < 0 || !PQconsumeInput(conn)) die(conn);
    while (!PQisBusy(conn)) {
        PGresult *result = PQgetResult(conn);
        if (!result) { /* between two statements, or nothing is sent */
            if (PQisBusy(conn)) break;
            result = PQgetResult(conn);
            if (!result) break;
        }
        ExecStatusType status = PQresultStatus(result);
        ended += status == PGRES_PIPELINE_SYNC;
        if (status != PGRES_PIPELINE_SYNC && status != PGRES_COMMAND_OK) die(conn);
        PQclear(result);
    }
    return ended;
}

uint64_t raw_run(const char *conninfo, size_t payload, double seconds, double *ret_seconds)
{
    char none[8];
    uint8_t *noise = malloc(NOISE_BYTES);
    if (!noise) rig_die("raw inserts", "no memory");
    crew_noise(noise, NOISE_BYTES);
    raw_ask(conninfo, make, none, sizeof none);
    PGconn *conn = dial(conninfo);
    prepare(conn, "raw_episode", episode_sql);
    prepare(conn, "raw_payload", payload_sql);
    if (!PQenterPipelineMode(conn) || PQsetnonblocking(conn, 1) != 0) die(conn);
    uint64_t sent = 0, ended = 0;
    double begin = rig_now();
    while (rig_now() < begin + seconds || ended < sent) {
        bool more = rig_now() < begin + seconds && sent - ended < AHEAD;
        if (more) send_transaction(conn, sent++ * RAW_COMMIT, noise, payload);
        ended += take_answers(conn, !more);
    }
    *ret_seconds = rig_now() - begin;
    PQfinish(conn);
    free(noise);
    return ended * RAW_COMMIT;
}
