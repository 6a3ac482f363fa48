/* Migrations: numbered, up-only, each in one transaction, remembered with their SHA-256. */
#include "services/common/base/digest.h"
#include "services/common/store/store_link.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MIGRATIONS_MAX      1000
#define MIGRATION_MAX_BYTES ((size_t)4 << 20)
#define MIGRATE_MS          600000 /* of one migration; waiting for another program's included */

/* The one piece of DDL outside migrations/: it must be there before the first of them. The lock's key is "pal" in ASCII. */
#define LOCK                                                                                                                 \
    "SET statement_timeout = 0; SELECT pg_advisory_lock(7364972); "                                                          \
    "CREATE TABLE IF NOT EXISTS schema_migration (number integer PRIMARY KEY CHECK (number >= 1), name text NOT NULL, "      \
    "sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
#define UNLOCK "SELECT pg_advisory_unlock(7364972)"

enum { MIGRATION_LIST, MIGRATION_INSERT };

static const struct store_statement statements[] = {
    [MIGRATION_LIST] = {.name = "migration_list",
                        .doc = "what is applied",
                        .columns = {STORE_INT4, STORE_TEXT, STORE_TEXT},
                        .text = "SELECT number, name, sha256 FROM schema_migration ORDER BY number"},
    [MIGRATION_INSERT] = {.name = "migration_insert",
                          .doc = "remembers a migration, in its own transaction",
                          .params = {STORE_INT4, STORE_TEXT, STORE_TEXT},
                          .text = "INSERT INTO schema_migration (number, name, sha256) VALUES ($1, $2, $3)"},
};

const struct store_table store_migration_table = {"migration", statements, sizeof statements / sizeof *statements};

struct migrations {
    char *names[MIGRATIONS_MAX]; /* by number - 1 */
    size_t count;                /* highest number found */
};

static void migrations_fini(struct migrations *m)
{
    for (size_t i = 0; i < m->count; i++) free(m->names[i]);
    m->count = 0;
}

/* The number of "NNNN_name.sql", 0 for other files. */
static size_t number_of(const char *name)
{
    size_t number = 0;
    for (size_t i = 0; i < 4; i++) {
        if (name[i] < '0' || name[i] > '9') return 0;
        number = number * 10 + (size_t)(name[i] - '0');
    }
    size_t n = strlen(name);
    return n > 9 && name[4] == '_' && strcmp(name + n - 4, ".sql") == 0 ? number : 0;
}

static err_t add(struct migrations *m, const char *name)
{
    size_t number = number_of(name);
    if (number == 0) return ERR_ok;
    if (number > MIGRATIONS_MAX) return err_set(ERR_invalid, "migration %s: the highest number is %d", name, MIGRATIONS_MAX);
    if (m->names[number - 1])
        return err_set(ERR_invalid, "migrations %s and %s have the same number", m->names[number - 1], name);
    m->names[number - 1] = strdup(name);
    if (!m->names[number - 1]) return err_set(ERR_memory, "a name");
    if (number > m->count) m->count = number;
    return ERR_ok;
}

static err_t find_migrations(const char *folder, struct migrations *m)
{
    DIR *dir = opendir(folder);
    if (!dir) return err_set(ERR_io, "migrations folder %s: %s", folder, strerror(errno));
    err_t err = ERR_ok;
    for (struct dirent *entry = readdir(dir); entry && err == ERR_ok; entry = readdir(dir)) err = add(m, entry->d_name);
    closedir(dir);
    TRY(err);
    if (m->count == 0) return err_set(ERR_not_found, "migrations folder %s has no NNNN_name.sql", folder);
    for (size_t i = 0; i < m->count; i++)
        if (!m->names[i]) return err_set(ERR_invalid, "migrations folder %s: number %04zu is missing", folder, i + 1);
    return ERR_ok;
}

static err_t read_migration(const char *folder, const char *name, struct buf *text)
{
    AUTO(buf) path = {0};
    TRY(buf_printf(&path, "%s/%s", folder, name));
    FILE *file = fopen(buf_chars(&path), "re");
    if (!file) return err_set(ERR_io, "%s: %s", buf_chars(&path), strerror(errno));
    buf_init(text, MIGRATION_MAX_BYTES);
    char part[8192];
    err_t err = ERR_ok;
    size_t n;
    while (err == ERR_ok && (n = fread(part, 1, sizeof part, file)) > 0) err = buf_append(text, part, n);
    if (err == ERR_ok && ferror(file)) err = err_set(ERR_io, "%s: reading failed", buf_chars(&path));
    (void)fclose(file);
    TRY(err);
    if (memchr(text->data, 0, text->size)) return err_set(ERR_invalid, "%s: has a zero byte", buf_chars(&path));
    return ERR_ok;
}

static err_t apply(struct store *store, size_t number, const char *name, const struct buf *text, const struct digest *digest)
{
    TRY(store_simple(store, "BEGIN", STORE_STATEMENT_MS, NULL));
    TRY(store_simple(store, buf_chars(text), MIGRATE_MS, NULL));
    /* a COMMIT inside would break "each in one transaction" silently */
    if (PQtransactionStatus(store->conn) != PQTRANS_INTRANS)
        return err_set(ERR_invalid, "it ends its transaction: COMMIT and ROLLBACK do not belong into a migration");
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[MIGRATION_INSERT]);
    store_put_int(&args, (int64_t)number);
    store_put_text(&args, name);
    store_put_text(&args, digest->hex);
    TRY(store_run(store, &args, NULL));
    return store_commit(store);
}

/* One migration: compares it when it is applied, else applies it. rows: what is applied. */
static err_t settle(struct store *store, const char *folder, size_t number, const char *name, const struct store_rows *rows)
{
    AUTO(buf) text = {0};
    struct digest digest;
    TRY(read_migration(folder, name, &text));
    TRY(digest_bytes(buf_span(&text), &digest));
    for (size_t i = 0; i < store_row_count(rows); i++) {
        if (store_get_int(rows, i, 0) != (int64_t)number) continue;
        if (strcmp(store_get_text(rows, i, 2), digest.hex) == 0) return ERR_ok;
        return err_set(ERR_conflict,
                       "migration %s was changed after it was applied to this database (as %s, SHA-256 %.12s..., now "
                       "%.12s...): restore the file and put the change into a new migration",
                       name, store_get_text(rows, i, 1), store_get_text(rows, i, 2), digest.hex);
    }
    err_t err = apply(store, number, name, &text, &digest);
    if (err == ERR_ok) return ERR_ok;
    err = err_prefix(err, "migration %s", name);
    store_rollback(store);
    return err;
}

static err_t migrate(struct store *store, const char *folder, const struct migrations *m)
{
    AUTO(store_args) args = {0};
    AUTO(store_rows) rows = {0};
    store_args_init(&args, &statements[MIGRATION_LIST]);
    TRY(store_run(store, &args, &rows));
    size_t applied = store_row_count(&rows);
    int64_t newest = applied > 0 ? store_get_int(&rows, applied - 1, 0) : 0;
    if (newest > (int64_t)m->count)
        return err_set(
            ERR_conflict,
            "the database's schema has number %lld (%s), newer than the newest migration here (%zu): it was made by "
            "a newer version of this program; run that one",
            (long long)newest, store_get_text(&rows, applied - 1, 1), m->count);
    for (size_t i = 0; i < m->count; i++) TRY(settle(store, folder, i + 1, m->names[i], &rows));
    return ERR_ok;
}

err_t store_migrate(struct store *store, const char *folder)
{
    __attribute__((cleanup(migrations_fini))) struct migrations m = {0};
    TRY(find_migrations(folder, &m));
    TRY(store_simple(store, LOCK, MIGRATE_MS, NULL));
    err_t err = migrate(store, folder, &m);
    /* on a failure keep its sentence: unlocking records one only when it fails, and then the session's end unlocks */
    char kept[ERR_TEXT_BYTES];
    (void)snprintf(kept, sizeof kept, "%s", err_text());
    err_t unlocked = store_simple(store, UNLOCK "; " STORE_SESSION, STORE_STATEMENT_MS, NULL);
    if (err != ERR_ok) return err_set(err, "%s", kept);
    return unlocked;
}
