#include "services/trainer/shelf.h"

#include "services/common/run/rundir.h"
#include "services/trainer/file.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SUFFIX        ".policy"
#define REWARD_SUFFIX ".reward"

static void path_of(const struct shelf *shelf, int64_t lineage, int64_t version, const char *suffix,
                    char ret[SHELF_PATH_BYTES])
{
    int n = snprintf(ret, SHELF_PATH_BYTES, "%s%" PRIu64 "-%" PRId64 "-%" PRId64 "%s", shelf->prefix, shelf->job, lineage,
                     version, suffix);
    BUG_IF(n < 0 || n >= SHELF_PATH_BYTES);
}

void shelf_path(const struct shelf *shelf, int64_t lineage, int64_t version, char ret[SHELF_PATH_BYTES])
{
    path_of(shelf, lineage, version, SUFFIX, ret);
}

void shelf_reward_path(const struct shelf *shelf, int64_t lineage, int64_t version, char ret[SHELF_PATH_BYTES])
{
    path_of(shelf, lineage, version, REWARD_SUFFIX, ret);
}

static void unlink_policy(const struct shelf *shelf, struct shelf_policy policy)
{
    char path[SHELF_PATH_BYTES];
    shelf_path(shelf, policy.lineage, policy.version, path);
    (void)unlink(path);
}

static bool older(struct shelf_policy a, struct shelf_policy b)
{
    return a.lineage != b.lineage ? a.lineage < b.lineage : a.version < b.version;
}

static void insert(struct shelf *shelf, struct shelf_policy policy)
{
    size_t at = shelf->count;
    while (at > 0 && older(policy, shelf->policies[at - 1])) at--;
    if (at > 0 && !older(shelf->policies[at - 1], policy)) return; /* it is there */
    for (size_t i = shelf->count; i > at; i--) shelf->policies[i] = shelf->policies[i - 1];
    shelf->policies[at] = policy;
    shelf->count++;
}

/* "JOB-LINEAGE-VERSION.policy" */
static bool read_name(const char *name, uint64_t *ret_job, struct shelf_policy *ret)
{
    char end[8] = "";
    return sscanf(name, "%" SCNu64 "-%" SCNd64 "-%" SCNd64 "%7s", ret_job, &ret->lineage, &ret->version, end) == 4 &&
           strcmp(end, SUFFIX) == 0;
}

/* Calls each file of the prefix by its name behind the prefix; true unlinks it. */
static void sweep(const char *prefix, bool (*unwanted)(void *ctx, const char *name), void *ctx)
{
    const char *base = strrchr(prefix, '/') + 1;
    char folder[SHELF_PATH_BYTES], path[2 * SHELF_PATH_BYTES + 300];
    (void)snprintf(folder, sizeof folder, "%.*s", (int)(base - prefix), prefix);
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (strncmp(entry->d_name, base, strlen(base)) != 0) continue;
        if (!unwanted(ctx, entry->d_name + strlen(base))) continue;
        (void)snprintf(path, sizeof path, "%s%s", folder, entry->d_name);
        (void)unlink(path);
    }
    (void)closedir(dir);
}

struct inherit {
    struct shelf *shelf;
    int64_t resume_version;
};

static bool not_inherited(void *ctx, const char *name)
{
    struct inherit *inherit = ctx;
    struct shelf *shelf = inherit->shelf;
    uint64_t job = 0;
    struct shelf_policy policy;
    if (!read_name(name, &job, &policy)) return true;
    if (job != shelf->job || policy.version > inherit->resume_version || shelf->count == SHELF_POLICIES / 2) return true;
    insert(shelf, policy);
    return false;
}

err_t shelf_init(struct shelf *shelf, const char *state_dir, uint64_t job, int64_t resume_version)
{
    *shelf = (struct shelf){.job = job};
    char prefix[SHELF_PATH_BYTES - 80]; /* room for the rest of a name */
    TRY(rundir_shm_prefix(state_dir, prefix, sizeof prefix));
    (void)snprintf(shelf->prefix, sizeof shelf->prefix, "%s", prefix);
    struct inherit inherit = {shelf, resume_version};
    sweep(shelf->prefix, not_inherited, &inherit);
    return ERR_ok;
}

static bool is_of_job(void *ctx, const char *name)
{
    return strtoull(name, NULL, 10) == *(uint64_t *)ctx;
}

void shelf_remove_job(const char *state_dir, uint64_t job)
{
    char prefix[SHELF_PATH_BYTES];
    if (rundir_shm_prefix(state_dir, prefix, sizeof prefix) == ERR_ok) sweep(prefix, is_of_job, &job);
}

err_t shelf_write(const char *path, const struct policy_file *policy)
{
    uint8_t header[POLICY_FILE_HEADER_BYTES];
    struct span spans[POLICY_FILE_SPANS];
    size_t count = 0;
    policy_file_encode(policy, header, spans, &count);
    return file_write(path, spans, count, false);
}

static bool is_pinned(const struct shelf *shelf, int64_t version)
{
    for (size_t i = 0; i < shelf->pinned_count; i++) {
        if (shelf->pinned[i] == version) return true;
    }
    return false;
}

static void prune(struct shelf *shelf)
{
    size_t kept = 0;
    for (size_t i = 0; i < shelf->count; i++) {
        struct shelf_policy policy = shelf->policies[i];
        bool keep = !shelf->pins_known || i + SHELF_NEWEST >= shelf->count || is_pinned(shelf, policy.version);
        if (keep)
            shelf->policies[kept++] = policy;
        else
            unlink_policy(shelf, policy);
    }
    shelf->count = kept;
}

err_t shelf_add(struct shelf *shelf, int64_t lineage, int64_t version)
{
    if (shelf->count == SHELF_POLICIES) {
        shelf->pins_known = true; /* nobody told for that long: only the newest can stay */
        prune(shelf);
    }
    if (shelf->count == SHELF_POLICIES) return err_set(ERR_busy, "%d published policies are still wanted", SHELF_POLICIES);
    insert(shelf, (struct shelf_policy){lineage, version});
    prune(shelf);
    return ERR_ok;
}

void shelf_pin(struct shelf *shelf, const uint64_t *versions, size_t count)
{
    shelf->pinned_count = count < SHELF_PINNED ? count : SHELF_PINNED;
    for (size_t i = 0; i < shelf->pinned_count; i++) shelf->pinned[i] = (int64_t)versions[i];
    shelf->pins_known = true;
    prune(shelf);
}

void shelf_add_reward(struct shelf *shelf, int64_t lineage, int64_t version)
{
    const struct shelf_policy *newest = &shelf->rewards[SHELF_REWARDS - 1], oldest = shelf->rewards[0];
    if (newest->lineage == lineage && newest->version == version) return;
    memmove(shelf->rewards, shelf->rewards + 1, (SHELF_REWARDS - 1) * sizeof *shelf->rewards);
    shelf->rewards[SHELF_REWARDS - 1] = (struct shelf_policy){lineage, version};
    if (oldest.version == 0) return;
    char path[SHELF_PATH_BYTES];
    shelf_reward_path(shelf, oldest.lineage, oldest.version, path);
    (void)unlink(path);
}
