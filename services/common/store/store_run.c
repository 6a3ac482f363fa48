/* Preparing and executing statements, reading their rows. */
#include "services/common/store/store_link.h"

#include <endian.h>
#include <math.h>

/* The slot of the statement, or the free one where it belongs. */
static const struct store_statement **prepared_slot(struct store *store, const struct store_statement *statement)
{
    size_t i = ((uintptr_t)statement / sizeof(void *) * 2654435761u) % STORE_PREPARED;
    while (store->prepared[i] && store->prepared[i] != statement) i = (i + 1) % STORE_PREPARED;
    return &store->prepared[i];
}

err_t store_prepare(struct store *store, const struct store_statement *statement)
{
    if (!store_alive(store)) return err_set(ERR_unavailable, "the connection to PostgreSQL was lost before");
    const struct store_statement **slot = prepared_slot(store, statement);
    if (*slot) return ERR_ok;
    BUG_IF(store->prepared_count >= STORE_PREPARED / 2);
    Oid oids[STORE_PARAMS];
    int count = 0;
    for (; statement->params[count]; count++) oids[count] = store_type_oid(statement->params[count]);
    int sent = PQsendPrepare(store->conn, statement->name, statement->text, count, oids);
    PGresult *result = NULL;
    TRY(store_answer(store, sent, statement->name, store->patience_ms, &result));
    PQclear(result);
    *slot = statement;
    store->prepared_count++;
    return ERR_ok;
}

static err_t check_columns(const struct store_statement *statement, const PGresult *result)
{
    int columns = 0;
    while (statement->columns[columns]) columns++;
    if (PQnfields(result) != columns)
        return err_set(ERR_database, "%s: %d columns came, %d are declared", statement->name, PQnfields(result), columns);
    for (int i = 0; i < columns; i++)
        if (PQftype(result, i) != store_type_oid(statement->columns[i]))
            return err_set(ERR_database, "%s: column %s has type %u, declared is %s", statement->name, PQfname(result, i),
                           PQftype(result, i), store_type_name(statement->columns[i]));
    return ERR_ok;
}

err_t store_run(struct store *store, struct store_args *args, struct store_rows *ret)
{
    const struct store_statement *statement = args->statement;
    if (args->failed != ERR_ok) return err_set(args->failed, "%s", args->why);
    BUG_IF(args->count < STORE_PARAMS && statement->params[args->count] != STORE_NONE);
    TRY(store_prepare(store, statement));
    const char *values[STORE_PARAMS];
    int sizes[STORE_PARAMS];
    int formats[STORE_PARAMS];
    for (size_t i = 0; i < args->count; i++) {
        /* an empty value is not NULL: any address will do */
        values[i] = args->values[i].null ? NULL : buf_chars(&args->bytes) + args->values[i].offset;
        sizes[i] = (int)args->values[i].size;
        formats[i] = 1;
    }
    int sent = PQsendQueryPrepared(store->conn, statement->name, (int)args->count, values, sizes, formats, 1);
    PGresult *result = NULL;
    TRY(store_answer(store, sent, statement->name, store->patience_ms, &result));
    err_t err = check_columns(statement, result);
    if (err != ERR_ok || !ret) {
        PQclear(result);
        return err;
    }
    *ret = (struct store_rows){statement, result};
    return ERR_ok;
}

err_t store_run_one(struct store *store, struct store_args *args, struct store_rows *ret, const char *what)
{
    AUTO(store_rows) rows = {0};
    TRY(store_run(store, args, &rows));
    if (store_row_count(&rows) == 0) return err_set(ERR_not_found, "%s does not exist", what);
    if (store_row_count(&rows) > 1) return err_set(ERR_database, "%s: more than one row for %s", args->statement->name, what);
    *ret = rows;
    rows = (struct store_rows){0};
    return ERR_ok;
}

void store_rows_fini(struct store_rows *rows)
{
    PQclear(rows->result);
    rows->result = NULL;
}

size_t store_row_count(const struct store_rows *rows)
{
    return (size_t)PQntuples(rows->result);
}

size_t store_affected(const struct store_rows *rows)
{
    const char *text = PQcmdTuples(rows->result);
    size_t n = 0;
    for (; *text >= '0' && *text <= '9'; text++) n = n * 10 + (size_t)(*text - '0');
    return n;
}

static const struct span absent = {NULL, 0};

/* The value's bytes; data NULL when it is NULL. */
static struct span value_of(const struct store_rows *rows, size_t row, size_t column)
{
    BUG_IF(row >= store_row_count(rows) || column >= STORE_COLUMNS || !rows->statement->columns[column]);
    if (PQgetisnull(rows->result, (int)row, (int)column)) return absent;
    return span_of(PQgetvalue(rows->result, (int)row, (int)column), (size_t)PQgetlength(rows->result, (int)row, (int)column));
}

static uint16_t load16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return be16toh(v);
}

static uint32_t load32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return be32toh(v);
}

static uint64_t load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return be64toh(v);
}

/* An integer by its size, which its type fixes. */
static int64_t int_of(struct span v)
{
    if (v.size == 2) return (int16_t)load16(v.data);
    if (v.size == 4) return (int32_t)load32(v.data);
    return v.size == 8 ? (int64_t)load64(v.data) : 0;
}

static double float_of(struct span v)
{
    if (v.size == 4) {
        uint32_t bits = load32(v.data);
        float f;
        memcpy(&f, &bits, sizeof f);
        return (double)f;
    }
    if (v.size != 8) return (double)NAN;
    uint64_t bits = load64(v.data);
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

static enum store_type type_of(const struct store_rows *rows, size_t column)
{
    return rows->statement->columns[column];
}

bool store_is_null(const struct store_rows *rows, size_t row, size_t column)
{
    return value_of(rows, row, column).data == NULL;
}

int64_t store_get_int(const struct store_rows *rows, size_t row, size_t column)
{
    struct span v = value_of(rows, row, column);
    enum store_type type = type_of(rows, column);
    BUG_IF(type != STORE_INT2 && type != STORE_INT4 && type != STORE_INT8);
    return int_of(v);
}

double store_get_float(const struct store_rows *rows, size_t row, size_t column)
{
    struct span v = value_of(rows, row, column);
    enum store_type type = type_of(rows, column);
    BUG_IF(type != STORE_FLOAT4 && type != STORE_FLOAT8);
    return float_of(v);
}

bool store_get_bool(const struct store_rows *rows, size_t row, size_t column)
{
    struct span v = value_of(rows, row, column);
    BUG_IF(type_of(rows, column) != STORE_BOOL);
    return v.size == 1 && v.data[0] != 0;
}

struct span store_get_span(const struct store_rows *rows, size_t row, size_t column)
{
    struct span v = value_of(rows, row, column);
    enum store_type type = type_of(rows, column);
    BUG_IF(type != STORE_TEXT && type != STORE_JSONB && type != STORE_BYTEA);
    /* jsonb in binary is a version byte, then text */
    if (type == STORE_JSONB && v.size > 0) return span_of(v.data + 1, v.size - 1);
    return v;
}

const char *store_get_text(const struct store_rows *rows, size_t row, size_t column)
{
    BUG_IF(type_of(rows, column) == STORE_BYTEA);
    struct span v = store_get_span(rows, row, column);
    return v.data ? (const char *)v.data : ""; /* libpq ends every value with a zero */
}

/* A walk over an array value: header, then (length, bytes) per element. */
struct elements {
    struct span left;
    size_t count;
};

static err_t elements_open(const struct store_rows *rows, size_t row, size_t column, struct elements *ret)
{
    struct span v = value_of(rows, row, column);
    enum store_type element = store_type_element(type_of(rows, column));
    *ret = (struct elements){absent, 0};
    if (!v.data) return ERR_ok;
    if (v.size < 12) return err_set(ERR_database, "%s: an array's header is cut", rows->statement->name);
    uint32_t dimensions = load32(v.data);
    if (dimensions == 0) return ERR_ok;
    if (dimensions != 1 || v.size < 20 || load32(v.data + 8) != store_type_oid(element))
        return err_set(ERR_database, "%s: column %zu is not a one-dimensional array of %s", rows->statement->name, column,
                       store_type_name(element));
    size_t count = load32(v.data + 12);
    if (count > (v.size - 20) / 4) return err_set(ERR_database, "%s: an array is cut", rows->statement->name);
    *ret = (struct elements){span_of(v.data + 20, v.size - 20), count};
    return ERR_ok;
}

/* data NULL: a NULL element */
static err_t elements_next(struct elements *elements, struct span *ret)
{
    struct span *left = &elements->left;
    if (left->size < 4) return err_set(ERR_database, "an array is cut");
    uint32_t size = load32(left->data);
    *left = span_of(left->data + 4, left->size - 4);
    *ret = absent;
    if (size == UINT32_MAX) return ERR_ok;
    if (size > left->size) return err_set(ERR_database, "an array is cut");
    *ret = span_of(left->data, size);
    *left = span_of(left->data + size, left->size - size);
    return ERR_ok;
}

err_t store_get_ints(const struct store_rows *rows, size_t row, size_t column, struct arena *arena, int64_t **ret,
                     bool **ret_nulls, size_t *ret_count)
{
    enum store_type type = type_of(rows, column);
    BUG_IF(type != STORE_INT2_ARRAY && type != STORE_INT4_ARRAY && type != STORE_INT8_ARRAY);
    struct elements elements;
    TRY(elements_open(rows, row, column, &elements));
    int64_t *values = arena_array(arena, int64_t, elements.count);
    bool *nulls = arena_array(arena, bool, elements.count);
    if (!values || !nulls) return ERR_memory;
    for (size_t i = 0; i < elements.count; i++) {
        struct span v = absent;
        TRY(elements_next(&elements, &v));
        nulls[i] = v.data == NULL;
        values[i] = nulls[i] ? 0 : int_of(v);
    }
    *ret = values;
    if (ret_nulls) *ret_nulls = nulls;
    *ret_count = elements.count;
    return ERR_ok;
}

err_t store_get_floats(const struct store_rows *rows, size_t row, size_t column, struct arena *arena, double **ret,
                       bool **ret_nulls, size_t *ret_count)
{
    enum store_type type = type_of(rows, column);
    BUG_IF(type != STORE_FLOAT4_ARRAY && type != STORE_FLOAT8_ARRAY);
    struct elements elements;
    TRY(elements_open(rows, row, column, &elements));
    double *values = arena_array(arena, double, elements.count);
    bool *nulls = arena_array(arena, bool, elements.count);
    if (!values || !nulls) return ERR_memory;
    for (size_t i = 0; i < elements.count; i++) {
        struct span v = absent;
        TRY(elements_next(&elements, &v));
        nulls[i] = v.data == NULL;
        values[i] = float_of(v);
    }
    *ret = values;
    if (ret_nulls) *ret_nulls = nulls;
    *ret_count = elements.count;
    return ERR_ok;
}

err_t store_get_spans(const struct store_rows *rows, size_t row, size_t column, struct arena *arena, struct span **ret,
                      size_t *ret_count)
{
    enum store_type type = type_of(rows, column);
    BUG_IF(type != STORE_TEXT_ARRAY && type != STORE_BYTEA_ARRAY);
    struct elements elements;
    TRY(elements_open(rows, row, column, &elements));
    struct span *values = arena_array(arena, struct span, elements.count);
    if (!values) return ERR_memory;
    for (size_t i = 0; i < elements.count; i++) {
        struct span v = absent;
        TRY(elements_next(&elements, &v));
        if (!v.data) continue;
        const char *copy = arena_text(arena, v);
        if (!copy) return ERR_memory;
        values[i] = span_of(copy, v.size);
    }
    *ret = values;
    *ret_count = elements.count;
    return ERR_ok;
}
