/* LABELS: unit store
 * Guide in the real pal-data: failed groups are played again with a hint, in each mode; figures, refusals, hints of a file;
 * killed at every stage and begun anew by another trainer. */
#include "tests/support/stage.h"

#include <math.h>
#include <stdio.h>

#define GUIDE(keys) ", \"curation\": {\"guide\": {\"template\": \"tip: {hint}\"" keys "}}"

static const struct stage_job REPLACE = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 4, .more = GUIDE("")};
static const struct stage_job MIXIN = {
    .tasks = 8, .group_size = 4, .groups = 2, .updates = 4, .more = GUIDE(", \"mode\": \"mixin\"")};
static const struct stage_job BALANCED = {
    .tasks = 8, .group_size = 4, .groups = 2, .updates = 4, .more = GUIDE(", \"mode\": \"balanced\"")};

struct cast {
    struct peer *gateway, *trainer, *worker;
};

static struct cast begin(const struct stage_job *job)
{
    struct cast c = {stage_join("gateway"), stage_join("trainer"), stage_join("rollout")};
    stage_begin(c.gateway, c.trainer, c.worker, job);
    worker_request(c.worker, 64);
    WAIT_FOR(c.worker->lease_count == 8);
    return c;
}

static void restart(const struct cast *c)
{
    uint64_t worker = c->worker->hellos_again, trainer = c->trainer->hellos_again;
    stage_restart();
    WAIT_FOR(c->worker->hellos_again > worker && c->trainer->hellos_again > trainer);
}

/* Ends leases [from, from + n) with these rewards. */
static void end_with(struct peer *worker, size_t from, const double *rewards, size_t n)
{
    for (size_t i = 0; i < n; i++) worker_end(worker, &worker->leases[from + i], "ok", rewards[i]);
    WAIT_FOR(worker_acked(worker));
}

static const double NONE[] = {0, 0, 0, 0}, HALF[] = {0, 1, 0, 1}, ONE[] = {0, 0, 1, 0};

/* The first group fails, the second does not: leases 8 to 11 are those of the hinted group. */
static void fail_first(struct cast *c)
{
    end_with(c->worker, 0, NONE, 4);
    WAIT_FOR(c->worker->lease_count == 12);
    end_with(c->worker, 4, HALF, 4);
}

static int64_t group_says(uint64_t group, const char *verdict)
{
    return ledger_ask(strcmp(verdict, "hinted") == 0
                          ? "SELECT count(*) FROM episode_group WHERE job = $1 AND id = $2 AND verdict = 'hinted'"
                      : strcmp(verdict, "signal") == 0
                          ? "SELECT count(*) FROM episode_group WHERE job = $1 AND id = $2 AND verdict = 'signal'"
                          : "SELECT count(*) FROM episode_group WHERE job = $1 AND id = $2 AND verdict = 'no_signal'",
                      (int64_t)group);
}

/* Thousandths of a figure of update 1. */
static int64_t figure(const char *sql)
{
    return ledger_ask(sql, 0);
}

#define FIGURE(name)                                                                                                         \
    figure("SELECT round(1000 * value)::bigint FROM metric WHERE job = $1 AND update = 1 AND name = '" name "'")

static void check_hinted(const struct peer *worker)
{
    const struct lease *plain = &worker->leases[0];
    for (size_t i = 8; i < 12; i++) {
        const struct lease *lease = &worker->leases[i];
        ck_assert_str_eq(lease->source, "hinted");
        ck_assert_msg(strncmp(lease->hint, "tip: ", 5) == 0 && strlen(lease->hint) > 7, "the hint is '%s'", lease->hint);
        ck_assert_uint_eq(lease->task, plain->task);
        ck_assert_uint_eq(lease->group, worker->leases[8].group);
        ck_assert_uint_ne(lease->group, plain->group);
        ck_assert_int_eq(lease->min_version, plain->min_version);
        ck_assert_int_eq(
            ledger_ask("SELECT count(*) FROM episode WHERE job = $1 AND id = $2 AND hinted", (int64_t)lease->episode), 1);
    }
    for (size_t i = 0; i < 8; i++) {
        ck_assert_str_eq(worker->leases[i].source, "fresh");
        ck_assert_str_eq(worker->leases[i].hint, "");
    }
}

START_TEST(a_failed_group_is_played_again)
{
    struct cast c = begin(&REPLACE);
    uint64_t plain = c.worker->leases[0].group;
    fail_first(&c);
    check_hinted(c.worker);
    ck_assert_int_eq(group_says(plain, "hinted"), 1);
    ck_assert_int_eq(
        ledger_ask("SELECT count(*) FROM decision d JOIN task t ON t.job = d.job AND t.id = (d.inputs ->> 'task')::bigint"
                   " WHERE d.job = $1 AND d.subject = 'group' AND d.key = $2 AND d.rule = 'guide' AND d.verdict ="
                   " 'hinted' AND d.inputs ->> 'hint' = t.hint AND (d.inputs ->> 'mean')::float8 = 0",
                   (int64_t)plain),
        1);
    trainer_ask(c.trainer, 1);
    end_with(c.worker, 8, HALF, 3);
    ck_assert(!trainer_has(c.trainer, 1)); /* the update waits for the hinted group */
    end_with(c.worker, 11, HALF + 3, 1);
    WAIT_FOR(trainer_has(c.trainer, 1));
    const struct batch *batch = trainer_batch(c.trainer, 1);
    ck_assert_uint_eq(batch->groups, 2);
    ck_assert_uint_eq(batch->count, 8);
    for (size_t i = 0; i < 8; i++) {
        bool hinted = i >= 4;
        ck_assert_uint_eq(batch->episode[i], c.worker->leases[4 + i].episode);
        ck_assert_str_eq(batch->source[i], hinted ? "hinted" : "");
        /* plain groups dr_grpo, hinted ones guide.advantage: grpo, with the sample deviation of 0, 1, 0, 1 */
        double want = (i % 2 ? 0.5 : -0.5) / (hinted ? sqrt(1.0 / 3) + 1e-6 : 1);
        ck_assert_double_eq_tol(batch->advantage[i], want, 1e-9);
    }
    trainer_apply(c.trainer, 1);
    ck_assert_int_eq(FIGURE("hinted_groups"), 1000);
    ck_assert_int_eq(FIGURE("hinted_success"), 500);
    ck_assert_int_eq(FIGURE("hint_rate"), 333);
    ck_assert_int_eq(FIGURE("success"), 250); /* of the eight plain ones */
    ck_assert_int_eq(FIGURE("episodes"), 8000);
    ck_assert_int_eq(FIGURE("tokens_spent"),
                     1000 * ledger_ask("SELECT sum(prompt_tokens + action_tokens)::bigint FROM episode WHERE job = $1", 0));
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM training_use u JOIN episode e ON e.job = u.job AND e.id = u.episode"
                                " WHERE u.job = $1 AND e.group_id = $2",
                                (int64_t)plain),
                     0);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM training_use WHERE job = $1 AND source = 'hinted'", 0), 4);
    WAIT_FOR(c.worker->lease_count == 20); /* admission goes on: an update's groups are two, however often they are played */
}
END_TEST

START_TEST(a_hint_that_does_not_help_gives_no_signal)
{
    struct cast c = begin(&REPLACE);
    fail_first(&c);
    end_with(c.worker, 8, NONE, 4);
    const struct batch *batch = trainer_fetch(c.trainer, 1);
    ck_assert_uint_eq(batch->no_signal_groups, 1);
    ck_assert_int_eq(group_says(c.worker->leases[8].group, "no_signal"), 1);
    ck_assert_uint_eq(batch->payload[7], 0);
    trainer_apply(c.trainer, 1);
    ck_assert_int_eq(FIGURE("hinted_success"), 0);
}
END_TEST

static void check_mixed(const struct cast *c, const struct batch *batch)
{
    ck_assert_uint_eq(batch->count, 8);
    size_t hinted = 0, plain = 0;
    for (size_t i = 0; i < 8; i++) {
        if (batch->group[i] != c->worker->leases[8].group) continue;
        bool is_hinted = strcmp(batch->source[i], "hinted") == 0;
        hinted += is_hinted;
        plain += !is_hinted;
        ck_assert_double_eq_tol(batch->advantage[i], (is_hinted ? 0.75 : -0.25) / (0.5 + 1e-6), 1e-9);
        ck_assert_uint_ne(batch->payload[i], 0);
        if (is_hinted)
            ck_assert_uint_eq(batch->episode[i], c->worker->leases[10].episode);
        else
            ck_assert_uint_lt(batch->episode[i], c->worker->leases[4].episode);
    }
    ck_assert_uint_eq(hinted, 1);
    ck_assert_uint_eq(plain, 3);
}

START_TEST(successes_are_mixed_with_plain_failures)
{
    struct cast c = begin(&MIXIN);
    fail_first(&c);
    end_with(c.worker, 8, ONE, 4);
    struct batch first = *trainer_fetch(c.trainer, 1);
    check_mixed(&c, &first);
    batch_same(&first, trainer_fetch(c.trainer, 1));
    ck_assert_int_eq(ledger_ask("SELECT cardinality(array_positions(advantage, NULL))::bigint FROM episode_group"
                                " WHERE job = $1 AND id = $2",
                                (int64_t)c.worker->leases[0].group),
                     1);
}
END_TEST

START_TEST(without_success_the_failures_stay)
{
    struct cast c = begin(&MIXIN);
    fail_first(&c);
    end_with(c.worker, 8, NONE, 4);
    const struct batch *batch = trainer_fetch(c.trainer, 1);
    ck_assert_uint_eq(batch->count, 8);
    ck_assert_uint_eq(batch->no_signal_groups, 1);
    for (size_t i = 0; i < 8; i++) ck_assert_str_eq(batch->source[i], "");
}
END_TEST

START_TEST(every_second_slot_is_hinted)
{
    struct cast c = begin(&BALANCED);
    for (size_t i = 0; i < 8; i++) {
        ck_assert_str_eq(c.worker->leases[i].source, i % 2 ? "hinted" : "fresh");
        ck_assert_int_eq(strlen(c.worker->leases[i].hint) > 0, i % 2);
    }
    end_with(c.worker, 0, NONE, 4); /* failed: balanced groups are not played again */
    end_with(c.worker, 4, HALF, 4);
    const struct batch *batch = trainer_fetch(c.trainer, 1);
    ck_assert_uint_eq(batch->no_signal_groups, 1);
    for (size_t i = 0; i < 8; i++) ck_assert_str_eq(batch->source[i], i % 2 ? "hinted" : "");
    ck_assert_double_eq_tol(batch->advantage[5], 0.5 / (sqrt(1.0 / 3) + 1e-6), 1e-9);
    trainer_apply(c.trainer, 1);
    ck_assert_int_eq(FIGURE("success"), 0);
    ck_assert_int_eq(FIGURE("hinted_success"), 500);
    ck_assert_int_eq(FIGURE("hinted_groups"), 0);
}
END_TEST

START_TEST(a_void_hinted_group_makes_room_for_a_fresh_one)
{
    struct cast c = begin(&REPLACE);
    fail_first(&c);
    for (size_t i = 8; i < 11; i++) worker_end(c.worker, &c.worker->leases[i], "poisoned", 0);
    worker_end(c.worker, &c.worker->leases[11], "ok", 1);
    WAIT_FOR(c.worker->lease_count == 16);
    ck_assert_str_eq(c.worker->leases[12].source, "fresh");
    ck_assert_int_eq(ledger_ask("SELECT update_for FROM episode_group WHERE job = $1 AND replaces = $2",
                                (int64_t)c.worker->leases[8].group),
                     1);
    end_with(c.worker, 12, HALF, 4);
    const struct batch *batch = trainer_fetch(c.trainer, 1);
    ck_assert_uint_eq(batch->count, 8);
    for (size_t i = 0; i < 8; i++) ck_assert_str_eq(batch->source[i], "");
    trainer_apply(c.trainer, 1);
    WAIT_FOR(c.worker->lease_count == 24);
}
END_TEST

/* Killed after the plain group closed, in the middle of the hinted one, after it closed, and after the batch was handed out.
 */
static void go_on(const struct stage_job *job, const double *rewards)
{
    struct cast c = begin(job);
    fail_first(&c);
    for (size_t i = 0; i < 4; i++) {
        if (i % 2 == 0) restart(&c);
        end_with(c.worker, 8 + i, rewards + i, 1);
    }
    stage_restart();
    struct batch first = *trainer_fetch(c.trainer, 1);
    if (job == &MIXIN) check_mixed(&c, &first);
    ck_assert_str_eq(first.source[7], job == &MIXIN ? "" : "hinted");
    stage_restart();
    batch_same(&first, trainer_fetch(c.trainer, 1));
    trainer_apply(c.trainer, 1);
    c.trainer->mute = true;
    struct peer *heir = stage_join("trainer"); /* another lineage: the same again */
    WAIT_FOR(heir->job == (uint64_t)stage.job);
    ck_assert_int_eq(heir->lineage, 1);
    batch_same(&first, trainer_fetch(heir, 1));
    for (size_t i = 0; i < first.count; i++) ck_assert_str_eq(trainer_batch(heir, 1)->source[i], first.source[i]);
}

START_TEST(replacing_survives_being_killed)
{
    go_on(&REPLACE, HALF);
}
END_TEST

START_TEST(mixing_survives_being_killed)
{
    go_on(&MIXIN, ONE);
}
END_TEST

START_TEST(a_failed_group_waits_with_the_killed)
{
    struct cast c = begin(&REPLACE);
    fail_first(&c);
    restart(&c); /* the figures still know the plain episodes */
    end_with(c.worker, 8, HALF, 4);
    ck_assert_uint_eq(trainer_fetch(c.trainer, 1)->count, 8);
    trainer_apply(c.trainer, 1);
    ck_assert_int_eq(FIGURE("success"), 250);
    ck_assert_int_eq(FIGURE("hinted_success"), 500);
    ck_assert_int_eq(FIGURE("tokens_spent"),
                     1000 * ledger_ask("SELECT sum(prompt_tokens + action_tokens)::bigint FROM episode WHERE job = $1", 0));
}
END_TEST

/* ---- where hints come from ---- */

static void write_hints(char *ret_path, size_t size, const char *lines)
{
    (void)snprintf(ret_path, size, "%s/hints.jsonl", stage.managers[0].state_dir);
    FILE *file = fopen(ret_path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(lines, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

/* A job whose hints are those of a file. */
static int64_t submit_with(struct peer *gateway, const char *lines)
{
    char path[STAGE_TEXT + 32], more[2 * STAGE_TEXT];
    write_hints(path, sizeof path, lines);
    (void)snprintf(more, sizeof more, ", \"curation\": {\"guide\": {\"file\": \"%s\"}}", path);
    const struct stage_job job = {.tasks = 8, .group_size = 4, .groups = 2, .updates = 2, .more = more};
    return stage_submit(gateway, &job, "");
}

START_TEST(hints_come_from_a_file)
{
    struct peer *gateway = stage_join("gateway");
    stage.job = submit_with(gateway, "\n{\"hint\": \"look twice\", \"task\": {\"seed\": 9, \"level\": 1}}\n"
                                     "{\"task\": {\"level\": 1, \"seed\": 900001}, \"hint\": \"of no task here\"}\n");
    WAIT_FOR(ledger_state_is(stage.job, "running"));
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM task WHERE job = $1 AND hint = 'look twice'", 0), 1);
    ck_assert_int_eq(ledger_ask("SELECT count(*) FROM task WHERE job = $1 AND hint = 'of no task here'", 0), 0);
    ck_assert_int_gt(ledger_ask("SELECT count(*) FROM task WHERE job = $1 AND hint <> '' AND hint <> 'look twice'", 0), 0);
}
END_TEST

static void expect_failure(int64_t job, const char *sql)
{
    WAIT_FOR(ledger_state_is(job, "failed"));
    ck_assert_int_eq(ledger_ask(sql, job), 1);
}

START_TEST(a_file_of_hints_must_fit)
{
    struct peer *gateway = stage_join("gateway");
    int64_t job = submit_with(gateway, "{\"task\": {\"level\": 1, \"seed\": 9}}\n");
    expect_failure(job, "SELECT count(*) FROM job WHERE id = $2 AND reason LIKE '%hints.jsonl: line 1: {\"task\"%'");
    job = submit_with(gateway, "{\"task\": {\"level\": 1, \"seed\": 900001}, \"hint\": \"of none\"}\n");
    expect_failure(job, "SELECT count(*) FROM job WHERE id = $2 AND reason LIKE '%no line is about a task of this job%'");
    char lines[2048];
    (void)snprintf(lines, sizeof lines, "{\"task\": {\"level\": 1, \"seed\": 9}, \"hint\": \"%01100d\"}\n", 7);
    job = submit_with(gateway, lines);
    expect_failure(job, "SELECT count(*) FROM job WHERE id = $2 AND reason LIKE '%more than 1024 bytes%'");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_failed_group_is_played_again,
        a_hint_that_does_not_help_gives_no_signal,
        successes_are_mixed_with_plain_failures,
        without_success_the_failures_stay,
        every_second_slot_is_hinted,
        a_void_hinted_group_makes_room_for_a_fresh_one,
        replacing_survives_being_killed,
        mixing_survives_being_killed,
        a_failed_group_waits_with_the_killed,
        hints_come_from_a_file,
        a_file_of_hints_must_fit,
    };
    return stage_main("guide", tests, sizeof tests / sizeof *tests);
}
