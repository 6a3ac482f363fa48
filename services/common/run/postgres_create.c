/* Making the cluster. */
#include "services/common/run/child.h"
#include "services/common/run/postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define CREATE_MS    120000 /* initdb, or the making of roles */
#define OUTPUT_BYTES 65536

static const char *const defaults[] = {
#define SETTING(name, value, doc)
#define DEFAULT(name, value, doc) "ALTER SYSTEM SET " #name " = '" value "'",
#include "services/common/run/postgres.def"
#undef SETTING
#undef DEFAULT
};

static err_t make_folder(const struct postgres *pg, const char *path)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) return err_set(ERR_io, "mkdir %s: %s", path, strerror(errno));
    if (chmod(path, 0700) != 0 || chown(path, pg->uid, pg->gid) != 0) return err_set(ERR_io, "%s: %s", path, strerror(errno));
    return ERR_ok;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st;
    (void)kind;
    (void)walk;
    return remove(path);
}

static err_t remove_tree(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0 && errno != ENOENT)
        return err_set(ERR_io, "removing %s: %s", path, strerror(errno));
    return ERR_ok;
}

static err_t sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_set(ERR_io, "%s: %s", path, strerror(errno));
    int failed = fsync(fd) != 0 ? errno : 0;
    (void)close(fd);
    return failed ? err_set(ERR_io, "fsync %s: %s", path, strerror(failed)) : ERR_ok;
}

/* Replaces a file of the cluster. */
static err_t write_file(const struct postgres *pg, const char *folder, const char *name, const struct buf *text, bool sync)
{
    char path[POSTGRES_PATH_BYTES + 32];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "we");
    if (!file) return err_set(ERR_io, "%s: %s", path, strerror(errno));
    bool good = fwrite(text->data, 1, text->size, file) == text->size;
    good = fchown(fileno(file), pg->uid, pg->gid) == 0 && good;
    good = fclose(file) == 0 && good;
    if (!good) return err_set(ERR_io, "writing %s: %s", path, strerror(errno));
    return sync ? sync_path(path) : ERR_ok;
}

/* Who may connect: peer authentication through the map `pal`. */
static err_t write_access(const struct postgres *pg, const char *folder, bool sync)
{
    static const char *const roles[] = {"pal", "pal_reader", POSTGRES_USER};
    AUTO(buf) hba = {0};
    AUTO(buf) ident = {0};
    TRY(buf_text(
        &hba,
        "# Made by pal: unix sockets only, the caller's user id decides (pg_ident.conf).\nlocal all all peer map=pal\n"));
    TRY(buf_text(&ident, "# Made by pal: map, user of the operating system, role.\n"));
    struct passwd *self = getpwuid(geteuid());
    if (!self) return err_set(ERR_unsupported, "user id %u has no name in /etc/passwd", (unsigned)geteuid());
    AUTO(buf) name = {0};
    TRY(buf_text(&name, self->pw_name)); /* a later getpw... call may change it */
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        TRY(buf_printf(&ident, "pal \"%s\" %s\n", buf_chars(&name), roles[i]));
        /* in the namespace, root is seen as this user */
        if (geteuid() == 0) TRY(buf_printf(&ident, "pal \"%s\" %s\n", POSTGRES_USER, roles[i]));
    }
    TRY(write_file(pg, folder, "pg_hba.conf", &hba, sync));
    return write_file(pg, folder, "pg_ident.conf", &ident, sync);
}

static err_t run_initdb(const struct postgres *pg, const char *folder, bool sync)
{
    const char *const words[] = {"-D",
                                 folder,
                                 "--username=" POSTGRES_USER,
                                 "--encoding=UTF8",
                                 "--locale=C.UTF-8",
                                 "--auth-local=peer",
                                 "--auth-host=reject",
                                 "--data-checksums",
                                 "--no-instructions",
                                 "--no-sync"};
    AUTO(arena) arena = {0};
    AUTO(buf) output = {0};
    buf_init(&output, OUTPUT_BYTES);
    char **argv;
    TRY(postgres_command(pg, "initdb", words, sizeof words / sizeof *words - (sync ? 1 : 0), &arena, &argv));
    return child_run(argv, span_of(NULL, 0), CREATE_MS, &output);
}

/* A single-user server says what fails, goes on, and ends with 0. */
static err_t check_output(const struct buf *output)
{
    const char *line = buf_chars(output);
    while (*line) {
        size_t n = strcspn(line, "\n");
        const char *mark = strstr(line, "ERROR:");
        if (!mark || mark > line + n) mark = strstr(line, "FATAL:");
        /* the one thing that a build of PostgreSQL may lack */
        if (mark && mark < line + n && !strstr(mark, "wal_compression"))
            return err_set(ERR_io, "postgres --single: %.*s", (int)n, line);
        line += n + (line[n] == '\n');
    }
    return ERR_ok;
}

/* Settings, roles and the database, by a single-user server: no socket, no password, no window in which others could come. */
static err_t make_database(const struct postgres *pg, const char *folder, bool sync)
{
    AUTO(arena) arena = {0};
    AUTO(buf) output = {0};
    AUTO(buf) sql = {0};
    buf_init(&output, OUTPUT_BYTES);
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) TRY(buf_printf(&sql, "%s\n", defaults[i]));
    TRY(buf_text(&sql, "CREATE ROLE pal LOGIN\nCREATE ROLE pal_reader LOGIN\n"
                       "ALTER ROLE pal_reader SET default_transaction_read_only = on\n"
                       "CREATE DATABASE palaestra OWNER pal\nREVOKE TEMPORARY ON DATABASE palaestra FROM PUBLIC\n"));
    const char *const words[] = {
        "--single", "-D", folder, "-c", "log_checkpoints=off", "-c", sync ? "fsync=on" : "fsync=off", POSTGRES_USER};
    char **argv;
    TRY(postgres_command(pg, "postgres", words, sizeof words / sizeof *words, &arena, &argv));
    TRY(child_run(argv, buf_span(&sql), CREATE_MS, &output));
    return check_output(&output);
}

err_t postgres_create(const struct postgres *pg, bool sync)
{
    TRY(make_folder(pg, pg->sockets));
    if (access(pg->data, F_OK) == 0) return ERR_ok;
    AUTO(buf) fresh = {0};
    TRY(buf_printf(&fresh, "%s.new", pg->data));
    const char *folder = buf_chars(&fresh);
    TRY(remove_tree(folder)); /* of a creation that was interrupted */
    TRY(make_folder(pg, folder));
    err_t err = run_initdb(pg, folder, sync);
    if (err == ERR_ok) err = make_database(pg, folder, sync);
    if (err == ERR_ok) err = write_access(pg, folder, sync);
    if (err == ERR_ok && sync) err = sync_path(folder);
    if (err == ERR_ok && rename(folder, pg->data) != 0) err = err_set(ERR_io, "rename to %s: %s", pg->data, strerror(errno));
    return err == ERR_ok ? ERR_ok : err_prefix(err, "making the PostgreSQL cluster %s", pg->data);
}
