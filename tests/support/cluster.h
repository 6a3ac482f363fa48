/* A private PostgreSQL cluster for a test program, in a fresh folder under /dev/shm, or /tmp.
 *
 * cluster_start in main() before the suite runs, cluster_stop after it, whatever failed between. The server also ends when
 * this program dies (its folder pal-test-* is then left behind). Tests that Check runs in processes of their own may all
 * use it: each opens its own connections. */
#ifndef PAL_TESTS_CLUSTER_H
#define PAL_TESTS_CLUSTER_H

#include "services/common/run/postgres.h"
#include "services/common/store/store.h"

#define CLUSTER_TEXT_BYTES 512

struct cluster {
    char state_dir[CLUSTER_TEXT_BYTES];
    char run_dir[CLUSTER_TEXT_BYTES];
    struct postgres postgres;
    pid_t pid;
};

/* Exits with a message when it cannot: there is nothing to test then. */
void cluster_start(struct cluster *cluster);
void cluster_stop(struct cluster *cluster);  /* also removes the folder */
void cluster_kill(struct cluster *cluster);  /* -9, the server with all its sessions */
void cluster_again(struct cluster *cluster); /* starts it again after that */

/* Makes an empty database of this name, owned by pal, and fails the test when it cannot. */
void cluster_database(const struct cluster *cluster, const char *name);
/* conninfo of a database for a role ("pal", "pal_reader", "postgres"). */
void cluster_conninfo(const struct cluster *cluster, const char *name, const char *role, char *ret, size_t size);
/* An open connection as pal to a new database with the migrations of a folder applied: PAL_SOURCE_DIR "/migrations". */
struct store *cluster_ledger(const struct cluster *cluster, const char *name, const char *migrations);

#endif
