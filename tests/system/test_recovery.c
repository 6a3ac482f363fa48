/* LABELS: system
 * What a whole stack is after deaths at named places (services/common/run/crash.h), and where messages are lost
 * (services/common/bus/faults.h): one history, nothing trained twice, the weights that the ledger's batches give. */
#include "tests/support/stack.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UPDATES 24

/* trainers die in lineages 0 to 4, data managers in epochs 1 to 3 */
#define TRAINER_DEATHS 5
static const char DEATHS[] = "update_computed/0/5,checkpoint_renamed/1/8,policy_told/2/11,checkpoint_durable/3/14,"
                             "checkpoint_told/4/18,turn_written/1/40,turn_committed/2/40,turn_told/3/40";

static const char *const SETS[] = {"policy.init.preset=tiny-0.1m",
                                   "policy.warmstart.demonstrations=200",
                                   "policy.warmstart.updates=150",
                                   "environments.0.tasks.generate.count=64",
                                   "environments.0.tasks.holdout=20",
                                   "evaluation.episodes=20",
                                   "evaluation.every=5",
                                   "trainer.groups_per_update=4",
                                   "trainer.updates=24",
                                   "trainer.checkpoint_every=4",
                                   "trainer.checkpoints_kept=20",
                                   NULL};

/* Update after update, each once, from lineages that only grow, with what data and trainer say of it. */
static void check_history(const struct stack *stack)
{
    json_t *rows = stack_get(stack, "/v1/jobs/1/metrics"), *row = NULL;
    json_int_t lineage = 0;
    size_t i = 0;
    ck_assert_uint_eq(json_array_size(rows), UPDATES + 1);
    json_array_foreach(rows, i, row)
    {
        ck_assert_int_eq(json_integer_value(json_object_get(row, "update")), (json_int_t)i);
        ck_assert_int_ge(json_integer_value(json_object_get(row, "lineage")), lineage);
        lineage = json_integer_value(json_object_get(row, "lineage"));
        const json_t *values = json_object_get(row, "values");
        ck_assert_msg(json_object_get(values, "success") && json_object_get(values, "loss"), "update %zu lacks figures", i);
    }
    ck_assert_int_eq(lineage, TRAINER_DEATHS);
    json_decref(rows);
    rows = stack_get(stack, "/v1/jobs/1/metrics?lineages=all&names=loss");
    ck_assert_uint_gt(json_array_size(rows), UPDATES + 1); /* what was redone is kept, and hidden */
    json_decref(rows);
    rows = stack_get(stack, "/v1/jobs/1/evaluations");
    json_int_t version = -1;
    json_array_foreach(rows, i, row)
    {
        ck_assert_int_gt(json_integer_value(json_object_get(row, "version")), version);
        version = json_integer_value(json_object_get(row, "version"));
    }
    json_decref(rows);
}

/* The folder holds what the ledger says it holds. All but the first are removed. */
static void check_checkpoints(const struct stack *stack)
{
    char folder[256];
    size_t files = 0, i = 0;
    (void)snprintf(folder, sizeof folder, "%s/jobs/1/checkpoints", stack->state);
    DIR *dir = opendir(folder);
    ck_assert_ptr_nonnull(dir);
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) files += entry->d_name[0] != '.';
    (void)closedir(dir);
    json_t *rows = stack_get(stack, "/v1/jobs/1/checkpoints"), *row = NULL;
    ck_assert_uint_eq(files, json_array_size(rows));
    json_array_foreach(rows, i, row)
    {
        const char *path = json_string_value(json_object_get(row, "path"));
        ck_assert_int_eq(access(path, R_OK), 0);
        if (i > 0) ck_assert_int_eq(unlink(path), 0);
    }
    json_decref(rows);
}

START_TEST(deaths_at_named_places_leave_one_history)
{
    struct stack stack;
    char state[32];
    AUTO(buf) out = {0};
    stack_make(&stack);
    ck_assert_int_eq(setenv("PAL_CRASH_AT", DEATHS, 1), 0);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/adventure.json", SETS);
    stack_wait(&stack, job, 180, state);
    ck_assert_str_eq(state, "succeeded");
    stack_verify(&stack, job);
    json_t *status = stack_get(&stack, "/v1/status");
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(status, "data"), "epoch")), 4);
    json_decref(status);
    check_history(&stack);
    check_checkpoints(&stack);
    /* made again in one go from the first checkpoint, it is the same: update counter, optimizer, RNG and schedule went on */
    char update[16];
    (void)snprintf(update, sizeof update, "%d", UPDATES);
    const char *const replay[] = {"replay", "1", "--update", update, NULL};
    ck_assert_msg(stack_pal(&stack, &out, replay) == 0, "%s", buf_chars(&out));
    ck_assert_ptr_nonnull(strstr(buf_chars(&out), "bit for bit"));
    const char *const metrics[] = {"metrics", "1", "--from", "20", NULL};
    buf_clear(&out);
    ck_assert_int_eq(stack_pal(&stack, &out, metrics), 0);
    ck_assert_ptr_nonnull(strstr(buf_chars(&out), "\n24 "));
    stack_remove(&stack);
}
END_TEST

/* every link loses, repeats and holds back messages */
START_TEST(lost_repeated_and_late_messages_change_nothing)
{
    struct stack stack;
    char state[32];
    const char *sets[32] = {0};
    size_t n = 0;
    for (; SETS[n]; n++) sets[n] = SETS[n];
    sets[n++] = "trainer.updates=10";
    sets[n] = "evaluation.every=0";
    stack_make(&stack);
    ck_assert_int_eq(setenv("PAL_BUS_FAULTS", "drop=0.005,duplicate=0.05,delay=0.05,delay_ms=20,seed=7", 1), 0);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/adventure.json", sets);
    stack_wait(&stack, job, 180, state);
    ck_assert_str_eq(state, "succeeded");
    json_t *status = stack_get(&stack, "/v1/status");
    ck_assert_int_gt(json_integer_value(json_object_get(json_object_get(status, "data"), "bus_faults")), 0);
    json_decref(status);
    stack_verify(&stack, job);
    ck_assert_double_eq(stack_metric(&stack, job, "groups_void"), 0);
    const char *const replay[] = {"replay", "1", "--update", "10", NULL};
    ck_assert_int_eq(stack_pal(&stack, NULL, replay), 0);
    stack_remove(&stack);
}
END_TEST

/* The ledger dies as a job is submitted: `pal submit` asks again under its key, and there is one job. */
START_TEST(a_job_is_submitted_once_while_the_ledger_is_away)
{
    struct stack stack;
    char command[256], state[32];
    const char *const sets[] = {"trainer.updates=1", "policy.warmstart.updates=1", "policy.warmstart.demonstrations=4",
                                "evaluation.every=0", NULL};
    stack_make(&stack);
    stack_up(&stack);
    (void)snprintf(command, sizeof command, "kill -9 $(head -1 '%s/postgres/postmaster.pid')", stack.state);
    ck_assert_int_eq(system(command), 0);
    int64_t job = stack_submit(&stack, "examples/adventure.json", sets);
    stack_wait(&stack, job, 180, state);
    ck_assert_str_eq(state, "succeeded");
    json_t *jobs = stack_get(&stack, "/v1/jobs");
    ck_assert_uint_eq(json_array_size(jobs), 1);
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(jobs, 0), "id")), job);
    json_decref(jobs);
    stack_remove(&stack);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("recovery");
    TCase *tcase = tcase_create("recovery");
    tcase_set_timeout(tcase, STACK_SLOW * 250);
    tcase_add_test(tcase, deaths_at_named_places_leave_one_history);
    tcase_add_test(tcase, lost_repeated_and_late_messages_change_nothing);
    tcase_add_test(tcase, a_job_is_submitted_once_while_the_ledger_is_away);
    suite_add_tcase(suite, tcase);
    return stack_run(suite);
}
