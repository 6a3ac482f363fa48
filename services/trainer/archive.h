/* The archive: a job's checkpoints on disk, STATE/jobs/JOB/checkpoints/LINEAGE-VERSION.ckpt (LINEAGE-VERSION-UPDATE.ckpt
 * where skipped updates follow the version).
 *
 * A checkpoint is there when its file is written, fsynced, renamed and its folder fsynced. Of those there are, the first and
 * the newest ones are kept; older ones are deleted only after a newer one was acknowledged by the data manager. A trainer
 * that died leaves orphans: unfinished files, and whole ones that the ledger does not know. A lineage begins at the newest
 * committed version and redoes what came after, so whatever is newer is an orphan then. */
#ifndef PAL_SERVICES_TRAINER_ARCHIVE_H
#define PAL_SERVICES_TRAINER_ARCHIVE_H

#include "trainer/checkpoint.h"

#define ARCHIVE_PATH_BYTES 1024

struct archive {
    char folder[ARCHIVE_PATH_BYTES - 64];
    size_t orphans; /* removed by archive_init */
};

struct archive_entry {
    char path[ARCHIVE_PATH_BYTES];
    struct digest sha256; /* of the file */
    uint64_t size;        /* bytes */
};

/* Makes the folder and removes orphans; resume_version: the newest committed version, -1 when there is none. */
err_t archive_init(struct archive *archive, const char *state_dir, uint64_t job, int64_t resume_version) MUST_USE;
/* Writes a checkpoint durably. Blocks. */
err_t archive_save(const struct archive *archive, const struct checkpoint *checkpoint, struct archive_entry *ret) MUST_USE;
/* Reads one whose file has this SHA-256 (ERR_malformed otherwise) and at most max_bytes; *ret borrows from *ret_memory, which
 * is the caller's to free(). Blocks. */
err_t archive_load(const char *path, const char *sha256, size_t max_bytes, void **ret_memory,
                   struct checkpoint *ret) MUST_USE;
/* Deletes all but the first and the newest, `keep` in all (at least the newest). Returns how many went. */
size_t archive_prune(const struct archive *archive, size_t keep);

#endif
