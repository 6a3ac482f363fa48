/* LABELS: store
 * store: states go the ways of states.def and no other, what has ended does not change, and docs/states.md says the same. */
#include "services/common/store/store_internal.h"
#include "tests/support/cluster.h"
#include "tests/support/document.h"

#include <check.h>
#include <stdio.h>

#define MIGRATIONS PAL_SOURCE_DIR "/migrations"
#define SQL_BYTES  1024

static struct cluster cluster; /* one for the program: main starts it */

static const struct way {
    const char *table, *from, *to, *why;
} ways[] = {
#define STATE(table, from, to, why) {#table, #from, #to, why},
#include "services/common/store/states.def"
#undef STATE
};
enum { WAYS = sizeof ways / sizeof *ways };

/* How a row in a state is written, and how it is moved: %1$s is the state. The states are those of the CHECK constraints,
 * which are asked for below. */
static const struct table {
    const char *name, *make, *move;
} tables[] = {
    {"job",
     "INSERT INTO job (name, spec, state, ended_at) VALUES ('one', '{}', '%s', CASE WHEN '%s' IN ('succeeded', 'failed', "
     "'cancelled')"
     " THEN now() END)",
     "UPDATE job SET state = '%s', ended_at = CASE WHEN '%s' IN ('succeeded', 'failed', 'cancelled') THEN now() END"
     " WHERE name = 'one'"},
    {"episode_group",
     "INSERT INTO episode_group (job, id, task, source, size, update_for, state, verdict) VALUES (1, 60, 1, 'fresh', 2, 1, "
     "'%s',"
     " CASE WHEN '%s' <> 'open' THEN 'void' END)",
     "UPDATE episode_group SET state = '%s', verdict = CASE WHEN '%s' <> 'open' THEN 'void' END WHERE id = 60"},
    {"episode",
     "INSERT INTO episode (job, id, group_id, slot, seed, max_steps, token, state, reward, outcome) VALUES (1, 50, 1, 7, 1, "
     "9, 5,"
     " '%s', CASE WHEN '%s' = 'done' THEN 1 END, CASE WHEN '%s' = 'void' THEN 'cancelled' ELSE 'ok' END)",
     "UPDATE episode SET state = '%s', reward = CASE WHEN '%s' = 'done' THEN 1 END, token = token + 1,"
     " outcome = CASE WHEN '%s' = 'void' THEN 'cancelled' ELSE 'ok' END WHERE id = 50"},
    {"batch",
     "INSERT INTO batch (job, lineage, update, kind, state, applied_at, groups, episodes, pass, advantage, norm_tokens,"
     " no_signal_groups, source, member_group) VALUES (1, 7, 9, 'update', '%s', CASE WHEN '%s' <> 'handed_out' THEN now() "
     "END,"
     " '{}', '{}', '{}', '{}', 0, 0, '{}', '{}')",
     "UPDATE batch SET state = '%s', applied_at = CASE WHEN '%s' <> 'handed_out' THEN now() END WHERE lineage = 7"},
};

static void run(struct store *store, const char *sql)
{
    err_t err = store_simple(store, sql, STORE_STATEMENT_MS, NULL);
    ck_assert_msg(err == ERR_ok, "%s: %s", sql, err_text());
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the tables above */
static err_t with_state(struct store *store, const char *sql, const char *state)
{
    char text[SQL_BYTES];
    (void)snprintf(text, sizeof text, sql, state, state, state);
    return store_simple(store, text, STORE_STATEMENT_MS, NULL);
}
#pragma GCC diagnostic pop

#define MOST_STATES 16

/* What the CHECK constraint allows. */
static size_t states_of(struct store *store, struct arena *arena, const char *table, const char **ret)
{
    static const struct store_statement ask = {
        .name = "states_of",
        .params = {STORE_TEXT},
        .columns = {STORE_TEXT_ARRAY},
        .text = "SELECT array_agg(m[1] ORDER BY m[1]) FROM pg_constraint c,"
                " regexp_matches(pg_get_constraintdef(c.oid), '''([a-z_]+)''::text', 'g') AS m"
                " WHERE c.conrelid = $1::regclass AND c.conname = $1 || '_state_check'"};
    AUTO(store_args) args = {0};
    AUTO(store_rows) rows = {0};
    struct span *names = NULL;
    size_t count = 0;
    store_args_init(&args, &ask);
    store_put_text(&args, table);
    ck_assert_int_eq(store_run_one(store, &args, &rows, "states"), ERR_ok);
    ck_assert_int_eq(store_get_spans(&rows, 0, 0, arena, &names, &count), ERR_ok);
    ck_assert_uint_gt(count, 1);
    ck_assert_uint_le(count, MOST_STATES);
    for (size_t i = 0; i < count; i++) ret[i] = (const char *)names[i].data;
    return count;
}

static bool is_way(const char *table, const char *from, const char *to)
{
    for (size_t i = 0; i < WAYS; i++) {
        const struct way *w = &ways[i];
        if (strcmp(w->table, table) == 0 && strcmp(w->from, from) == 0 && strcmp(w->to, to) == 0) return true;
    }
    return false;
}

static void try_way(struct store *store, const struct table *table, const char *from, const char *to)
{
    run(store, "BEGIN");
    err_t err = with_state(store, table->make, from);
    ck_assert_msg(err == ERR_ok, "%s in state %s: %s", table->name, from, err_text());
    err = with_state(store, table->move, to);
    bool good = is_way(table->name, from, to);
    ck_assert_msg(err == (good ? ERR_ok : ERR_conflict), "%s from %s to %s: %s", table->name, from, to,
                  err == ERR_ok ? "it went" : err_text());
    store_rollback(store);
}

START_TEST(states_go_their_ways_only)
{
    AUTO_PTR(store) store = cluster_ledger(&cluster, "states", MIGRATIONS);
    AUTO(arena) arena = {0};
    size_t tried = 0;
    arena_init(&arena, 0);
    run(store,
        "INSERT INTO job (name, spec) VALUES ('base', '{}');"
        "INSERT INTO task (job, id, environment, split, body, hash, source) VALUES (1, 1, 0, 'train', 'b', 'h', 'generate');"
        "INSERT INTO episode_group (job, id, task, source, size, update_for) VALUES (1, 1, 1, 'fresh', 8, 1)");
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        const char *states[MOST_STATES];
        size_t count = states_of(store, &arena, tables[t].name, states);
        for (size_t i = 0; i < count; i++) {
            for (size_t k = 0; k < count; k++) {
                if (i == k) continue;
                try_way(store, &tables[t], states[i], states[k]);
                tried += is_way(tables[t].name, states[i], states[k]);
            }
        }
    }
    ck_assert_uint_eq(tried, WAYS); /* no row names a state that there is not */
}
END_TEST

/* A job with an episode that is done and one that is leased, a batch that was applied, a checkpoint, a result. */
#define BASE                                                                                                                 \
    "INSERT INTO job (name, spec, updates_done, lineage) VALUES ('base', '{}', 5, 1);"                                       \
    "INSERT INTO task (job, id, environment, split, body, hash, source) VALUES (1, 1, 0, 'train', 'b', 'h', 'generate');"    \
    "INSERT INTO episode_group (job, id, task, source, size, update_for) VALUES (1, 1, 1, 'fresh', 2, 1);"                   \
    "INSERT INTO episode (job, id, group_id, slot, state, seed, max_steps, token, attempt, outcome, reward) VALUES"          \
    " (1, 1, 1, 0, 'done', 1, 9, 5, 1, 'ok', 1), (1, 2, 1, 1, 'leased', 1, 9, 6, 1, NULL, NULL);"                            \
    "INSERT INTO episode_payload VALUES (1, 1, 3, 'abc');"                                                                   \
    "INSERT INTO batch (job, lineage, update, kind, state, outcome, groups, episodes, pass, advantage, norm_tokens,"         \
    " no_signal_groups, version, digest, applied_at, source, member_group) VALUES (1, 1, 1, 'update', 'applied', "           \
    "'applied', '{1}',"                                                                                                      \
    " '{1}', '{0}', '{0.5}', 10, 0, 1, 'd', now(), '{fresh}', '{1}');"                                                       \
    "INSERT INTO training_use (job, episode, pass, lineage, update, source) VALUES (1, 1, 0, 1, 1, 'fresh');"                \
    "INSERT INTO decision (job, subject, key, rule, verdict, inputs) VALUES (1, 'group', 1, 'r', 'v', '{}');"                \
    "INSERT INTO job_event (job, seq, kind, message) VALUES (1, 1, 'state', 'm');"                                           \
    "INSERT INTO evaluation (job, lineage, version, episodes, done, successes) VALUES (1, 1, 0, 4, 4, 2);"                   \
    "INSERT INTO policy (job, lineage, version, digest, checkpoint, update, sha256, size, committed_at) VALUES"              \
    " (1, 1, 1, 'd', '/x', 1, 's', 9, now());"                                                                               \
    "UPDATE data_epoch SET epoch = 7"

static const struct {
    const char *what, *sql;
    bool possible;
} changes[] = {
    {"an epoch that stands still", "UPDATE data_epoch SET epoch = 7", false},
    {"an epoch that goes back", "UPDATE data_epoch SET epoch = 6", false},
    {"an epoch that grows", "UPDATE data_epoch SET epoch = 8", true},
    {"a lineage that goes back", "UPDATE job SET lineage = 0", false},
    {"updates that go back", "UPDATE job SET updates_done = 4", false},
    {"updates that go back with a new lineage", "UPDATE job SET updates_done = 4, lineage = 2", true},
    {"another reward of an ended episode", "UPDATE episode SET reward = 0 WHERE id = 1", false},
    {"another outcome of an ended episode", "UPDATE episode SET outcome = 'truncated' WHERE id = 1", false},
    {"another slot for an ended episode", "UPDATE episode SET slot = 5 WHERE id = 1", false},
    {"a token that goes back", "UPDATE episode SET token = 5 WHERE id = 2", false},
    {"an attempt that goes back", "UPDATE episode SET attempt = 0 WHERE id = 2", false},
    {"a lease under the token of before",
     "UPDATE episode SET state = 'pending' WHERE id = 2; UPDATE episode SET state = 'leased' WHERE id = 2", false},
    {"a lease under a new token",
     "UPDATE episode SET state = 'pending' WHERE id = 2; UPDATE episode SET state = 'leased', token = 7 WHERE id = 2", true},
    {"other members of a batch", "UPDATE batch SET episodes = '{2}'", false},
    {"other advantages of a batch", "UPDATE batch SET advantage = '{1}'", false},
    {"another digest of an update", "UPDATE batch SET digest = 'e'", false},
    {"a commit of a batch", "UPDATE batch SET state = 'committed'", true},
    {"another file of a checkpoint", "UPDATE policy SET sha256 = 't'", false},
    {"a later checkpoint of the same weights", "UPDATE policy SET checkpoint = '/x-2', sha256 = 't', update = 2", true},
    {"a later checkpoint of other weights", "UPDATE policy SET digest = 'e', sha256 = 't', update = 2", false},
    {"an earlier checkpoint", "UPDATE policy SET checkpoint = '/x-0', sha256 = 't', update = 0", false},
    {"another place of its weights", "UPDATE policy SET where_now = '/y'", true},
    {"another result of an evaluation", "UPDATE evaluation SET successes = 4", false},
    {"another payload", "UPDATE episode_payload SET bytes = 'x'", false},
    {"another use", "UPDATE training_use SET update = 1", false},
    {"another verdict", "UPDATE decision SET verdict = 'w'", false},
    {"another event", "UPDATE job_event SET message = 'n'", false},
};

START_TEST(what_has_happened_stays)
{
    AUTO_PTR(store) store = cluster_ledger(&cluster, "stays", MIGRATIONS);
    run(store, BASE);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        run(store, "BEGIN");
        err_t err = store_simple(store, changes[i].sql, STORE_STATEMENT_MS, NULL);
        ck_assert_msg(err == (changes[i].possible ? ERR_ok : ERR_conflict), "%s: %s", changes[i].what,
                      err == ERR_ok ? "it was written" : err_text());
        store_rollback(store);
    }
}
END_TEST

START_TEST(the_document_is_drawn_from_the_table)
{
    AUTO(buf) out = {0};
    const char *table = "";
    ck_assert_int_eq(buf_text(&out,
                              "# States\n\nMade from `services/common/store/states.def`; the ledger refuses every other way "
                              "(`migrations/0004_states.sql`).\n"),
                     ERR_ok);
    for (size_t i = 0; i < WAYS; i++) {
        bool begins = strcmp(table, ways[i].table) != 0;
        if (begins && i) ck_assert_int_eq(buf_text(&out, "```\n"), ERR_ok);
        if (begins) ck_assert_int_eq(buf_printf(&out, "\n## %s\n\n```mermaid\nstateDiagram-v2\n", ways[i].table), ERR_ok);
        table = ways[i].table;
        ck_assert_int_eq(buf_printf(&out, "    %s --> %s: %s\n", ways[i].from, ways[i].to, ways[i].why), ERR_ok);
    }
    ck_assert_int_eq(buf_text(&out, "```\n"), ERR_ok);
    document_check("docs/states.md", &out);
}
END_TEST

int main(void)
{
    cluster_start(&cluster);
    Suite *suite = suite_create("states");
    TCase *tcase = tcase_create("states");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, states_go_their_ways_only);
    tcase_add_test(tcase, what_has_happened_stays);
    tcase_add_test(tcase, the_document_is_drawn_from_the_table);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    cluster_stop(&cluster);
    return failed == 0 ? 0 : 1;
}
