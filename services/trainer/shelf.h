/* The shelf: published policies in shared memory, where rollout workers pull them.
 *
 * A file is written under a temporary name and renamed, so whoever finds it finds it whole. It stays while it is one of the
 * two newest or pinned (policy_ack); a worker that has it mapped keeps it after it is unlinked. Nothing is fsynced: what must
 * survive is a checkpoint. Outcome reward models lie beside them, the newest two. Only files with this stack's prefix are
 * ever touched. */
#ifndef PAL_SERVICES_TRAINER_SHELF_H
#define PAL_SERVICES_TRAINER_SHELF_H

#include "trainer/policy_file.h"

#define SHELF_PATH_BYTES 256
#define SHELF_POLICIES   256 /* most files on it */
#define SHELF_PINNED     64
#define SHELF_NEWEST     2
#define SHELF_REWARDS    2 /* outcome reward models: the newest ones */

struct shelf_policy {
    int64_t lineage;
    int64_t version;
};

struct shelf {
    char prefix[SHELF_PATH_BYTES]; /* "/dev/shm/pal-HASH-" */
    uint64_t job;
    struct shelf_policy policies[SHELF_POLICIES]; /* ascending */
    size_t count;
    int64_t pinned[SHELF_PINNED]; /* versions */
    size_t pinned_count;
    struct shelf_policy rewards[SHELF_REWARDS]; /* newest last; version 0: none */
    bool pins_known; /* heard since the start: until then nothing older than the start is removed */
};

/* Finds what an earlier process left: files of this job up to resume_version (-1: none) stay for those who may still pull
 * them, everything else with the prefix is unlinked. */
err_t shelf_init(struct shelf *shelf, const char *state_dir, uint64_t job, int64_t resume_version) MUST_USE;
/* Unlinks all files of the job with the prefix of this state directory. */
void shelf_remove_job(const char *state_dir, uint64_t job);

void shelf_path(const struct shelf *shelf, int64_t lineage, int64_t version, char ret[SHELF_PATH_BYTES]);
void shelf_reward_path(const struct shelf *shelf, int64_t lineage, int64_t version, char ret[SHELF_PATH_BYTES]);
/* Writes the file; may run on any thread, touches nothing of the shelf. ERR_io names the path. */
err_t shelf_write(const char *path, const struct policy_file *policy) MUST_USE;
/* Notes a written version and removes what is not wanted any more. ERR_busy when the shelf is full of pinned ones. */
err_t shelf_add(struct shelf *shelf, int64_t lineage, int64_t version) MUST_USE;
/* Notes a written outcome reward model and removes the oldest. */
void shelf_add_reward(struct shelf *shelf, int64_t lineage, int64_t version);
void shelf_pin(struct shelf *shelf, const uint64_t *versions, size_t count);

#endif
