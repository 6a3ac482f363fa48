/* LABELS: system
 * Stopping and starting on purpose: pause and resume by command and over REST, across pal down and pal up; a newer program on
 * an old state directory, and an older one on a new; how long the supervisor waits. */
#include "services/common/run/process.h"
#include "tests/support/stack.h"

#include <check.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIGRATIONS PAL_SOURCE_DIR "/migrations"

static const char *const SETS[] = {"policy.init.preset=tiny-0.1m",
                                   "policy.warmstart.demonstrations=200",
                                   "policy.warmstart.updates=150",
                                   "environments.0.tasks.generate.count=64",
                                   "environments.0.tasks.holdout=20",
                                   "evaluation.episodes=20",
                                   "evaluation.every=0",
                                   "trainer.groups_per_update=4",
                                   "trainer.updates=40",
                                   "trainer.checkpoint_every=7",
                                   NULL};

/* Runs pal; its code must be this and its output, if a word is given, have it. */
static void pal(const struct stack *stack, int code, const char *word, const char *const *words)
{
    AUTO(buf) out = {0};
    int got = stack_pal(stack, &out, words);
    ck_assert_msg(got == code, "pal %s ended with %d: %s", words[0], got, buf_chars(&out));
    if (word)
        ck_assert_msg(strstr(buf_chars(&out), word) != NULL, "pal %s says no '%s': %s", words[0], word, buf_chars(&out));
}

static double job_number(const struct stack *stack, const char *key)
{
    json_t *row = stack_get(stack, "/v1/jobs/1");
    double value = json_number_value(json_object_get(row, key));
    json_decref(row);
    return value;
}

static bool job_is(const struct stack *stack, const char *state)
{
    json_t *row = stack_get(stack, "/v1/jobs/1");
    bool is = strcmp(json_string_value(json_object_get(row, "state")), state) == 0;
    json_decref(row);
    return is;
}

static void wait_for_update(const struct stack *stack, double update)
{
    double end = stack_clock() + STACK_SLOW * 150;
    while (job_number(stack, "update") < update) {
        ck_assert_msg(stack_clock() < end, "update %.0f did not come", update);
        stack_pause(200);
    }
}

/* What was handed out comes to its end; then nothing moves. */
static double settled_update(const struct stack *stack)
{
    double before = -2, now = job_number(stack, "update");
    for (int i = 0; i < 50 && before != now; i++) {
        before = now;
        stack_pause(500);
        now = job_number(stack, "update");
    }
    ck_assert_double_eq(before, now);
    return now;
}

START_TEST(a_paused_job_stays_paused_until_it_is_resumed)
{
    struct stack stack;
    char state[32];
    const char *const pause[] = {"pause", "1", "--json", NULL}, *const resume[] = {"resume", "1", NULL};
    const char *const down[] = {"down", NULL}, *const status[] = {"status", NULL};
    stack_make(&stack);
    stack_up(&stack);
    const char *const early[] = {"pause", "1", NULL};
    pal(&stack, 1, "404", early); /* there is no such job yet */
    int64_t job = stack_submit(&stack, "examples/adventure.json", SETS);
    wait_for_update(&stack, 3);
    pal(&stack, 0, "\"state\": \"paused\"", pause);
    ck_assert(job_is(&stack, "paused"));
    double update = settled_update(&stack);
    ck_assert_double_lt(update, 40);
    pal(&stack, 0, "the job is paused", status);
    pal(&stack, 0, NULL, down);
    stack_up(&stack);
    ck_assert(job_is(&stack, "paused"));
    ck_assert_double_eq(settled_update(&stack), update); /* the clean stop kept a checkpoint of it */
    pal(&stack, 0, "goes on", resume);
    stack_wait(&stack, job, 120, state);
    ck_assert_str_eq(state, "succeeded");
    pal(&stack, 1, "has ended", resume);
    stack_verify(&stack, job);
    stack_remove(&stack);
}
END_TEST

/* ---- migrations ---- */

static int copy_migrations(const char *folder)
{
    char command[512];
    int count = 0;
    (void)snprintf(command, sizeof command, "mkdir '%s' && cp " MIGRATIONS "/[0-9]*.sql '%s'", folder, folder);
    ck_assert_int_eq(system(command), 0);
    DIR *dir = opendir(folder);
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) count += entry->d_name[0] != '.';
    (void)closedir(dir);
    return count;
}

START_TEST(a_newer_program_goes_on_and_an_older_one_refuses)
{
    struct stack stack;
    char state[32], folder[160], path[256];
    const char *const down[] = {"down", NULL}, *const up[] = {"up", "--detach", "--port", "0", NULL};
    stack_make(&stack);
    (void)snprintf(folder, sizeof folder, "%s-migrations", stack.state);
    int newest = copy_migrations(folder);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/adventure.json", SETS);
    wait_for_update(&stack, 3);
    pal(&stack, 0, NULL, down);
    (void)snprintf(path, sizeof path, "%s/%04d_of_tomorrow.sql", folder, newest + 1);
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    (void)fputs("ALTER TABLE job ADD COLUMN of_tomorrow bigint NOT NULL DEFAULT 7;\n", file);
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(setenv("PAL_MIGRATIONS", folder, 1), 0);
    stack_up(&stack); /* the job goes on by itself */
    stack_wait(&stack, job, 120, state);
    ck_assert_str_eq(state, "succeeded");
    stack_verify(&stack, job);
    json_t *row = stack_get(&stack, "/v1/jobs/1");
    ck_assert_int_ge(json_integer_value(json_object_get(row, "lineage")), 1);
    json_decref(row);
    pal(&stack, 0, NULL, down);
    ck_assert_int_eq(unsetenv("PAL_MIGRATIONS"), 0);
    double begin = stack_clock();
    pal(&stack, 1, "newer than the newest migration here", up);
    ck_assert_double_lt(stack_clock() - begin, STACK_SLOW * 20); /* it is said at once, not after many tries */
    stack.up = false;
    (void)snprintf(path, sizeof path, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(path), 0);
    stack_remove(&stack);
}
END_TEST

/* The newest wait that the supervisor spoke of, ms; 0: none yet. */
static long said(const struct stack *stack, size_t *ret_count)
{
    char path[256], line[512];
    long wait = 0;
    *ret_count = 0;
    (void)snprintf(path, sizeof path, "%s/logs/pal.log", stack->state);
    FILE *log = fopen(path, "re");
    ck_assert_ptr_nonnull(log);
    while (fgets(line, sizeof line, log)) {
        const char *at = strstr(line, "env was ended by signal 9; again in ");
        if (!at) continue;
        wait = strtol(at + strlen("env was ended by signal 9; again in "), NULL, 10);
        ++*ret_count;
    }
    (void)fclose(log);
    return wait;
}

static long kill_env(const struct stack *stack)
{
    char path[256];
    size_t before = 0;
    (void)said(stack, &before);
    size_t now = before;
    (void)snprintf(path, sizeof path, "%s/run/env.pid", stack->state);
    ck_assert_int_eq(kill((pid_t)process_read_pid(path), SIGKILL), 0);
    long wait = 0;
    for (double end = stack_clock() + STACK_SLOW * 10; now == before; stack_pause(20)) {
        ck_assert(stack_clock() < end);
        wait = said(stack, &now);
    }
    stack_pause(wait + 200); /* it is there again */
    return wait;
}

/* The waits grow for what dies as it starts; what had worked comes back at once, however often it is killed. */
START_TEST(what_had_worked_comes_back_at_once)
{
    struct stack stack;
    stack_make(&stack);
    stack_up(&stack);
    stack_pause(3200);
    ck_assert_int_eq(kill_env(&stack), 100);
    ck_assert_int_eq(kill_env(&stack), 200);
    ck_assert_int_eq(kill_env(&stack), 400);
    stack_pause(3200);
    ck_assert_int_eq(kill_env(&stack), 100);
    stack_remove(&stack);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("restart");
    TCase *tcase = tcase_create("restart");
    tcase_set_timeout(tcase, STACK_SLOW * 400);
    tcase_add_test(tcase, a_paused_job_stays_paused_until_it_is_resumed);
    tcase_add_test(tcase, a_newer_program_goes_on_and_an_older_one_refuses);
    tcase_add_test(tcase, what_had_worked_comes_back_at_once);
    suite_add_tcase(suite, tcase);
    return stack_run(suite);
}
