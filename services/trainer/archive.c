#include "services/trainer/archive.h"

#include "services/common/run/rundir.h"
#include "services/trainer/file.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SUFFIX      ".ckpt"
#define MAX_ENTRIES 16384 /* checkpoints_kept ends at 10000 */

struct name {
    int64_t lineage;
    int64_t version;
    int64_t update; /* the version, where it is that of the version */
};

/* false when it is another file */
static bool read_name(const char *text, struct name *ret)
{
    char end[8] = "";
    if (sscanf(text, "%" SCNd64 "-%" SCNd64 "-%" SCNd64 "%7s", &ret->lineage, &ret->version, &ret->update, end) == 4)
        return strcmp(end, SUFFIX) == 0;
    if (sscanf(text, "%" SCNd64 "-%" SCNd64 "%7s", &ret->lineage, &ret->version, end) != 3) return false;
    ret->update = ret->version;
    return strcmp(end, SUFFIX) == 0;
}

/* LINEAGE-VERSION, and the update where it is another: a file that is on record is never written over. */
static void path_of(const struct archive *archive, struct name name, char ret[ARCHIVE_PATH_BYTES])
{
    int n = name.update == name.version ? snprintf(ret, ARCHIVE_PATH_BYTES, "%s/%" PRId64 "-%" PRId64 SUFFIX, archive->folder,
                                                   name.lineage, name.version)
                                        : snprintf(ret, ARCHIVE_PATH_BYTES, "%s/%" PRId64 "-%" PRId64 "-%" PRId64 SUFFIX,
                                                   archive->folder, name.lineage, name.version, name.update);
    BUG_IF(n < 0 || n >= ARCHIVE_PATH_BYTES);
}

static bool is_orphan(const char *text, int64_t resume_version)
{
    struct name name;
    size_t size = strlen(text);
    if (size > 4 && strcmp(text + size - 4, ".tmp") == 0) return true;
    return read_name(text, &name) && name.version > resume_version;
}

err_t archive_init(struct archive *archive, const char *state_dir, uint64_t job, int64_t resume_version)
{
    archive->orphans = 0;
    int n = snprintf(archive->folder, sizeof archive->folder, "%s/jobs/%" PRIu64 "/checkpoints", state_dir, job);
    if (n < 0 || (size_t)n >= sizeof archive->folder) return err_set(ERR_too_large, "the state directory's path is too long");
    TRY(rundir_make(archive->folder));
    DIR *dir = opendir(archive->folder);
    if (!dir) return err_set(ERR_io, "%s cannot be listed", archive->folder);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (!is_orphan(entry->d_name, resume_version)) continue;
        char path[sizeof archive->folder + 300];
        (void)snprintf(path, sizeof path, "%s/%s", archive->folder, entry->d_name);
        archive->orphans += unlink(path) == 0;
    }
    (void)closedir(dir);
    return ERR_ok;
}

err_t archive_save(const struct archive *archive, const struct checkpoint *checkpoint, struct archive_entry *ret)
{
    uint8_t header[CHECKPOINT_HEADER_BYTES];
    struct span spans[CHECKPOINT_SPANS];
    size_t count = 0;
    const struct checkpoint_parts parts = checkpoint_parts(checkpoint);
    struct archive_entry entry = {.size = checkpoint_bytes(&checkpoint->config, &parts)};
    path_of(archive, (struct name){checkpoint->lineage, checkpoint->version, checkpoint->update}, entry.path);
    checkpoint_encode(checkpoint, header, spans, &count);
    TRY(digest_spans(spans, count, &entry.sha256));
    TRY(file_write(entry.path, spans, count, true));
    *ret = entry;
    return ERR_ok;
}

err_t archive_load(const char *path, const char *sha256, size_t max_bytes, void **ret_memory, struct checkpoint *ret)
{
    void *memory = NULL;
    struct span bytes;
    struct digest digest;
    TRY(file_read(path, max_bytes, &memory, &bytes));
    err_t err = digest_bytes(bytes, &digest);
    if (err == ERR_ok && strcmp(digest.hex, sha256) != 0)
        err = err_set(ERR_malformed, "%s has SHA-256 %.12s..., %.12s... is on record: it is not the committed file", path,
                      digest.hex, sha256);
    if (err == ERR_ok && checkpoint_open(bytes, ret) != ERR_ok) err = err_prefix(ERR_malformed, "%s", path);
    if (err != ERR_ok) {
        free(memory);
        return err;
    }
    *ret_memory = memory;
    return ERR_ok;
}

static int by_age(const void *left, const void *right)
{
    const struct name *a = left, *b = right;
    if (a->lineage != b->lineage) return a->lineage < b->lineage ? -1 : 1;
    if (a->version != b->version) return a->version < b->version ? -1 : 1;
    return a->update < b->update ? -1 : a->update > b->update;
}

size_t archive_prune(const struct archive *archive, size_t keep)
{
    struct name *names = calloc(MAX_ENTRIES, sizeof *names);
    DIR *dir = names ? opendir(archive->folder) : NULL;
    size_t count = 0, gone = 0;
    for (struct dirent *entry = dir ? readdir(dir) : NULL; entry && count < MAX_ENTRIES; entry = readdir(dir)) {
        if (read_name(entry->d_name, &names[count])) count++;
    }
    if (dir) (void)closedir(dir);
    if (count > 0) qsort(names, count, sizeof *names, by_age);
    size_t newest = keep > 1 ? keep - 1 : 1;
    for (size_t i = 1; i + newest < count; i++) {
        char path[ARCHIVE_PATH_BYTES];
        path_of(archive, names[i], path);
        gone += unlink(path) == 0 ? 1 : 0;
    }
    free(names);
    return gone;
}
