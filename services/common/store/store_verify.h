/* The invariants of a job's ledger, each a statement that counts what it looked at and what breaks it (verify.def). */
#ifndef PAL_STORE_STORE_VERIFY_H
#define PAL_STORE_STORE_VERIFY_H

#include "services/common/store/store.h"

struct store_invariant {
    const char *name;
    const char *doc;
};

struct store_verdict {
    int64_t checked;
    int64_t broken; /* 0: it holds */
};

size_t store_verify_count(void);
const struct store_invariant *store_verify_at(size_t index);
err_t store_verify(struct store *store, size_t index, int64_t job, struct store_verdict *ret) MUST_USE;

#endif
