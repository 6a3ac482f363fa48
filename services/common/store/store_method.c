#include "services/common/store/store_method.h"

#include "services/common/store/store_internal.h"

enum { PUT, NEWEST };

static const struct store_statement statements[] = {
    [PUT] = {.name = "method_put",
             .doc = "what a method knows after an update",
             .params = {STORE_INT8, STORE_INT8, STORE_INT8, STORE_TEXT, STORE_JSONB},
             .text = "INSERT INTO method_state (job, lineage, update, method, state) VALUES ($1, $2::int, $3, $4, $5)"
                     " ON CONFLICT (job, lineage, update, method) DO UPDATE SET state = excluded.state"},
    [NEWEST] = {.name = "method_newest",
                .doc = "what a method knew at an update",
                .params = {STORE_INT8, STORE_INT8, STORE_TEXT},
                .columns = {STORE_TEXT},
                .text = "SELECT state::text FROM method_state WHERE job = $1 AND update <= $2 AND method = $3"
                        " ORDER BY update DESC, lineage DESC LIMIT 1"},
};

const struct store_table store_method_table = {"method", statements, sizeof statements / sizeof *statements};

err_t store_method_put(struct store *store, int64_t job, int64_t lineage, int64_t update, const char *method,
                       const char *state)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[PUT]);
    store_put_int(&args, job);
    store_put_int(&args, lineage);
    store_put_int(&args, update);
    store_put_text(&args, method);
    store_put_text(&args, state);
    return store_run(store, &args, NULL);
}

err_t store_method_newest(struct store *store, int64_t job, int64_t update, const char *method, struct arena *arena,
                          const char **ret_state)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[NEWEST]);
    store_put_int(&args, job);
    store_put_int(&args, update);
    store_put_text(&args, method);
    AUTO(store_rows) rows = {0};
    TRY(store_run_one(store, &args, &rows, "state of this method"));
    *ret_state = arena_text(arena, store_get_span(&rows, 0, 0));
    return *ret_state ? ERR_ok : ERR_memory;
}
