/* The weights that a worker knows and holds, by role: versions of the policy, and of the outcome reward model.
 *
 * The data manager announces versions; weights are mapped from where the trainer published them when an episode needs them,
 * and checked against their digest. At most POLICIES_RESIDENT are held; one that no episode uses and that is not the newest
 * goes first. A new lineage makes older ones unusable for new episodes, but for evaluations of versions from before its fork,
 * which the data manager announces with their own lineage; a version of the outcome reward model is that of the newest
 * lineage that has announced it. */
#ifndef PAL_ROLLOUT_SERVICE_POLICIES_H
#define PAL_ROLLOUT_SERVICE_POLICIES_H

#include "services/common/base/digest.h"
#include "services/common/wire/wire.h"
#include "trainer/policy_file.h"

#define POLICIES_KNOWN    64
#define POLICIES_RESIDENT 4

struct policy {
    bool known;
    enum policy_file_role role;
    int64_t lineage, version;
    char digest[DIGEST_HEX_BYTES];
    char where[1024];
    uint64_t id;              /* unique in this process: the decoder's name for these weights */
    struct model *model;      /* NULL: not resident */
    struct value_head *value; /* NULL: not resident, or none was published with it */
    void *map;
    size_t map_size;
    size_t users;     /* episodes that play with it */
    uint64_t used_at; /* order of announcement and use */
};

struct policies {
    uint64_t job;
    int64_t lineage; /* the current one of the policy, -1 before any */
    struct policy rows[POLICIES_KNOWN];
    uint64_t next_id, clock;
    uint64_t loads, load_failures;
};

void policies_init(struct policies *policies, uint64_t job);
void policies_fini(struct policies *policies);
/* false when the message names no role. */
bool policies_announce(struct policies *policies, const struct wire_policy_wanted *wanted);
/* Version `pin` (>= 0), or the newest announced one of at least `least`, resident: NULL when it is not known (err_set says
 * why) or cannot be loaded. config is what its weights must have. */
struct policy *policies_get(struct policies *policies, enum policy_file_role role, int64_t pin, int64_t least,
                            const struct model_config *config);
const struct policy *policies_served(const struct policies *policies); /* newest resident policy; NULL before any */
size_t policies_resident(const struct policies *policies);

#endif
