/* What is noted beside the plan: metrics, decisions, services, audit. */
#ifndef PAL_STORE_STORE_NOTE_H
#define PAL_STORE_STORE_NOTE_H

#include "services/common/store/store.h"

struct store_metric {
    const char *name;
    double value;
};

struct store_decision {
    const char *subject; /* task | group | episode | update | job */
    int64_t key;
    const char *rule;
    const char *verdict;
    const char *inputs; /* JSON object */
};

/* Repeating an update's metrics overwrites them; of a name that comes twice the last counts. */
err_t store_metric_insert(struct store *store, int64_t job, int64_t lineage, int64_t update,
                          const struct store_metric *metrics, size_t count) MUST_USE;
/* A redone update: what this lineage has not said of it, it takes from the lineage before. */
err_t store_metric_inherit(struct store *store, int64_t job, int64_t lineage, int64_t update) MUST_USE;
err_t store_decision_insert(struct store *store, int64_t job, const struct store_decision *decisions, size_t count) MUST_USE;
err_t store_service_hello(struct store *store, const char *identity, const char *name, const char *host,
                          int64_t pid) MUST_USE;
err_t store_service_gone(struct store *store, const char *identity) MUST_USE;
err_t store_audit(struct store *store, const char *actor, const char *action, int64_t job, const char *detail) MUST_USE;

#endif
