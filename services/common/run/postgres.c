#include "services/common/run/postgres.h"

#include "services/common/run/child.h"
#include "services/common/run/rundir.h"

#include <errno.h>
#include <glob.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROBE_MS      5000
#define OUTPUT_BYTES  65536
#define SOCKET_BYTES  107 /* sun_path, without its terminator */
#define PREFIX_MAX    16
#define READY_TICK_MS 20

/* where distributions put the binaries; %s is the version or a star */
static const char *const places[] = {"/usr/lib/postgresql/%s/bin", "/usr/pgsql-%s/bin", "/usr/local/pgsql/bin", "/usr/bin"};

static const char *const settings[] = {
#define SETTING(name, value, doc) #name "=" value,
#define DEFAULT(name, value, doc)
#include "services/common/run/postgres.def"
#undef SETTING
#undef DEFAULT
};

static err_t fits(int wrote, size_t size)
{
    return wrote > 0 && (size_t)wrote < size ? ERR_ok : err_set(ERR_too_large, "a path is longer than %zu bytes", size);
}

static bool has_binaries(const char *folder)
{
    char path[POSTGRES_PATH_BYTES + 16];
    (void)snprintf(path, sizeof path, "%s/postgres", folder);
    if (access(path, X_OK) != 0) return false;
    (void)snprintf(path, sizeof path, "%s/initdb", folder);
    return access(path, X_OK) == 0;
}

/* Of the folders that match the newest version: versions are compared as numbers, "9" before "15". */
static bool find_newest(const char *pattern, char *ret, size_t size)
{
    glob_t found;
    double newest = -1;
    if (glob(pattern, 0, NULL, &found) != 0) return false;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        const char *digits = found.gl_pathv[i] + strcspn(found.gl_pathv[i], "0123456789");
        double version = strtod(digits, NULL);
        if (version <= newest || !has_binaries(found.gl_pathv[i])) continue;
        if (fits(snprintf(ret, size, "%s", found.gl_pathv[i]), size) == ERR_ok) newest = version;
    }
    globfree(&found);
    return newest >= 0;
}

/* version: of an existing cluster, "" when there is none. */
static err_t find_binaries(const char *version, char *ret, size_t size)
{
    const char *chosen = getenv("PAL_POSTGRES_BIN");
    if (chosen && *chosen) {
        if (!has_binaries(chosen)) return err_set(ERR_not_found, "PAL_POSTGRES_BIN=%s has no postgres and initdb", chosen);
        return fits(snprintf(ret, size, "%s", chosen), size);
    }
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char pattern[POSTGRES_PATH_BYTES];
        const char *star = strstr(places[i], "%s");
        (void)snprintf(pattern, sizeof pattern, "%.*s%s%s", star ? (int)(star - places[i]) : (int)strlen(places[i]),
                       places[i], star ? *version ? version : "*" : "", star ? star + 2 : "");
        if (find_newest(pattern, ret, size)) return ERR_ok;
    }
    if (*version)
        return err_set(ERR_conflict,
                       "the cluster was made by PostgreSQL %s, which is not installed: install it or use pg_upgrade",
                       version);
    return err_set(ERR_not_found, "PostgreSQL is not installed (package postgresql), and PAL_POSTGRES_BIN is not set");
}

/* The cluster's major version, "" when there is no cluster. */
static err_t read_version(const char *data, char *ret, size_t size)
{
    char path[POSTGRES_PATH_BYTES + 16];
    (void)snprintf(path, sizeof path, "%s/PG_VERSION", data);
    ret[0] = 0;
    FILE *file = fopen(path, "re");
    if (!file && errno == ENOENT) return ERR_ok;
    if (!file) return err_set(ERR_io, "%s: %s", path, strerror(errno));
    bool read = fgets(ret, (int)size, file) != NULL;
    (void)fclose(file);
    ret[strcspn(ret, "\n")] = 0;
    return read && strspn(ret, "0123456789.") == strlen(ret) && *ret ? ERR_ok : err_set(ERR_io, "%s is not a version", path);
}

/* Can this user enter the folder and all above it? */
static bool reachable(const char *folder, uid_t uid, gid_t gid)
{
    char part[POSTGRES_PATH_BYTES];
    size_t n = strlen(folder);
    if (n >= sizeof part) return false;
    memcpy(part, folder, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != 0) continue;
        char kept = part[i];
        part[i] = 0;
        struct stat st;
        if (stat(part, &st) != 0) return false;
        mode_t need = st.st_uid == uid ? S_IXUSR : st.st_gid == gid ? S_IXGRP : S_IXOTH;
        if (!(st.st_mode & need)) return false;
        part[i] = kept;
    }
    return true;
}

/* What stands in front of a command for it to run as the cluster's owner and to end with its parent. */
static size_t prefix(enum postgres_as as, const char **ret)
{
    static const char *const unshare[] = {"unshare", "--user", "--map-user=" POSTGRES_USER, "--map-group=" POSTGRES_USER};
    static const char *const become[] = {"--reuid=" POSTGRES_USER, "--regid=" POSTGRES_USER, "--init-groups", "--reset-env"};
    static const char *const end_with_parent[] = {"--pdeathsig", "INT", "--"};
    size_t n = 0;
    for (size_t i = 0; as == POSTGRES_AS_UNSHARE && i < 4; i++) ret[n++] = unshare[i];
    ret[n++] = "setpriv";
    for (size_t i = 0; as == POSTGRES_AS_SETPRIV && i < 4; i++) ret[n++] = become[i];
    for (size_t i = 0; i < 3; i++) ret[n++] = end_with_parent[i];
    return n;
}

/* `program` and its words behind the prefix. */
static err_t command(enum postgres_as as, const char *program, const char *const *words, size_t count, struct arena *arena,
                     char ***ret)
{
    const char *first[PREFIX_MAX];
    size_t n = prefix(as, first);
    char **argv = arena_array(arena, char *, n + count + 2);
    if (!argv) return ERR_memory;
    for (size_t i = 0; i < n + 1 + count; i++) {
        const char *word = i < n ? first[i] : i == n ? program : words[i - n - 1];
        argv[i] = arena_text(arena, span_text(word));
        if (!argv[i]) return ERR_memory;
    }
    *ret = argv;
    return ERR_ok;
}

err_t postgres_command(const struct postgres *pg, const char *program, const char *const *words, size_t count,
                       struct arena *arena, char ***ret)
{
    char path[POSTGRES_PATH_BYTES + 32];
    TRY(fits(snprintf(path, sizeof path, "%s/%s", pg->bin, program), sizeof path));
    return command(pg->as, path, words, count, arena, ret);
}

static bool works(enum postgres_as as)
{
    AUTO(arena) arena = {0};
    AUTO(buf) output = {0};
    buf_init(&output, OUTPUT_BYTES);
    char **argv;
    return command(as, "true", NULL, 0, &arena, &argv) == ERR_ok &&
           child_run(argv, span_of(NULL, 0), PROBE_MS, &output) == ERR_ok;
}

/* How root runs it: the way an existing cluster was made, else setpriv where it can, else a user namespace. */
static err_t choose_for_root(struct postgres *pg, const char *state_dir, const char *run_dir)
{
    struct passwd *user = getpwnam(POSTGRES_USER);
    if (!user)
        return err_set(ERR_unsupported, "PostgreSQL refuses to run as root and there is no user %s to run it as",
                       POSTGRES_USER);
    struct stat st;
    bool exists = stat(pg->data, &st) == 0;
    bool reaches = reachable(state_dir, user->pw_uid, user->pw_gid) && reachable(run_dir, user->pw_uid, user->pw_gid);
    bool setpriv = exists ? st.st_uid == user->pw_uid : reaches && works(POSTGRES_AS_SETPRIV);
    if (setpriv) {
        if (!reaches)
            return err_set(ERR_unsupported,
                           "the cluster in %s belongs to user %s, who cannot reach it: chmod o+x the folders above", pg->data,
                           POSTGRES_USER);
        pg->as = POSTGRES_AS_SETPRIV;
        pg->uid = user->pw_uid;
        pg->gid = user->pw_gid;
        return ERR_ok;
    }
    if (!works(POSTGRES_AS_UNSHARE))
        return err_set(
            ERR_unsupported,
            "PostgreSQL refuses to run as root: either let user %s reach %s and %s (chmod o+x on them and the folders "
            "above), or allow user namespaces (sysctl user.max_user_namespaces)",
            POSTGRES_USER, state_dir, run_dir);
    pg->as = POSTGRES_AS_UNSHARE;
    return ERR_ok;
}

err_t postgres_init(struct postgres *ret, const char *state_dir, const char *run_dir)
{
    struct postgres pg = {.as = POSTGRES_AS_SELF, .uid = geteuid(), .gid = getegid()};
    TRY(fits(snprintf(pg.data, sizeof pg.data, "%s/postgres", state_dir), sizeof pg.data));
    TRY(fits(snprintf(pg.sockets, sizeof pg.sockets, "%s/pg", run_dir), sizeof pg.sockets));
    if (strlen(pg.sockets) + strlen("/.s.PGSQL.5432.lock") > SOCKET_BYTES)
        return err_set(ERR_too_large, "%s is too long for a unix socket", pg.sockets);
    char version[32];
    TRY(read_version(pg.data, version, sizeof version));
    TRY(find_binaries(version, pg.bin, sizeof pg.bin));
    if (geteuid() == 0) TRY(choose_for_root(&pg, state_dir, run_dir));
    *ret = pg;
    return ERR_ok;
}

err_t postgres_argv(const struct postgres *pg, struct arena *arena, char ***ret)
{
    const char *words[4 + 2 * sizeof settings / sizeof *settings];
    size_t n = 0;
    words[n++] = "-D";
    words[n++] = pg->data;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        words[n++] = "-c";
        words[n++] = settings[i];
    }
    /* a list of paths: quoted, since commas and blanks would end one */
    AUTO(buf) text = {0};
    TRY(buf_text(&text, "unix_socket_directories=\""));
    for (const char *c = pg->sockets; *c; c++) TRY(buf_append(&text, *c == '"' ? "\"\"" : c, *c == '"' ? 2 : 1));
    TRY(buf_text(&text, "\""));
    words[n++] = "-c";
    words[n++] = buf_chars(&text);
    return postgres_command(pg, "postgres", words, n, arena, ret);
}

/* postmaster.pid: line 1 is the process id, line 8 becomes "ready" */
bool postgres_ready(const struct postgres *pg, pid_t pid)
{
    char path[POSTGRES_PATH_BYTES + 32];
    (void)snprintf(path, sizeof path, "%s/postmaster.pid", pg->data);
    FILE *file = fopen(path, "re");
    if (!file) return false;
    char line[POSTGRES_PATH_BYTES];
    bool ready = false;
    for (int i = 1; i <= 8 && fgets(line, sizeof line, file); i++) {
        if (i == 1 && strtol(line, NULL, 10) != (long)pid) break;
        if (i == 8) ready = strncmp(line, "ready", 5) == 0;
    }
    (void)fclose(file);
    return ready;
}

err_t postgres_start(const struct postgres *pg, int log_fd, int timeout_ms, pid_t *ret_pid)
{
    AUTO(arena) arena = {0};
    char **argv;
    TRY(postgres_argv(pg, &arena, &argv));
    pid_t pid;
    TRY(child_spawn(argv, -1, log_fd, &pid));
    for (int waited = 0; waited < timeout_ms; waited += READY_TICK_MS) {
        if (postgres_ready(pg, pid)) {
            *ret_pid = pid;
            return ERR_ok;
        }
        int status;
        if (child_wait(pid, READY_TICK_MS, &status) != ERR_timeout)
            return err_set(ERR_unavailable, "PostgreSQL ended while it was started; its log says why");
    }
    err_t stopped = postgres_stop(&pid, PROBE_MS);
    return err_set(ERR_timeout, "PostgreSQL was not ready after %d ms%s", timeout_ms,
                   stopped == ERR_ok ? "" : " and cannot be stopped");
}

err_t postgres_stop(pid_t *pid, int timeout_ms)
{
    static const int signals[] = {SIGINT, SIGQUIT, SIGKILL};
    if (*pid <= 0) return ERR_ok;
    err_t err = ERR_ok;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        int status;
        (void)kill(*pid, signals[i]);
        err = child_wait(*pid, timeout_ms, &status);
        if (err != ERR_timeout) break;
    }
    if (err == ERR_ok) *pid = 0;
    return err;
}
