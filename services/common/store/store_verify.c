#include "services/common/store/store_verify.h"

#include "services/common/store/store_internal.h"

static const struct store_statement statements[] = {
#define INVARIANT(key, sentence, sql)                                                                                        \
    {.name = "verify_" #key, .doc = sentence, .params = {STORE_INT8}, .columns = {STORE_INT8, STORE_INT8}, .text = sql},
#include "services/common/store/verify.def"
#undef INVARIANT
};

const struct store_table store_verify_table = {"verify", statements, sizeof statements / sizeof *statements};

static const struct store_invariant invariants[] = {
#define INVARIANT(key, sentence, sql) {#key, sentence},
#include "services/common/store/verify.def"
#undef INVARIANT
};

size_t store_verify_count(void)
{
    return sizeof invariants / sizeof *invariants;
}

const struct store_invariant *store_verify_at(size_t index)
{
    return &invariants[index];
}

err_t store_verify(struct store *store, size_t index, int64_t job, struct store_verdict *ret)
{
    BUG_IF(index >= store_verify_count());
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[index]);
    store_put_int(&args, job);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, invariants[index].name));
    *ret = (struct store_verdict){store_get_int(&rows, 0, 0), store_get_int(&rows, 0, 1)};
    return ERR_ok;
}
