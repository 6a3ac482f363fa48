/* LABELS: store
 * store, against a cluster of its own: migrations, every statement of every table, the fence of the data epoch, values and
 * arrays there and back, errors by class, and the rows that the schema must refuse. */
#include "services/common/store/store_batch.h"
#include "services/common/store/store_link.h"
#include "services/common/store/store_read.h"
#include "services/common/store/store_verify.h"
#include "tests/support/cluster.h"

#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIGRATIONS PAL_SOURCE_DIR "/migrations"

#define OK(call)                                                                                                             \
    do {                                                                                                                     \
        err_t ok_ = (call);                                                                                                  \
        ck_assert_msg(ok_ == ERR_ok, "%s: %s (%s)", err_name(ok_), err_text(), err_place());                                 \
    } while (0)

/* the failure, and a word that its sentence must have */
#define FAILS(call, want, word)                                                                                              \
    do {                                                                                                                     \
        err_t got_ = (call);                                                                                                 \
        ck_assert_msg(got_ == (want), "%s instead of %s: %s", err_name(got_), err_name(want), err_text());                   \
        ck_assert_msg(strstr(err_text(), (word)) != NULL, "no '%s' in: %s", (word), err_text());                             \
    } while (0)

static struct cluster cluster; /* one for the program: main starts it */

static void open_as(struct store **ret, const char *database, const char *role)
{
    char conninfo[CLUSTER_TEXT_BYTES];
    cluster_conninfo(&cluster, database, role, conninfo, sizeof conninfo);
    OK(store_open(ret, conninfo));
}

/* A statement without parameters. */
static err_t run(struct store *store, const struct store_statement *statement)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, statement);
    return store_run(store, &args, NULL);
}

static void write_migration(const char *folder, const char *name, const char *text)
{
    char path[CLUSTER_TEXT_BYTES + 64];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    (void)fputs(text, file);
    ck_assert_int_eq(fclose(file), 0);
}

static void remove_migration(const char *folder, const char *name)
{
    char path[CLUSTER_TEXT_BYTES + 64];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    ck_assert_int_eq(remove(path), 0);
}

START_TEST(migrations_apply_once_and_notice_changes)
{
    char folder[CLUSTER_TEXT_BYTES + 16];
    (void)snprintf(folder, sizeof folder, "%s/migrations-a", cluster.state_dir);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    cluster_database(&cluster, "migrations_a");
    AUTO_PTR(store) store = NULL;
    open_as(&store, "migrations_a", "pal");
    FAILS(store_migrate(store, folder), ERR_not_found, "no NNNN_name.sql");
    FAILS(store_migrate(store, "/nonexistent"), ERR_io, "/nonexistent");
    write_migration(folder, "0001_first.sql", "CREATE TABLE first (a int);\nINSERT INTO first VALUES (1);\n");
    write_migration(folder, "README.md", "not a migration");
    OK(store_migrate(store, folder));
    OK(store_migrate(store, folder));
    write_migration(folder, "0002_second.sql", "ALTER TABLE first ADD b int;");
    OK(store_migrate(store, folder));
    static const struct store_statement seen = {
        .name = "seen",
        .columns = {STORE_INT8, STORE_INT8, STORE_BOOL},
        .text = "SELECT (SELECT count(*) FROM first), (SELECT count(*) FROM schema_migration), "
                "(SELECT bool_and(length(sha256) = 64) FROM schema_migration)"};
    AUTO(store_args) args = {0};
    AUTO(store_rows) rows = {0};
    store_args_init(&args, &seen);
    OK(store_run_one(store, &args, &rows, "counts"));
    ck_assert_int_eq(store_get_int(&rows, 0, 0), 1);
    ck_assert_int_eq(store_get_int(&rows, 0, 1), 2);
    ck_assert(store_get_bool(&rows, 0, 2));

    write_migration(folder, "0001_first.sql", "CREATE TABLE first (a bigint);");
    FAILS(store_migrate(store, folder), ERR_conflict, "0001_first.sql was changed");
    write_migration(folder, "0001_first.sql", "CREATE TABLE first (a int);\nINSERT INTO first VALUES (1);\n");
    OK(store_migrate(store, folder));
    remove_migration(folder, "0002_second.sql");
    FAILS(store_migrate(store, folder), ERR_conflict, "newer");
    write_migration(folder, "0003_third.sql", "SELECT 1;");
    FAILS(store_migrate(store, folder), ERR_invalid, "0002 is missing");
    ck_assert(store_alive(store));
}
END_TEST

START_TEST(a_migration_is_whole_or_absent)
{
    char folder[CLUSTER_TEXT_BYTES + 16];
    (void)snprintf(folder, sizeof folder, "%s/migrations-b", cluster.state_dir);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    cluster_database(&cluster, "migrations_b");
    AUTO_PTR(store) store = NULL;
    open_as(&store, "migrations_b", "pal");
    write_migration(folder, "0001_bad.sql", "CREATE TABLE one (a int); CREATE TABLE two (a nonsense);");
    FAILS(store_migrate(store, folder), ERR_database, "migration 0001_bad.sql");
    write_migration(folder, "0001_bad.sql", "CREATE TABLE three (a int); COMMIT;");
    FAILS(store_migrate(store, folder), ERR_invalid, "ends its transaction");
    write_migration(folder, "0001_good.sql", "CREATE TABLE one (a int);");
    FAILS(store_migrate(store, folder), ERR_invalid, "same number");
    remove_migration(folder, "0001_bad.sql");
    OK(store_migrate(store, folder)); /* nothing of the bad ones is left */
    /* another program may migrate at the same time: the lock is free again after each of them */
    AUTO_PTR(store) other = NULL;
    open_as(&other, "migrations_b", "pal");
    OK(store_migrate(other, folder));
}
END_TEST

/* A job with a row in each of the tables that the first migration made. */
static const char ROWS_OF_OLD[] =
    "INSERT INTO job (name, spec) VALUES ('old', '{}');"
    "INSERT INTO job_event (job, seq, kind, message) VALUES (1, 1, 'state', 'submitted');"
    "INSERT INTO task (job, id, environment, split, body, hash, source) VALUES (1, 0, 0, 'train', 't', 'h', 'generate');"
    "INSERT INTO episode_group (job, id, task, source, size, update_for, state, verdict, done, reward_sum, advantage, "
    "closed_at)"
    " VALUES (1, 0, 0, 'fresh', 2, 1, 'closed', 'signal', 2, 1, '{0.5,-0.5}', now());"
    "INSERT INTO episode (job, id, group_id, slot, state, seed, max_steps, outcome, reward, steps, prompt_tokens, "
    "action_tokens)"
    " VALUES (1, 0, 0, 0, 'done', 1, 10, 'ok', 1, 3, 20, 5), (1, 1, 0, 1, 'done', 2, 10, 'truncated', 0, 10, 20, 5);"
    "INSERT INTO episode_payload (job, episode, raw_size, bytes) VALUES (1, 0, 1, 'x'), (1, 1, 1, 'y');"
    "INSERT INTO decision (job, subject, key, rule, verdict, inputs) VALUES (1, 'group', 0, 'dr_grpo', 'signal', '{}');"
    "INSERT INTO batch (job, lineage, update, kind, state, groups, episodes, pass, advantage, norm_tokens, no_signal_groups)"
    " VALUES (1, 0, 0, 'warmstart', 'handed_out', '{}', '{}', '{}', '{}', 0, 0), (1, 0, 1, 'update', 'handed_out', '{0}', "
    "'{0,1}', '{0,0}', '{0.5,-0.5}', 10, 0);"
    "INSERT INTO training_use (job, episode, pass, lineage, update, source) VALUES (1, 0, 0, 0, 1, 'fresh'), (1, 1, 0, 0, 1, "
    "'fresh');"
    "INSERT INTO policy (job, lineage, version, digest) VALUES (1, 0, 0, 'd');"
    "INSERT INTO evaluation (job, lineage, version, episodes) VALUES (1, 0, 0, 4);"
    "INSERT INTO metric (job, lineage, update, name, value) VALUES (1, 0, 0, 'loss', 1);"
    "INSERT INTO service (identity, name, host, pid) VALUES ('data-1', 'data', 'h', 1);";

/* The first k migrations, in a folder of their own. */
static void first_migrations(const char *name, int k, char *ret, size_t size)
{
    char command[4 * CLUSTER_TEXT_BYTES];
    ck_assert_int_lt(snprintf(ret, size, "%s/%s-%d", cluster.state_dir, name, k), (int)size);
    (void)snprintf(command, sizeof command, "mkdir '%s' && cp $(ls " MIGRATIONS "/[0-9]*.sql | head -%d) '%s'", ret, k, ret);
    ck_assert_int_eq(system(command), 0);
}

static int count_migrations(void)
{
    int count = 0;
    FILE *list = popen("ls " MIGRATIONS "/[0-9]*.sql | wc -l", "r");
    ck_assert_ptr_nonnull(list);
    ck_assert_int_eq(fscanf(list, "%d", &count), 1);
    (void)pclose(list);
    return count;
}

/* What was written under the first schema is read as before, and no invariant is broken. */
static void check_old_rows(struct store *store)
{
    AUTO(buf) job = {0};
    AUTO(buf) episode = {0};
    AUTO(arena) arena = {0};
    struct store_batch batch;
    struct store_member *members = NULL;
    OK(store_read_job(store, 1, &job));
    ck_assert_ptr_nonnull(strstr(buf_chars(&job), "\"done\": 2"));
    OK(store_read_episode(store, 1, 0, &episode));
    OK(store_batch_read(store, 1, 1, &arena, &batch));
    ck_assert_uint_eq(batch.episode_count, 2);
    OK(store_batch_members(store, 1, &batch, &arena, &members));
    for (size_t i = 0; i < store_verify_count(); i++) {
        struct store_verdict verdict;
        OK(store_verify(store, i, 1, &verdict));
        ck_assert_msg(verdict.broken == 0, "%s", store_verify_at(i)->name);
    }
}

/* A state of the first schema, brought to each later one and then opened with the newest. */
START_TEST(older_states_are_brought_forward)
{
    char folder[CLUSTER_TEXT_BYTES + 32], database[32];
    int newest = count_migrations();
    for (int k = 1; k < newest; k++) {
        (void)snprintf(database, sizeof database, "older_%d", k);
        first_migrations(database, 1, folder, sizeof folder);
        struct store *store = cluster_ledger(&cluster, database, folder);
        OK(store_simple(store, ROWS_OF_OLD, STORE_STATEMENT_MS, NULL));
        if (k > 1) first_migrations(database, k, folder, sizeof folder);
        OK(store_migrate(store, folder));
        store_close(&store);
        open_as(&store, database, "pal");
        OK(store_migrate(store, MIGRATIONS));
        check_old_rows(store);
        store_close(&store);
        open_as(&store, database, "pal");
        FAILS(store_migrate(store, folder), ERR_conflict, "newer");
        store_close(&store);
    }
}
END_TEST

START_TEST(every_statement_prepares_and_is_what_it_declares)
{
    AUTO_PTR(store) store = cluster_ledger(&cluster, "statements", MIGRATIONS);
    size_t count;
    const struct store_table *const *tables = store_statements(&count);
    ck_assert_uint_ge(count, 2);
    for (size_t t = 0; t < count; t++) {
        for (size_t i = 0; i < tables[t]->count; i++) {
            const struct store_statement *s = &tables[t]->rows[i];
            ck_assert_msg(s->name && s->text && s->doc && *s->doc, "%s: statement %zu is not complete", tables[t]->noun, i);
            for (size_t p = 0; s->params[p]; p++) {
                char mark[8];
                (void)snprintf(mark, sizeof mark, "$%zu", p + 1);
                ck_assert_msg(strstr(s->text, mark) != NULL, "%s does not use %s", s->name, mark);
            }
            err_t err = store_describe(store, s);
            ck_assert_msg(err == ERR_ok, "%s", err_text());
            for (size_t u = 0; u < count; u++)
                for (size_t j = 0; j < tables[u]->count; j++)
                    ck_assert_msg((u == t && j == i) || strcmp(tables[u]->rows[j].name, s->name) != 0, "two are called %s",
                                  s->name);
        }
    }
}
END_TEST

START_TEST(a_wrong_declaration_is_noticed)
{
    static const struct store_statement bad[] = {
        {.name = "bad_param", .params = {STORE_INT8}, .columns = {STORE_INT8}, .text = "SELECT $1 + length($2::text)"},
        {.name = "bad_count", .columns = {STORE_INT8, STORE_INT8}, .text = "SELECT 1::bigint"},
        {.name = "bad_column", .columns = {STORE_INT8}, .text = "SELECT 1::int"},
        {.name = "bad_rows", .text = "SELECT 1::int"},
    };
    AUTO_PTR(store) store = NULL;
    open_as(&store, "postgres", "pal");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) FAILS(store_describe(store, &bad[i]), ERR_database, "declared");
    FAILS(run(store, &bad[1]), ERR_database, "declared");
    FAILS(run(store, &bad[2]), ERR_database, "bigint");
    FAILS(run(store, &bad[3]), ERR_database, "declared");
}
END_TEST

static const struct store_statement echo = {
    .name = "echo",
    .params = {STORE_BOOL, STORE_INT2, STORE_INT4, STORE_INT8, STORE_FLOAT4, STORE_FLOAT8, STORE_TEXT, STORE_BYTEA,
               STORE_JSONB},
    .columns = {STORE_BOOL, STORE_INT2, STORE_INT4, STORE_INT8, STORE_FLOAT4, STORE_FLOAT8, STORE_TEXT, STORE_BYTEA,
                STORE_JSONB},
    .text = "SELECT $1::boolean, $2::smallint, $3::int, $4::bigint, $5::real, $6::float8, $7::text, $8::bytea, $9::jsonb"};

START_TEST(values_come_back)
{
    AUTO_PTR(store) store = NULL;
    open_as(&store, "postgres", "pal");
    static const uint8_t bytes[] = {0, 1, 255, 0};
    AUTO(store_args) args = {0};
    AUTO(store_rows) rows = {0};
    store_args_init(&args, &echo);
    store_put_bool(&args, true);
    store_put_int(&args, INT16_MIN);
    store_put_int(&args, INT32_MAX);
    store_put_int(&args, INT64_MIN);
    store_put_float(&args, 1.5);
    store_put_float(&args, -0.1);
    store_put_text(&args, "z\xc3\xa4hl'\"\\");
    store_put_span(&args, span_of(bytes, sizeof bytes));
    store_put_text(&args, "{\"a\": [1, null]}");
    OK(store_run_one(store, &args, &rows, "a row"));
    ck_assert(store_get_bool(&rows, 0, 0));
    ck_assert_int_eq(store_get_int(&rows, 0, 1), INT16_MIN);
    ck_assert_int_eq(store_get_int(&rows, 0, 2), INT32_MAX);
    ck_assert(store_get_int(&rows, 0, 3) == INT64_MIN);
    ck_assert_double_eq(store_get_float(&rows, 0, 4), 1.5);
    ck_assert_double_eq(store_get_float(&rows, 0, 5), -0.1);
    ck_assert_str_eq(store_get_text(&rows, 0, 6), "z\xc3\xa4hl'\"\\");
    ck_assert(span_equal(store_get_span(&rows, 0, 7), span_of(bytes, sizeof bytes)));
    ck_assert_str_eq(store_get_text(&rows, 0, 8), "{\"a\": [1, null]}");
}
END_TEST

START_TEST(nulls_and_empty_values_are_not_the_same)
{
    AUTO_PTR(store) store = NULL;
    open_as(&store, "postgres", "pal");
    AUTO(store_args) args = {0};
    AUTO(store_rows) rows = {0};
    store_args_init(&args, &echo);
    for (size_t i = 0; i < 6; i++) store_put_null(&args);
    store_put_text(&args, NULL);
    store_put_null(&args);
    store_put_text(&args, NULL);
    OK(store_run_one(store, &args, &rows, "a row"));
    for (size_t i = 0; i < 9; i++) ck_assert(store_is_null(&rows, 0, i));
    ck_assert(!store_get_bool(&rows, 0, 0));
    ck_assert_int_eq(store_get_int(&rows, 0, 3), 0);
    ck_assert(isnan(store_get_float(&rows, 0, 5)));
    ck_assert_str_eq(store_get_text(&rows, 0, 6), "");
    ck_assert_uint_eq(store_get_span(&rows, 0, 8).size, 0);

    static const struct store_statement empties = {.name = "empties",
                                                   .params = {STORE_TEXT, STORE_BYTEA},
                                                   .columns = {STORE_TEXT, STORE_BYTEA},
                                                   .text = "SELECT $1::text, $2::bytea"};
    AUTO(store_args) none = {0};
    AUTO(store_rows) empty = {0};
    store_args_init(&none, &empties);
    store_put_text(&none, "");
    store_put_span(&none, span_of(NULL, 0));
    OK(store_run_one(store, &none, &empty, "a row"));
    ck_assert(!store_is_null(&empty, 0, 0));
    ck_assert(!store_is_null(&empty, 0, 1));
}
END_TEST

START_TEST(foreign_bytes_become_text_that_can_be_stored)
{
    static const struct {
        struct span in;
        const char *out;
    } cases[] = {
        {{(const uint8_t *)"a\0b", 3}, "a?b"},
        {{(const uint8_t *)"\xff\xc3", 2}, "??"},
        {{(const uint8_t *)"\xed\xa0\x80|", 4}, "???|"},                  /* a surrogate */
        {{(const uint8_t *)"\xc0\x80", 2}, "??"},                         /* overlong */
        {{(const uint8_t *)"\xf4\x90\x80\x80", 4}, "????"},               /* past U+10FFFF */
        {{(const uint8_t *)"\xf0\x9f\x98\x80!", 5}, "\xf0\x9f\x98\x80!"}, /* good */
    };
    static const struct store_statement text = {
        .name = "text", .params = {STORE_TEXT}, .columns = {STORE_TEXT}, .text = "SELECT $1::text"};
    AUTO_PTR(store) store = NULL;
    open_as(&store, "postgres", "pal");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        AUTO(store_args) args = {0};
        AUTO(store_rows) rows = {0};
        store_args_init(&args, &text);
        store_put_span(&args, cases[i].in);
        OK(store_run_one(store, &args, &rows, "a row"));
        ck_assert_str_eq(store_get_text(&rows, 0, 0), cases[i].out);
    }
}
END_TEST

START_TEST(integers_that_do_not_fit_are_refused)
{
    static const struct store_statement narrow = {.name = "narrow",
                                                  .params = {STORE_INT4, STORE_INT2_ARRAY},
                                                  .columns = {STORE_INT4},
                                                  .text = "SELECT $1::int WHERE cardinality($2::smallint[]) > 0"};
    AUTO_PTR(store) store = NULL;
    open_as(&store, "postgres", "pal");
    const int64_t pass = 40000;
    AUTO(store_args) args = {0};
    store_args_init(&args, &narrow);
    store_put_int(&args, (int64_t)INT32_MAX + 1);
    store_put_ints(&args, &pass, NULL, 1);
    FAILS(store_run(store, &args, NULL), ERR_invalid, "narrow: $1");
    store_args_fini(&args);
    store_args_init(&args, &narrow);
    store_put_int(&args, 1);
    store_put_ints(&args, &pass, NULL, 1);
    FAILS(store_run(store, &args, NULL), ERR_invalid, "narrow: $2");
}
END_TEST

static const struct store_statement echo_arrays = {
    .name = "echo_arrays",
    .params = {STORE_INT8_ARRAY, STORE_INT4_ARRAY, STORE_INT2_ARRAY, STORE_FLOAT8_ARRAY, STORE_FLOAT4_ARRAY, STORE_TEXT_ARRAY,
               STORE_BYTEA_ARRAY},
    .columns = {STORE_INT8_ARRAY, STORE_INT4_ARRAY, STORE_INT2_ARRAY, STORE_FLOAT8_ARRAY, STORE_FLOAT4_ARRAY,
                STORE_TEXT_ARRAY, STORE_BYTEA_ARRAY},
    .text = "SELECT $1::bigint[], $2::int[], $3::smallint[], $4::float8[], $5::real[], $6::text[], $7::bytea[]"};

static void arrays_round_trip(struct store *store, size_t n, bool some_null)
{
    AUTO(arena) arena = {0};
    int64_t *ints = arena_array(&arena, int64_t, n);
    double *floats = arena_array(&arena, double, n);
    const char **texts = arena_array(&arena, const char *, n);
    struct span *spans = arena_array(&arena, struct span, n);
    bool *nulls = arena_array(&arena, bool, n);
    for (size_t i = 0; i < n; i++) {
        nulls[i] = some_null && i % 3 == 1;
        ints[i] = (int64_t)(i % 60000) - 30000;
        floats[i] = (double)i * 0.5 - 7;
        texts[i] = nulls[i] ? NULL : arena_printf(&arena, "%s{\"%zu\"}", i % 2 ? "" : "NULL,", i);
        spans[i] = span_of(&ints[i], i % 9);
    }
    AUTO(store_args) args = {0};
    AUTO(store_rows) rows = {0};
    store_args_init(&args, &echo_arrays);
    for (size_t k = 0; k < 3; k++) store_put_ints(&args, ints, some_null ? nulls : NULL, n);
    for (size_t k = 0; k < 2; k++) store_put_floats(&args, floats, some_null ? nulls : NULL, n);
    store_put_texts(&args, texts, n);
    store_put_spans(&args, spans, some_null ? nulls : NULL, n);
    OK(store_run_one(store, &args, &rows, "a row"));
    size_t got;
    bool *was_null;
    size_t wrong = 0;
    for (size_t k = 0; k < 3; k++) {
        int64_t *back;
        OK(store_get_ints(&rows, 0, k, &arena, &back, &was_null, &got));
        ck_assert_uint_eq(got, n);
        for (size_t i = 0; i < n; i++) wrong += was_null[i] != nulls[i] || back[i] != (nulls[i] ? 0 : ints[i]);
    }
    for (size_t k = 3; k < 5; k++) {
        double *back;
        OK(store_get_floats(&rows, 0, k, &arena, &back, &was_null, &got));
        ck_assert_uint_eq(got, n);
        for (size_t i = 0; i < n; i++)
            wrong += was_null[i] != nulls[i] || !(nulls[i] ? isnan(back[i]) : back[i] == floats[i]);
    }
    struct span *back;
    OK(store_get_spans(&rows, 0, 5, &arena, &back, &got));
    ck_assert_uint_eq(got, n);
    for (size_t i = 0; i < n; i++) wrong += nulls[i] ? back[i].data != NULL : !span_is(back[i], texts[i]);
    OK(store_get_spans(&rows, 0, 6, &arena, &back, &got));
    ck_assert_uint_eq(got, n);
    for (size_t i = 0; i < n; i++) wrong += nulls[i] ? back[i].data != NULL : !back[i].data || !span_equal(back[i], spans[i]);
    ck_assert_uint_eq(wrong, 0);
}

START_TEST(arrays_come_back)
{
    AUTO_PTR(store) store = NULL;
    open_as(&store, "postgres", "pal");
    static const size_t sizes[] = {0, 1, 2, 3, 1000, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        arrays_round_trip(store, sizes[i], false);
        arrays_round_trip(store, sizes[i], true);
    }
}
END_TEST

START_TEST(null_and_foreign_arrays_are_told_apart)
{
    static const struct store_statement odd = {.name = "odd_arrays",
                                               .columns = {STORE_INT8_ARRAY, STORE_INT8_ARRAY},
                                               .text = "SELECT NULL::bigint[], '{{1,2},{3,4}}'::bigint[]"};
    AUTO_PTR(store) store = NULL;
    open_as(&store, "postgres", "pal");
    AUTO(arena) arena = {0};
    AUTO(store_args) args = {0};
    AUTO(store_rows) rows = {0};
    store_args_init(&args, &odd);
    OK(store_run_one(store, &args, &rows, "a row"));
    int64_t *values;
    size_t count = 7;
    OK(store_get_ints(&rows, 0, 0, &arena, &values, NULL, &count));
    ck_assert_uint_eq(count, 0);
    FAILS(store_get_ints(&rows, 0, 1, &arena, &values, NULL, &count), ERR_database, "one-dimensional");
}
END_TEST

START_TEST(sets_are_written_in_one_statement)
{
    static const struct store_statement make = {.name = "make_set",
                                                .text = "CREATE TEMP TABLE set_test (id bigint, r float8, v real[])"};
    static const struct store_statement write = {
        .name = "write_set",
        .params = {STORE_INT8_ARRAY, STORE_FLOAT8_ARRAY, STORE_INT4_ARRAY, STORE_INT4_ARRAY, STORE_FLOAT4_ARRAY},
        .text = "INSERT INTO set_test SELECT u.id, u.r, ($5::real[])[u.lo:u.hi] "
                "FROM unnest($1::bigint[], $2::float8[], $3::int[], $4::int[]) AS u (id, r, lo, hi)"};
    static const struct store_statement read = {.name = "read_set",
                                                .columns = {STORE_INT8, STORE_FLOAT8, STORE_FLOAT4_ARRAY},
                                                .text = "SELECT id, r, v FROM set_test ORDER BY id"};
    AUTO_PTR(store) store = NULL;
    open_as(&store, "palaestra", "pal");
    OK(run(store, &make));
    AUTO(store_args) args = {0};
    AUTO(store_rows) rows = {0};
    store_args_init(&args, &write);
    store_put_ints(&args, (const int64_t[]){1, 2, 3}, NULL, 3);
    store_put_floats(&args, (const double[]){0.5, 0, 1}, (const bool[]){false, true, false}, 3);
    store_put_ints(&args, (const int64_t[]){1, 3, 3}, NULL, 3);
    store_put_ints(&args, (const int64_t[]){2, 2, 5}, NULL, 3);
    store_put_floats(&args, (const double[]){1, 2, 3, 4, 5}, NULL, 5);
    OK(store_run(store, &args, &rows));
    ck_assert_uint_eq(store_affected(&rows), 3);
    AUTO(store_args) none = {0};
    AUTO(store_rows) back = {0};
    store_args_init(&none, &read);
    OK(store_run(store, &none, &back));
    ck_assert_uint_eq(store_row_count(&back), 3);
    ck_assert(store_is_null(&back, 1, 1));
    AUTO(arena) arena = {0};
    double *values;
    static const size_t want[] = {2, 0, 3};
    for (size_t i = 0; i < 3; i++) {
        size_t count;
        OK(store_get_floats(&back, i, 2, &arena, &values, NULL, &count));
        ck_assert_uint_eq(count, want[i]);
    }
    ck_assert_double_eq(values[0], 3);
}
END_TEST

START_TEST(an_older_epoch_is_fenced_off)
{
    static const struct store_statement job = {.name = "a_job",
                                               .text = "INSERT INTO job (name, spec) VALUES ('x', '{}'::jsonb)"};
    AUTO_PTR(store) old = cluster_ledger(&cluster, "epochs", MIGRATIONS);
    uint64_t first;
    OK(store_take_epoch(old, &first));
    ck_assert_uint_eq(first, 1);
    OK(store_begin(old, first));
    OK(run(old, &job));
    OK(store_commit(old));
    AUTO_PTR(store) fresh = NULL;
    open_as(&fresh, "epochs", "pal");
    uint64_t second;
    OK(store_take_epoch(fresh, &second));
    ck_assert_uint_eq(second, 2);
    FAILS(store_begin(old, first), ERR_stale, "epoch 2, ours is 1");
    OK(store_begin(fresh, second));
    OK(run(fresh, &job));
    store_rollback(fresh);
    OK(store_begin(fresh, second)); /* nothing is left open */
    OK(store_commit(fresh));
    static const struct store_statement count = {
        .name = "job_count", .columns = {STORE_INT8}, .text = "SELECT count(*) FROM job"};
    AUTO(store_args) args = {0};
    AUTO(store_rows) rows = {0};
    store_args_init(&args, &count);
    OK(store_run_one(fresh, &args, &rows, "a count"));
    ck_assert_int_eq(store_get_int(&rows, 0, 0), 1);
}
END_TEST

/* While a transaction of the old manager is open, nobody takes over; while somebody takes over, nobody writes. */
START_TEST(taking_over_waits_for_open_transactions)
{
    static const struct store_statement impatient = {.name = "impatient", .text = "SET statement_timeout = 200"};
    AUTO_PTR(store) old = cluster_ledger(&cluster, "takeover", MIGRATIONS);
    AUTO_PTR(store) fresh = NULL;
    open_as(&fresh, "takeover", "pal");
    uint64_t epoch;
    OK(store_take_epoch(old, &epoch));
    OK(store_begin(old, epoch));
    OK(run(fresh, &impatient));
    uint64_t later;
    FAILS(store_take_epoch(fresh, &later), ERR_timeout, "statement timeout");
    ck_assert(store_alive(fresh));
    OK(store_commit(old));
    OK(store_take_epoch(fresh, &later));
    ck_assert_uint_eq(later, epoch + 1);
}
END_TEST

START_TEST(a_failed_transaction_cannot_be_committed)
{
    static const struct store_statement divide = {
        .name = "divide", .columns = {STORE_INT4}, .text = "SELECT 1 / (random() * 0)::int"};
    AUTO_PTR(store) store = cluster_ledger(&cluster, "failed", MIGRATIONS);
    uint64_t epoch;
    OK(store_take_epoch(store, &epoch));
    OK(store_begin(store, epoch));
    FAILS(run(store, &divide), ERR_database, "division by zero");
    FAILS(store_commit(store), ERR_conflict, "nothing was written");
    OK(store_begin(store, epoch));
    OK(store_commit(store));
}
END_TEST

static int backend_pid(struct store *store)
{
    static const struct store_statement whoami = {
        .name = "whoami", .columns = {STORE_INT4}, .text = "SELECT pg_backend_pid()"};
    AUTO(store_args) args = {0};
    AUTO(store_rows) rows = {0};
    store_args_init(&args, &whoami);
    OK(store_run_one(store, &args, &rows, "a backend"));
    return (int)store_get_int(&rows, 0, 0);
}

START_TEST(a_killed_backend_is_unavailable)
{
    AUTO_PTR(store) store = cluster_ledger(&cluster, "killed", MIGRATIONS);
    AUTO_PTR(store) admin = NULL;
    open_as(&admin, "killed", "postgres");
    static const struct store_statement terminate = {.name = "terminate",
                                                     .params = {STORE_INT4},
                                                     .columns = {STORE_BOOL},
                                                     .text = "SELECT pg_terminate_backend($1, 10000)"};
    uint64_t epoch;
    OK(store_take_epoch(store, &epoch));
    OK(store_begin(store, epoch));
    AUTO(store_args) args = {0};
    store_args_init(&args, &terminate);
    store_put_int(&args, backend_pid(store));
    OK(store_run(admin, &args, NULL));
    FAILS(store_commit(store), ERR_unavailable, "must be read again");
    ck_assert(!store_alive(store));
    FAILS(store_begin(store, epoch), ERR_unavailable, "lost");
    store_rollback(store);
    store_close(&store);
    ck_assert_ptr_null(store);
    open_as(&store, "killed", "pal");
    OK(store_begin(store, epoch));
    OK(store_commit(store));
    FAILS(store_open(&admin, "host=/nonexistent user=pal"), ERR_unavailable, "/nonexistent");
}
END_TEST

/* A reader that is in a hurry gives a server that hangs up, and says so. */
START_TEST(a_hanging_backend_is_given_up)
{
    AUTO_PTR(store) store = cluster_ledger(&cluster, "hanging", MIGRATIONS);
    OK(store_read_hurry(store, 100));
    OK(store_read_ping(store));
    int pid = backend_pid(store);
    ck_assert_int_eq(kill(pid, SIGSTOP), 0);
    err_t err = store_read_ping(store);
    ck_assert_int_eq(kill(pid, SIGCONT), 0);
    FAILS(err, ERR_unavailable, "did not answer in time");
    ck_assert(!store_alive(store));
}
END_TEST

START_TEST(errors_have_their_class)
{
    static const struct store_statement make = {.name = "make_unique",
                                                .text = "CREATE TEMP TABLE once (id bigint PRIMARY KEY)"};
    static const struct store_statement add = {.name = "add_unique", .text = "INSERT INTO once VALUES (1)"};
    static const struct store_statement syntax = {.name = "syntax", .text = "SELEC 1"};
    static const struct store_statement sleepy = {
        .name = "sleepy", .columns = {STORE_TEXT}, .text = "SELECT pg_sleep(20)::text"};
    static const struct store_statement impatient = {.name = "impatient", .text = "SET statement_timeout = 100"};
    static const struct store_statement write = {.name = "write", .text = "UPDATE data_epoch SET epoch = 9"};
    static const struct store_statement force = {.name = "force", .text = "SET default_transaction_read_only = off"};
    static const struct store_statement nothing = {
        .name = "nothing", .columns = {STORE_INT8}, .text = "SELECT id FROM once WHERE id = 7"};
    AUTO_PTR(store) store = cluster_ledger(&cluster, "errors", MIGRATIONS);
    OK(run(store, &make));
    OK(run(store, &add));
    FAILS(run(store, &add), ERR_conflict, "already exists");
    FAILS(run(store, &syntax), ERR_database, "syntax error");
    AUTO(store_args) args = {0};
    AUTO(store_rows) rows = {0};
    store_args_init(&args, &nothing);
    FAILS(store_run_one(store, &args, &rows, "number 7"), ERR_not_found, "number 7 does not exist");
    OK(run(store, &impatient));
    FAILS(run(store, &sleepy), ERR_timeout, "statement timeout");
    ck_assert(store_alive(store));
    AUTO_PTR(store) reader = NULL;
    open_as(&reader, "errors", "pal_reader");
    FAILS(run(reader, &write), ERR_refused, "read-only");
    OK(run(reader, &force));
    FAILS(run(reader, &write), ERR_refused, "permission denied");
}
END_TEST

START_TEST(conninfo_is_quoted_or_overridden)
{
    char text[200];
    OK(store_conninfo("/tmp/it's \\here", "pal_reader", text, sizeof text));
    ck_assert_str_eq(text, "host='/tmp/it\\'s \\\\here/pg' port=5432 dbname=palaestra user='pal_reader'");
    FAILS(store_conninfo("/tmp/long", "pal", text, 20), ERR_too_large, "");
    ck_assert_int_eq(setenv("PAL_DATABASE_URL", "postgresql://somewhere/else", 1), 0);
    OK(store_conninfo("/tmp/run", "pal", text, sizeof text));
    ck_assert_str_eq(text, "postgresql://somewhere/else");
    ck_assert_int_eq(unsetenv("PAL_DATABASE_URL"), 0);
}
END_TEST

/* A job with two groups: 1 with two done episodes, 2 open with one pending; a batch that used episode 1. */
#define BASE                                                                                                                 \
    "INSERT INTO job (name, spec) VALUES ('base', '{}');"                                                                    \
    "INSERT INTO task (job, id, environment, split, body, hash, source) VALUES (1, 1, 0, 'train', 'b', 'h', 'generate');"    \
    "INSERT INTO episode_group (job, id, task, source, size, update_for) VALUES (1, 1, 1, 'fresh', 2, 1), "                  \
    "(1, 2, 1, 'fresh', 2, 1);"                                                                                              \
    "INSERT INTO episode (job, id, group_id, slot, state, seed, max_steps, outcome, reward) VALUES "                         \
    "(1, 1, 1, 0, 'done', 1, 9, 'ok', 1), (1, 2, 1, 1, 'done', 1, 9, 'truncated', 0);"                                       \
    "INSERT INTO episode (job, id, group_id, slot, state, seed, max_steps) VALUES (1, 3, 2, 0, 'pending', 1, 9);"            \
    "INSERT INTO batch (job, lineage, update, kind, state, groups, episodes, pass, advantage, norm_tokens, "                 \
    "no_signal_groups, source, member_group) "                                                                               \
    "VALUES (1, 0, 1, 'update', 'handed_out', '{1}', '{1,2}', '{0,0}', '{0.5,-0.5}', 10, 0, '{fresh,fresh}', '{1,1}'), "     \
    "(1, 0, 2, 'update', 'handed_out', '{1}', '{1}', '{1}', '{0}', 10, 0, '{pool}', '{1}'), "                                \
    "(1, 1, 1, 'update', 'handed_out', '{1}', '{1}', '{0}', '{0}', 10, 0, '{fresh}', '{1}');"                                \
    "INSERT INTO training_use (job, episode, pass, lineage, update, source) VALUES (1, 1, 0, 0, 1, 'fresh')"

#define EPISODE "INSERT INTO episode (job, id, group_id, slot, state, seed, max_steps, outcome, reward) VALUES "
#define GROUP   "INSERT INTO episode_group (job, id, task, source, size, update_for, pin_version, state, verdict) VALUES "
#define USE     "INSERT INTO training_use (job, episode, pass, lineage, update, source) VALUES "
#define BATCH                                                                                                                \
    "INSERT INTO batch (job, lineage, update, kind, state, groups, episodes, pass, advantage, norm_tokens, "                 \
    "no_signal_groups, source, member_group) "                                                                               \
    "VALUES "
#define TASK "INSERT INTO task (job, id, environment, split, body, hash, source) VALUES "

static const struct {
    const char *what;
    const char *sql;
    bool possible;
} rows_to_try[] = {
    {"a failure with a reward", EPISODE "(1, 10, 2, 1, 'done', 1, 9, 'env_crash', 1)", false},
    {"an end without a reward", EPISODE "(1, 10, 2, 1, 'done', 1, 9, 'ok', NULL)", false},
    {"a reward before the end", EPISODE "(1, 10, 2, 1, 'leased', 1, 9, NULL, 1)", false},
    {"a done episode without an outcome", EPISODE "(1, 10, 2, 1, 'done', 1, 9, NULL, 1)", false},
    {"a void slot with an outcome", EPISODE "(1, 10, 2, 1, 'void', 1, 9, 'ok', NULL)", false},
    {"a void slot with a failure", EPISODE "(1, 10, 2, 1, 'void', 1, 9, 'env_crash', NULL)", true},
    {"a second fill of a slot", EPISODE "(1, 10, 1, 0, 'done', 1, 9, 'ok', 1)", false},
    {"the other slot of a group", EPISODE "(1, 10, 2, 1, 'done', 1, 9, 'ok', 1)", true},
    {"an unknown outcome", EPISODE "(1, 10, 2, 1, 'void', 1, 9, 'bored', NULL)", false},
    {"an episode without a group", EPISODE "(1, 10, 77, 1, 'pending', 1, 9, NULL, NULL)", false},
    {"an unknown state", EPISODE "(1, 10, 2, 1, 'playing', 1, 9, NULL, NULL)", false},
    {"(episode, pass) twice in a lineage", USE "(1, 1, 0, 0, 2, 'fresh')", false},
    {"(episode, pass) in another lineage", USE "(1, 1, 0, 1, 1, 'fresh')", true},
    {"another pass in the lineage", USE "(1, 1, 1, 0, 2, 'fresh')", true},
    {"a use without a batch", USE "(1, 1, 1, 5, 2, 'fresh')", false},
    {"a use of no episode", USE "(1, 99, 0, 0, 1, 'fresh')", false},
    {"a batch twice", BATCH "(1, 0, 1, 'update', 'handed_out', '{}', '{}', '{}', '{}', 0, 0, '{}', '{}')", false},
    {"members without advantages",
     BATCH "(1, 0, 3, 'update', 'handed_out', '{1}', '{1,2}', '{0,0}', '{0}', 0, 0, '{fresh,fresh}', '{1,1}')", false},
    {"members without sources",
     BATCH "(1, 0, 3, 'update', 'handed_out', '{1}', '{1,2}', '{0,0}', '{0,0}', 0, 0, '{fresh}', '{1,1}')", false},
    {"members with all of it",
     BATCH "(1, 0, 3, 'update', 'handed_out', '{1}', '{1,2}', '{0,0}', '{0,0}', 0, 0, '{fresh,fresh}', '{1,1}')", true},
    {"an applied batch without a time", BATCH "(1, 0, 3, 'update', 'applied', '{}', '{}', '{}', '{}', 0, 0, '{}', '{}')",
     false},
    {"an open group with a verdict", GROUP "(1, 10, 1, 'fresh', 2, 1, NULL, 'open', 'signal')", false},
    {"a closed group without a verdict", GROUP "(1, 10, 1, 'fresh', 2, 1, NULL, 'closed', NULL)", false},
    {"a fresh group without an update", GROUP "(1, 10, 1, 'fresh', 2, 0, NULL, 'open', NULL)", false},
    {"a fresh group with no update at all", GROUP "(1, 10, 1, 'fresh', 2, NULL, NULL, 'open', NULL)", false},
    {"an evaluation without a version", GROUP "(1, 10, 1, 'evaluation', 1, NULL, NULL, 'open', NULL)", false},
    {"an evaluation of a version", GROUP "(1, 10, 1, 'evaluation', 1, NULL, 4, 'open', NULL)", true},
    {"the same initial state as held-out task", TASK "(1, 10, 0, 'holdout', 'b', 'h', 'generate')", false},
    {"the same initial state elsewhere", TASK "(1, 10, 1, 'holdout', 'b', 'h', 'generate')", true},
    {"an end of a job without a time", "UPDATE job SET state = 'failed'", false},
    {"a version past the updates", "UPDATE job SET version = 4, updates_done = 3", false},
    {"a second row of the epoch", "INSERT INTO data_epoch (epoch) VALUES (7)", false},
    {"a checkpoint without its digest",
     "INSERT INTO policy (job, lineage, version, digest, checkpoint) VALUES (1, 0, 0, 'd', '/x')", false},
};

START_TEST(impossible_rows_are_refused)
{
    AUTO_PTR(store) store = cluster_ledger(&cluster, "impossible", MIGRATIONS);
    OK(store_simple(store, BASE, STORE_STATEMENT_MS, NULL));
    for (size_t i = 0; i < sizeof rows_to_try / sizeof *rows_to_try; i++) {
        OK(store_simple(store, "BEGIN", STORE_STATEMENT_MS, NULL));
        err_t err = store_simple(store, rows_to_try[i].sql, STORE_STATEMENT_MS, NULL);
        ck_assert_msg(err == (rows_to_try[i].possible ? ERR_ok : ERR_conflict), "%s: %s: %s", rows_to_try[i].what,
                      err_name(err), err == ERR_ok ? "it was written" : err_text());
        store_rollback(store);
    }
}
END_TEST

int main(void)
{
    cluster_start(&cluster);
    Suite *suite = suite_create("store");
    TCase *tcase = tcase_create("store");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, migrations_apply_once_and_notice_changes);
    tcase_add_test(tcase, a_migration_is_whole_or_absent);
    tcase_add_test(tcase, older_states_are_brought_forward);
    tcase_add_test(tcase, every_statement_prepares_and_is_what_it_declares);
    tcase_add_test(tcase, a_wrong_declaration_is_noticed);
    tcase_add_test(tcase, values_come_back);
    tcase_add_test(tcase, nulls_and_empty_values_are_not_the_same);
    tcase_add_test(tcase, foreign_bytes_become_text_that_can_be_stored);
    tcase_add_test(tcase, integers_that_do_not_fit_are_refused);
    tcase_add_test(tcase, arrays_come_back);
    tcase_add_test(tcase, null_and_foreign_arrays_are_told_apart);
    tcase_add_test(tcase, sets_are_written_in_one_statement);
    tcase_add_test(tcase, an_older_epoch_is_fenced_off);
    tcase_add_test(tcase, taking_over_waits_for_open_transactions);
    tcase_add_test(tcase, a_failed_transaction_cannot_be_committed);
    tcase_add_test(tcase, a_killed_backend_is_unavailable);
    tcase_add_test(tcase, a_hanging_backend_is_given_up);
    tcase_add_test(tcase, errors_have_their_class);
    tcase_add_test(tcase, conninfo_is_quoted_or_overridden);
    tcase_add_test(tcase, impossible_rows_are_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    cluster_stop(&cluster);
    return failed == 0 ? 0 : 1;
}
