#include "services/common/store/store_note.h"

#include "services/common/store/store_internal.h"

enum { METRIC, INHERIT, DECISION, HELLO, GONE, AUDIT };

static const struct store_statement statements[] = {
    [METRIC] = {.name = "metric_insert",
                .doc = "an update's metrics, one set",
                .params = {STORE_INT8, STORE_INT8, STORE_INT8, STORE_TEXT_ARRAY, STORE_FLOAT8_ARRAY},
                .text = "INSERT INTO metric (job, lineage, update, name, value) SELECT DISTINCT ON (u.name) $1, $2::int, $3, "
                        "u.name, u.value"
                        " FROM unnest($4, $5) WITH ORDINALITY AS u(name, value, n) ORDER BY u.name, u.n DESC"
                        " ON CONFLICT (job, lineage, update, name) DO UPDATE SET value = excluded.value"},
    [INHERIT] = {.name = "metric_inherit",
                 .doc = "what the lineage before said of an update and this one did not",
                 .params = {STORE_INT8, STORE_INT8, STORE_INT8},
                 .text =
                     "INSERT INTO metric (job, lineage, update, name, value) SELECT m.job, $2::int, m.update, m.name, m.value"
                     " FROM metric m WHERE m.job = $1 AND m.update = $3 AND m.lineage = (SELECT max(o.lineage) FROM metric o"
                     "  WHERE o.job = $1 AND o.update = $3 AND o.lineage < $2)"
                     " ON CONFLICT (job, lineage, update, name) DO NOTHING"},
    [DECISION] = {.name = "decision_insert",
                  .doc = "verdicts with their inputs, one set",
                  .params = {STORE_INT8, STORE_TEXT_ARRAY, STORE_INT8_ARRAY, STORE_TEXT_ARRAY, STORE_TEXT_ARRAY,
                             STORE_TEXT_ARRAY},
                  .text = "INSERT INTO decision (job, subject, key, rule, verdict, inputs)"
                          " SELECT $1, subject, key, rule, verdict, inputs::jsonb FROM unnest($2, $3, $4, $5, $6)"
                          " AS u(subject, key, rule, verdict, inputs)"},
    [HELLO] = {.name = "service_hello",
               .doc = "a process that said hello",
               .params = {STORE_TEXT, STORE_TEXT, STORE_TEXT, STORE_INT8},
               .text = "INSERT INTO service (identity, name, host, pid) VALUES ($1, $2, $3, $4)"
                       " ON CONFLICT (identity) DO UPDATE SET gone_at = NULL"},
    [GONE] = {.name = "service_gone",
              .doc = "a process that fell silent",
              .params = {STORE_TEXT},
              .text = "UPDATE service SET gone_at = now() WHERE identity = $1 AND gone_at IS NULL"},
    [AUDIT] = {.name = "audit_insert",
               .doc = "who did what",
               .params = {STORE_TEXT, STORE_TEXT, STORE_INT8, STORE_JSONB},
               .text = "INSERT INTO audit (actor, action, job, detail) VALUES ($1, $2, $3, $4)"},
};

const struct store_table store_note_table = {"note", statements, sizeof statements / sizeof *statements};

err_t store_metric_insert(struct store *store, int64_t job, int64_t lineage, int64_t update,
                          const struct store_metric *metrics, size_t count)
{
    AUTO(arena) arena = {0};
    const char **names = arena_array(&arena, const char *, count);
    double *values = arena_array(&arena, double, count);
    if (!names || !values) return ERR_memory;
    for (size_t i = 0; i < count; i++) {
        names[i] = metrics[i].name;
        values[i] = metrics[i].value;
    }
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[METRIC]);
    store_put_int(&args, job);
    store_put_int(&args, lineage);
    store_put_int(&args, update);
    store_put_texts(&args, names, count);
    store_put_floats(&args, values, NULL, count);
    return store_run(store, &args, NULL);
}

err_t store_metric_inherit(struct store *store, int64_t job, int64_t lineage, int64_t update)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[INHERIT]);
    store_put_int(&args, job);
    store_put_int(&args, lineage);
    store_put_int(&args, update);
    return store_run(store, &args, NULL);
}

err_t store_decision_insert(struct store *store, int64_t job, const struct store_decision *decisions, size_t count)
{
    AUTO(arena) arena = {0};
    const char **texts = arena_array(&arena, const char *, 4 * count);
    int64_t *keys = arena_array(&arena, int64_t, count);
    if (!texts || !keys) return ERR_memory;
    for (size_t i = 0; i < count; i++) {
        texts[i] = decisions[i].subject;
        keys[i] = decisions[i].key;
        texts[count + i] = decisions[i].rule;
        texts[2 * count + i] = decisions[i].verdict;
        texts[3 * count + i] = decisions[i].inputs;
    }
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[DECISION]);
    store_put_int(&args, job);
    store_put_texts(&args, texts, count);
    store_put_ints(&args, keys, NULL, count);
    store_put_texts(&args, texts + count, count);
    store_put_texts(&args, texts + 2 * count, count);
    store_put_texts(&args, texts + 3 * count, count);
    return store_run(store, &args, NULL);
}

err_t store_service_hello(struct store *store, const char *identity, const char *name, const char *host, int64_t pid)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[HELLO]);
    store_put_text(&args, identity);
    store_put_text(&args, name);
    store_put_text(&args, host);
    store_put_int(&args, pid);
    return store_run(store, &args, NULL);
}

err_t store_service_gone(struct store *store, const char *identity)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[GONE]);
    store_put_text(&args, identity);
    return store_run(store, &args, NULL);
}

err_t store_audit(struct store *store, const char *actor, const char *action, int64_t job, const char *detail)
{
    AUTO(store_args) args = {0};
    store_args_init(&args, &statements[AUDIT]);
    store_put_text(&args, actor);
    store_put_text(&args, action);
    if (job > 0)
        store_put_int(&args, job);
    else
        store_put_null(&args);
    store_put_text(&args, detail);
    return store_run(store, &args, NULL);
}
