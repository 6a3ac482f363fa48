/* data_epoch: which data manager the ledger belongs to. */
#include "services/common/store/store_internal.h"

enum { EPOCH_TAKE };

static const struct store_statement statements[] = {
    [EPOCH_TAKE] = {.name = "epoch_take",
                    .doc = "a data manager starts: every older one is fenced off from now on",
                    .columns = {STORE_INT8},
                    .text = "UPDATE data_epoch SET epoch = epoch + 1 RETURNING epoch"},
};

const struct store_table store_epoch_table = {"epoch", statements, sizeof statements / sizeof *statements};

err_t store_take_epoch(struct store *store, uint64_t *ret)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[EPOCH_TAKE]);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, "the row of data_epoch"));
    *ret = (uint64_t)store_get_int(&rows, 0, 0);
    return ERR_ok;
}
