/* The private PostgreSQL cluster of a stack: STATE/postgres, reached by the unix socket in RUN_DIR/pg only.
 *
 * PostgreSQL refuses to run as root. Started by root, it runs as the user `postgres` (setpriv) where that user can reach the
 * directories, else in a user namespace in which root is called postgres (unshare; files stay root's, works under a 0700
 * home). Started by anybody else it runs as that user. An existing cluster keeps the way it was made.
 *
 * Invariants: authentication is `peer` with a map, nothing is trusted: the user who made the cluster (and `postgres` where
 * root did) may be the roles pal (owner of the database palaestra), pal_reader (reads) and postgres (administration). A
 * cluster is made under another name and renamed, so STATE/postgres is whole or absent. The postmaster is a direct child of
 * whoever starts it, is reaped by it, and shuts down fast when its parent dies. No libpq here. */
#ifndef PAL_RUN_POSTGRES_H
#define PAL_RUN_POSTGRES_H

#include "services/common/base/arena.h"

#include <sys/types.h>

#define POSTGRES_PATH_BYTES 512
#define POSTGRES_USER       "postgres" /* of the operating system, and the superuser role */

enum postgres_as { POSTGRES_AS_SELF, POSTGRES_AS_SETPRIV, POSTGRES_AS_UNSHARE };

struct postgres {
    char bin[POSTGRES_PATH_BYTES];     /* folder of initdb and postgres */
    char data[POSTGRES_PATH_BYTES];    /* STATE/postgres */
    char sockets[POSTGRES_PATH_BYTES]; /* RUN_DIR/pg */
    enum postgres_as as;
    uid_t uid; /* owner of the files */
    gid_t gid;
};

/* Looks where the binaries are ($PAL_POSTGRES_BIN, else the newest of the usual places; an existing cluster's own version)
 * and how to run them. Both directories are absolute and exist. Changes nothing. ERR_not_found: PostgreSQL is not installed;
 * ERR_unsupported says what is missing to run it as root; ERR_conflict: the cluster is of a version that is not here. */
err_t postgres_init(struct postgres *ret, const char *state_dir, const char *run_dir) MUST_USE;

/* Makes what is missing: the socket directory, and the cluster with its roles and its database (seconds). sync: false leaves
 * flushing to the kernel, for tests. Not while the server runs. */
err_t postgres_create(const struct postgres *postgres, bool sync) MUST_USE;

/* The command line of one of PostgreSQL's programs ("pg_dump") as the cluster's owner, NULL-terminated, in the arena. */
err_t postgres_command(const struct postgres *postgres, const char *program, const char *const *words, size_t count,
                       struct arena *arena, char ***ret) MUST_USE;

/* The server's command line; for a supervisor, which starts it with working directory "/". */
err_t postgres_argv(const struct postgres *postgres, struct arena *arena, char ***ret) MUST_USE;

/* Does the server with this process id accept connections (and is it ours)? */
bool postgres_ready(const struct postgres *postgres, pid_t pid);

/* Blocking forms, for programs without a supervisor. log_fd takes what the server writes; -1: our standard error. */
err_t postgres_start(const struct postgres *postgres, int log_fd, int timeout_ms, pid_t *ret_pid) MUST_USE;
/* Fast shutdown (SIGINT), past the timeout immediate (SIGQUIT), then SIGKILL; reaps it and sets *pid to 0. */
err_t postgres_stop(pid_t *pid, int timeout_ms) MUST_USE;

#endif
