/* The inside of the store: what the store_<noun>.c files are written with.
 *
 * A noun's file has a static table of statements at its head, exports it as `const struct store_table store_<noun>_table`, is
 * listed in store_tables.def, and has one typed function per statement:
 *
 *     enum { TASK_INSERT, TASK_QUARANTINE };
 *     static const struct store_statement statements[] = {
 *         [TASK_INSERT] = {.name = "task_insert",
 *                          .doc = "tasks of a job, one set",
 *                          .params = {STORE_INT8, STORE_INT8_ARRAY, STORE_TEXT_ARRAY},
 *                          .columns = {STORE_INT8},
 *                          .text = "INSERT INTO task (...) SELECT $1, * FROM unnest($2, $3) RETURNING id"}, ...
 *     };
 *     const struct store_table store_task_table = {"task", statements, sizeof statements / sizeof *statements};
 *
 *     err_t store_task_insert(struct store *store, ...)
 *     {
 *         AUTO(store_args) args = {0};
 *         store_args_init(&args, &statements[TASK_INSERT]);
 *         store_put_int(&args, job);
 *         store_put_ints(&args, ids, NULL, count);
 *         store_put_texts(&args, bodies, count);
 *         AUTO(store_rows) rows = {0};
 *         TRY(store_run(store, &args, &rows));
 *         ...store_get_int(&rows, 0, 0)...
 *     }
 *
 * Invariants: statements are prepared on first use of a connection, with the declared parameter types (so `$1::int` of an
 * INT8 is a cast); parameters and results travel in binary; a result whose columns are not the declared ones is
 * ERR_database, so a getter never meets a foreign type. Putting or getting by another type than the declared one is a
 * BUG_IF. What goes wrong while putting (memory, size) is kept in the args and returned by store_run.
 *
 * Ragged arrays (real[] per row) do not survive unnest: pass all values as one array and slice it, `($5)[u.lo:u.hi]`. */
#ifndef PAL_STORE_STORE_INTERNAL_H
#define PAL_STORE_STORE_INTERNAL_H

#include "services/common/store/store.h"

#define STORE_PARAMS      24                  /* most parameters of a statement */
#define STORE_COLUMNS     40                  /* most result columns */
#define STORE_VALUE_BYTES ((size_t)512 << 20) /* most bytes of one statement's parameters */

struct pg_result;

enum store_type {
    STORE_NONE, /* ends params and columns */
#define STORE_TYPE(name, text, oid, element) STORE_##name,
#include "services/common/store/store_types.def"
#undef STORE_TYPE
    STORE_TYPE_COUNT
};

struct store_statement {
    const char *name; /* unique among all tables */
    const char *doc;
    enum store_type params[STORE_PARAMS + 1];
    enum store_type columns[STORE_COLUMNS + 1]; /* none: no rows come back */
    const char *text;
};

struct store_table {
    const char *noun;
    const struct store_statement *rows;
    size_t count;
};

#define STORE_TABLE(noun) extern const struct store_table store_##noun##_table;
#include "services/common/store/store_tables.def"
#undef STORE_TABLE

/* All tables of store_tables.def. */
const struct store_table *const *store_statements(size_t *ret_count);
const char *store_type_name(enum store_type type); /* "bigint[]" */

/* Parameters of one execution, put in the order of the statement's `params`. */
struct store_args {
    const struct store_statement *statement;
    struct buf bytes; /* the encoded values, one after the other */
    struct {
        size_t offset;
        size_t size;
        bool null;
    } values[STORE_PARAMS];
    size_t count;
    err_t failed;             /* first failure of a put, */
    char why[ERR_TEXT_BYTES]; /* and its sentence */
};

void store_args_init(struct store_args *args, const struct store_statement *statement);
void store_args_fini(struct store_args *args);

void store_put_null(struct store_args *args);
void store_put_int(struct store_args *args, int64_t value);  /* INT2, INT4, INT8; out of range fails as ERR_invalid */
void store_put_float(struct store_args *args, double value); /* FLOAT4, FLOAT8 */
void store_put_bool(struct store_args *args, bool value);
void store_put_text(struct store_args *args, const char *value); /* TEXT, JSONB; NULL is NULL */
void store_put_span(struct store_args *args, struct span value); /* TEXT, JSONB, BYTEA; empty is empty, never NULL */
/* Arrays. nulls[i] true makes element i NULL; nulls may be NULL. A NULL pointer among texts is a NULL element. */
void store_put_ints(struct store_args *args, const int64_t *values, const bool *nulls, size_t count);  /* INT2/4/8_ARRAY */
void store_put_floats(struct store_args *args, const double *values, const bool *nulls, size_t count); /* FLOAT4/8_ARRAY */
void store_put_texts(struct store_args *args, const char *const *values, size_t count);                /* TEXT_ARRAY */
void store_put_spans(struct store_args *args, const struct span *values, const bool *nulls,
                     size_t count); /* TEXT/BYTEA_ARRAY */

/* The rows of an answer. */
struct store_rows {
    const struct store_statement *statement;
    struct pg_result *result;
};

void store_rows_fini(struct store_rows *rows);

/* Executes; ret may be NULL. Answers are borrowed from ret until store_rows_fini. */
err_t store_run(struct store *store, struct store_args *args, struct store_rows *ret) MUST_USE;
/* As store_run, exactly one row wanted: ERR_not_found, saying `what`, when there is none. */
err_t store_run_one(struct store *store, struct store_args *args, struct store_rows *ret, const char *what) MUST_USE;

size_t store_row_count(const struct store_rows *rows);
size_t store_affected(const struct store_rows *rows); /* rows inserted, updated or deleted */

/* NULL reads as 0, NaN, false, "" and the empty span; ask store_is_null where that is not enough. */
bool store_is_null(const struct store_rows *rows, size_t row, size_t column);
int64_t store_get_int(const struct store_rows *rows, size_t row, size_t column);
double store_get_float(const struct store_rows *rows, size_t row, size_t column);
bool store_get_bool(const struct store_rows *rows, size_t row, size_t column);
const char *store_get_text(const struct store_rows *rows, size_t row, size_t column); /* TEXT, JSONB */
struct span store_get_span(const struct store_rows *rows, size_t row, size_t column); /* TEXT, JSONB, BYTEA */
/* Arrays, into the arena: one-dimensional ones, a NULL array is the empty one. ret_nulls may be NULL, then a NULL element
 * reads as above. */
err_t store_get_ints(const struct store_rows *rows, size_t row, size_t column, struct arena *arena, int64_t **ret,
                     bool **ret_nulls, size_t *ret_count) MUST_USE;
err_t store_get_floats(const struct store_rows *rows, size_t row, size_t column, struct arena *arena, double **ret,
                       bool **ret_nulls, size_t *ret_count) MUST_USE;
/* TEXT_ARRAY and BYTEA_ARRAY; each element is followed by a zero byte. A NULL element has data NULL. */
err_t store_get_spans(const struct store_rows *rows, size_t row, size_t column, struct arena *arena, struct span **ret,
                      size_t *ret_count) MUST_USE;

/* Prepares and describes a statement against the connected schema and compares its types with the declared ones: for the
 * test that walks all tables. ERR_database says what differs. */
err_t store_describe(struct store *store, const struct store_statement *statement) MUST_USE;

/* Constant SQL of this folder's own (BEGIN, migrations), several statements at once, within `ms`. ret may be NULL; it gets
 * the last result, as text. */
err_t store_simple(struct store *store, const char *sql, int ms, struct pg_result **ret) MUST_USE;

#endif
