/* What the methods know between updates, and what was measured of tasks, in the ledger. */
#ifndef PAL_STORE_STORE_METHOD_H
#define PAL_STORE_STORE_METHOD_H

#include "services/common/store/store.h"

/* The state of a method after an update of a lineage, a JSON object; repeating it overwrites it. */
err_t store_method_put(struct store *store, int64_t job, int64_t lineage, int64_t update, const char *method,
                       const char *state) MUST_USE;
/* The newest state at or before an update, of the newest lineage that has one; what an abandoned lineage said past the fork
 * is older than any state of its successors. ERR_not_found when there is none. */
err_t store_method_newest(struct store *store, int64_t job, int64_t update, const char *method, struct arena *arena,
                          const char **ret_state) MUST_USE;

#endif
