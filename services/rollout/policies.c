#include "services/rollout/policies.h"

#include "services/common/run/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void policies_init(struct policies *policies, uint64_t job)
{
    uint64_t next = policies->next_id; /* ids stay unique over jobs */
    *policies = (struct policies){.job = job, .lineage = -1, .next_id = next};
}

static void unload(struct policy *policy)
{
    value_head_free(&policy->value);
    model_free(&policy->model);
    if (policy->map) (void)munmap(policy->map, policy->map_size);
    policy->map = NULL;
}

void policies_fini(struct policies *policies)
{
    for (size_t i = 0; i < POLICIES_KNOWN; i++) unload(&policies->rows[i]);
    policies_init(policies, 0);
}

const struct policy *policies_served(const struct policies *policies)
{
    const struct policy *newest = NULL;
    for (size_t i = 0; i < POLICIES_KNOWN; i++) {
        const struct policy *p = &policies->rows[i];
        if (!p->known || !p->model || p->role != POLICY_FILE_policy || p->lineage != policies->lineage) continue;
        if (!newest || p->version > newest->version) newest = p;
    }
    return newest;
}

size_t policies_resident(const struct policies *policies)
{
    size_t n = 0;
    for (size_t i = 0; i < POLICIES_KNOWN; i++) n += policies->rows[i].model != NULL;
    return n;
}

/* The one with this name, or else where to put it: a free row, then one of an older lineage, then the one that was announced
 * or used longest ago; NULL when all are in use. */
static struct policy *place_for(struct policies *policies, enum policy_file_role role, int64_t lineage, int64_t version)
{
    if (lineage > policies->lineage) policies->lineage = lineage;
    struct policy *place = NULL;
    for (size_t i = 0; i < POLICIES_KNOWN; i++) {
        struct policy *p = &policies->rows[i];
        if (p->known && p->role == role && p->lineage == lineage && p->version == version) return p;
        if (p->known && p->users > 0) continue;
        bool better = !place || (place->known && (!p->known || p->lineage < place->lineage ||
                                                  (p->lineage == place->lineage && p->used_at < place->used_at)));
        if (better) place = p;
    }
    return place;
}

bool policies_announce(struct policies *policies, const struct wire_policy_wanted *wanted)
{
    bool orm = span_is(wanted->role, "orm");
    enum policy_file_role role = orm ? POLICY_FILE_orm : POLICY_FILE_policy;
    if (wanted->role.size && !orm) return false;
    if (wanted->lineage < policies->lineage) return true;
    if (!orm) policies->lineage = wanted->lineage;
    struct policy *place = place_for(policies, role, wanted->lineage, wanted->version);
    if (!place) {
        log_warn("no room for policy version %lld: all %d are in use", (long long)wanted->version, POLICIES_KNOWN);
        return true;
    }
    bool known =
        place->known && place->role == role && place->lineage == wanted->lineage && place->version == wanted->version;
    if (!known) {
        unload(place);
        *place = (struct policy){
            .known = true, .role = role, .lineage = wanted->lineage, .version = wanted->version, .id = ++policies->next_id};
        (void)snprintf(place->digest, sizeof place->digest, "%.*s", SPAN_ARG(wanted->digest));
        (void)snprintf(place->where, sizeof place->where, "%.*s", SPAN_ARG(wanted->where));
    }
    place->used_at = ++policies->clock;
    return true;
}

static void make_room(struct policies *policies, const struct policy *wanted)
{
    while (policies_resident(policies) >= POLICIES_RESIDENT) {
        struct policy *oldest = NULL;
        for (size_t i = 0; i < POLICIES_KNOWN; i++) {
            struct policy *p = &policies->rows[i];
            if (!p->model || p->users > 0 || p == wanted) continue;
            if (!oldest || p->used_at < oldest->used_at) oldest = p;
        }
        if (!oldest) return; /* all are in use: one more is held until an episode ends */
        unload(oldest);
    }
}

static err_t map_file(struct policy *policy)
{
    int fd = open(policy->where, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_set(ERR_unavailable, "%s: %s", policy->where, strerror(errno));
    struct stat st;
    err_t err = ERR_ok;
    if (fstat(fd, &st) != 0 || st.st_size <= 0) {
        err = err_set(ERR_malformed, "%s is empty", policy->where);
    } else {
        policy->map_size = (size_t)st.st_size;
        policy->map = mmap(NULL, policy->map_size, PROT_READ, MAP_SHARED, fd, 0);
        if (policy->map == MAP_FAILED) {
            policy->map = NULL;
            err = err_set(ERR_io, "mapping %s: %s", policy->where, strerror(errno));
        }
    }
    (void)close(fd);
    return err;
}

static err_t load(struct policies *policies, struct policy *policy, const struct model_config *config)
{
    struct policy_file file;
    make_room(policies, policy);
    TRY(map_file(policy));
    TRY(policy_file_open(span_of(policy->map, policy->map_size), &file));
    if (!model_config_equal(&file.config, config))
        return err_set(ERR_malformed, "%s has another shape than the job's model", policy->where);
    if (strcmp(file.digest.hex, policy->digest) != 0 || file.version != policy->version || file.role != policy->role)
        return err_set(ERR_malformed, "%s is version %lld, digest %.12s; announced was %lld, %.12s", policy->where,
                       (long long)file.version, file.digest.hex, (long long)policy->version, policy->digest);
    TRY(policy_file_model(&file, &policy->model));
    return file.value_units > 0 ? policy_file_value(&file, &policy->value) : ERR_ok;
}

static struct policy *find(struct policies *policies, enum policy_file_role role, int64_t pin, int64_t least)
{
    struct policy *found = NULL;
    for (size_t i = 0; i < POLICIES_KNOWN; i++) {
        struct policy *p = &policies->rows[i];
        if (!p->known || p->role != role) continue;
        /* evaluations of versions from before a fork are announced with their own lineage */
        if (role == POLICY_FILE_policy && pin < 0 && p->lineage != policies->lineage) continue;
        if (pin >= 0 ? p->version != pin : p->version < least) continue;
        bool better = !found || p->version > found->version || (p->version == found->version && p->lineage > found->lineage);
        if (better) found = p;
    }
    return found;
}

struct policy *policies_get(struct policies *policies, enum policy_file_role role, int64_t pin, int64_t least,
                            const struct model_config *config)
{
    struct policy *found = find(policies, role, pin, least);
    if (!found) {
        (void)err_set(ERR_not_found, "%s version %lld is not announced",
                      role == POLICY_FILE_orm ? "outcome reward model" : "policy", (long long)(pin >= 0 ? pin : least));
        return NULL;
    }
    found->used_at = ++policies->clock;
    if (found->model) return found;
    err_t err = load(policies, found, config);
    if (err == ERR_ok) {
        policies->loads++;
        return found;
    }
    policies->load_failures++;
    unload(found);
    return NULL;
}
