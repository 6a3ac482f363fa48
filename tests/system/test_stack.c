/* LABELS: system
 * The whole stack through its real processes: up and down leave nothing, two stacks side by side, jobs from submit to
 * success, cancelled and refused ones, killed services, a process environment, and a short learning run. */
#include "tests/support/stack.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* a job of seconds */
static const char *const SMALL[] = {"policy.init.preset=tiny-0.1m",
                                    "policy.warmstart.demonstrations=200",
                                    "policy.warmstart.updates=150",
                                    "environments.0.tasks.generate.count=64",
                                    "environments.0.tasks.holdout=40",
                                    "evaluation.episodes=40",
                                    "evaluation.every=10",
                                    "trainer.groups_per_update=4",
                                    "trainer.updates=20",
                                    "trainer.checkpoint_every=5",
                                    "trainer.lr=0.0003",
                                    NULL};

START_TEST(a_job_goes_through_all_processes)
{
    struct stack stack;
    char state[32];
    AUTO(buf) transcript = {0};
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/adventure.json", SMALL);
    stack_wait(&stack, job, 90, state);
    ck_assert_str_eq(state, "succeeded");
    stack_verify(&stack, job);
    /* groups of eight begin alike: first observations are taken over */
    stack_counted(&stack, "shared_tokens", 500);
    const char *const words[] = {"episode", "--last", "success", NULL};
    ck_assert_int_eq(stack_pal(&stack, &transcript, words), 0);
    ck_assert_ptr_nonnull(strstr(buf_chars(&transcript), "find gem"));
    const char *const commands[][3] = {{"status", NULL}, {"jobs", NULL},     {"show", "1", NULL},
                                       {"doctor", NULL}, {"why", "3", NULL}, {"logs", "data", NULL}};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) ck_assert_int_eq(stack_pal(&stack, NULL, commands[i]), 0);
    stack_remove(&stack);
}
END_TEST

/* nothing runs ahead: what the sampler recorded is what the learner computes */
START_TEST(on_policy_sampler_and_learner_agree)
{
    struct stack stack;
    char state[32];
    const char *sets[32] = {0};
    size_t n = 0;
    for (; SMALL[n]; n++) sets[n] = SMALL[n];
    sets[n++] = "trainer.max_staleness=0";
    sets[n++] = "trainer.old_policy=recompute";
    sets[n] = "trainer.importance.mode=tis";
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/adventure.json", sets);
    stack_wait(&stack, job, 90, state);
    ck_assert_str_eq(state, "succeeded");
    ck_assert_double_eq(stack_metric(&stack, job, "staleness_max"), 0);
    ck_assert_double_gt(stack_metric(&stack, job, "own_targets"), 0);
    ck_assert_double_lt(stack_metric(&stack, job, "own_gap_max"), 1e-4);
    ck_assert_double_lt(stack_metric(&stack, job, "kl_first_pass"), 1e-8);
    stack_verify(&stack, job);
    stack_remove(&stack);
}
END_TEST

START_TEST(turn_refresh_and_late_drop_run_too)
{
    struct stack stack;
    char state[32];
    const char *sets[32] = {0};
    size_t n = 0;
    while (SMALL[n]) {
        sets[n] = SMALL[n];
        n++;
    }
    sets[n++] = "rollout.refresh=turn";
    sets[n++] = "rollout.kv_cache=fp16";
    sets[n++] = "trainer.advantage=rloo";
    sets[n++] = "trainer.minibatches=2";
    sets[n++] = "trainer.kl=0.01";
    sets[n++] = "trainer.late=drop";
    sets[n] = "curation.refill=true";
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/adventure.json", sets);
    stack_wait(&stack, job, 90, state);
    ck_assert_str_eq(state, "succeeded");
    stack_verify(&stack, job);
    stack_remove(&stack);
}
END_TEST

START_TEST(a_job_is_cancelled_and_a_queued_one_follows)
{
    struct stack stack;
    char state[32], id[32];
    stack_make(&stack);
    stack_up(&stack);
    int64_t first = stack_submit(&stack, "examples/adventure.json", NULL);
    int64_t second = stack_submit(&stack, "examples/adventure.json", SMALL);
    stack_pause(1500);
    (void)snprintf(id, sizeof id, "%lld", (long long)first);
    const char *const words[] = {"cancel", id, NULL};
    ck_assert_int_eq(stack_pal(&stack, NULL, words), 0);
    stack_wait(&stack, first, 10, state);
    ck_assert_str_eq(state, "cancelled");
    stack_wait(&stack, second, 90, state);
    ck_assert_str_eq(state, "succeeded");
    stack_verify(&stack, second);
    stack_remove(&stack);
}
END_TEST

START_TEST(a_bad_job_is_refused_with_pointers)
{
    struct stack stack;
    char path[256];
    AUTO(buf) out = {0};
    stack_make(&stack);
    stack_up(&stack);
    (void)snprintf(path, sizeof path, "%s/examples/adventure.json", PAL_SOURCE_DIR);
    const char *const words[] = {"submit", path, "--set", "trainer.lr=7", "--set", "rollout.group_size=1", NULL};
    ck_assert_int_eq(stack_pal(&stack, &out, words), 1);
    ck_assert_ptr_nonnull(strstr(buf_chars(&out), "/trainer/lr"));
    ck_assert_ptr_nonnull(strstr(buf_chars(&out), "/rollout/group_size"));
    stack_remove(&stack);
}
END_TEST

START_TEST(two_stacks_run_side_by_side)
{
    struct stack one, two;
    char state[32];
    stack_make(&one);
    stack_make(&two);
    stack_up(&one);
    stack_up(&two);
    const char *const again[] = {"up", "--detach", "--port", "0", NULL};
    ck_assert_int_eq(stack_pal(&one, NULL, again), 1); /* one stack per state directory */
    int64_t a = stack_submit(&one, "examples/adventure.json", SMALL),
            b = stack_submit(&two, "examples/adventure.json", SMALL);
    stack_wait(&one, a, 120, state);
    ck_assert_str_eq(state, "succeeded");
    stack_wait(&two, b, 120, state);
    ck_assert_str_eq(state, "succeeded");
    stack_remove(&one);
    stack_remove(&two);
}
END_TEST

static void kill_service(const struct stack *stack, const char *service)
{
    int pid = stack_pid(stack, service);
    ck_assert_int_gt(pid, 0);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
}

/* every service is killed once while a job runs; the job ends well and the ledger holds */
START_TEST(killed_services_come_back)
{
    struct stack stack;
    char state[32];
    static const char *const services[] = {"rollout", "env", "trainer"};
    const char *sets[32] = {0};
    size_t n = 0;
    while (SMALL[n]) {
        sets[n] = SMALL[n];
        n++;
    }
    sets[n] = "trainer.updates=120";
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/adventure.json", sets);
    for (size_t i = 0; i < 3; i++) {
        stack_pause(2000);
        kill_service(&stack, services[i]);
    }
    stack_wait(&stack, job, 120, state);
    ck_assert_str_eq(state, "succeeded");
    stack_verify(&stack, job);
    /* what was redone after the trainer's death is what the ledger says, bit for bit */
    AUTO(buf) out = {0};
    const char *const replay[] = {"replay", "1", "--update", "119", NULL};
    ck_assert_msg(stack_pal(&stack, &out, replay) == 0, "%s", buf_chars(&out));
    ck_assert_ptr_nonnull(strstr(buf_chars(&out), "bit for bit"));
    stack_remove(&stack);
}
END_TEST

/* everything is killed at once, the server too: the next start goes on by itself */
START_TEST(a_stack_that_died_goes_on)
{
    struct stack stack;
    char state[32], command[512];
    const char *const sets[] = {"trainer.updates=60", "trainer.checkpoint_every=7", "evaluation.every=0", NULL};
    const char *const down[] = {"down", NULL};
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/adventure.json", sets);
    stack_pause(3500);
    ck_assert_int_eq(stack_pal(&stack, NULL, down), 0);
    stack_up(&stack);
    stack_pause(1500);
    (void)snprintf(command, sizeof command,
                   "kill -9 $(cat '%s/pal.pid') $(pgrep -f 'pal-[a-z]* --state %s') $(head -1 '%s/postgres/postmaster.pid')",
                   stack.state, stack.state, stack.state);
    ck_assert_int_eq(system(command), 0);
    stack_pause(500);
    stack_up(&stack);
    stack_wait(&stack, job, 90, state);
    ck_assert_str_eq(state, "succeeded");
    stack_verify(&stack, job);
    const char *const replay[] = {"replay", "1", "--update", "59", NULL};
    ck_assert_int_eq(stack_pal(&stack, NULL, replay), 0);
    stack_remove(&stack);
}
END_TEST

/* nothing moves: the status names the stage, an event says so, and when it moves again the job goes on */
START_TEST(a_hung_environment_is_named)
{
    struct stack stack;
    char state[32];
    const char *const sets[] = {"trainer.updates=30", "evaluation.every=0", NULL};
    bool named = false;
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/adventure.json", sets);
    stack_pause(2500);
    int env = stack_pid(&stack, "env");
    ck_assert_int_eq(kill(env, SIGSTOP), 0);
    for (double end = stack_clock() + STACK_SLOW * 30; !named && stack_clock() < end; stack_pause(200)) {
        json_t *status = stack_get(&stack, "/v1/status");
        const json_t *stalled = json_object_get(json_object_get(status, "job"), "stalled");
        const char *stage = json_string_value(json_object_get(stalled, "stage"));
        named = stage && strcmp(stage, "env") == 0;
        json_decref(status);
    }
    ck_assert_int_eq(kill(env, SIGCONT), 0);
    ck_assert(named);
    stack_wait(&stack, job, 90, state);
    ck_assert_str_eq(state, "succeeded");
    json_t *events = stack_get(&stack, "/v1/jobs/1/events?follow=false"), *event = NULL;
    size_t i = 0, alarms = 0;
    json_array_foreach(events, i, event)
    {
        const char *message = json_string_value(json_object_get(event, "message"));
        alarms += message && strstr(message, "nothing was recorded for") != NULL;
    }
    json_decref(events);
    ck_assert_uint_eq(alarms, 1);
    stack_verify(&stack, job);
    stack_remove(&stack);
}
END_TEST

START_TEST(a_job_that_stays_stalled_fails)
{
    struct stack stack;
    char state[32];
    const char *const sets[] = {"trainer.updates=30", "stop.stalled_ms=9000", NULL};
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/adventure.json", sets);
    stack_pause(2500);
    int env = stack_pid(&stack, "env");
    ck_assert_int_eq(kill(env, SIGSTOP), 0);
    stack_wait(&stack, job, 30, state);
    ck_assert_int_eq(kill(env, SIGCONT), 0);
    ck_assert_str_eq(state, "failed");
    json_t *row = stack_get(&stack, "/v1/jobs/1");
    ck_assert_ptr_nonnull(strstr(json_string_value(json_object_get(row, "reason")), "no env process is alive"));
    json_decref(row);
    stack_remove(&stack);
}
END_TEST

START_TEST(ctrl_c_stops_a_foreground_stack)
{
    struct stack stack;
    stack_make(&stack);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)!freopen("/dev/null", "w", stdout);
        (void)execl(PAL_BIN_DIR "/pal", "pal", "--state", stack.state, "up", "--port", "0", (char *)NULL);
        _exit(127);
    }
    char path[256];
    (void)snprintf(path, sizeof path, "%s/gateway.port", stack.state);
    for (int i = 0; i < 400 && access(path, R_OK) != 0; i++) stack_pause(50);
    ck_assert_int_eq(kill(pid, SIGINT), 0);
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    stack_remove(&stack);
}
END_TEST

START_TEST(a_process_environment_is_played)
{
    struct stack stack;
    char state[32], command[512], file[512];
    (void)snprintf(command, sizeof command, "environments.0.command=[\"python3\", \"%s/examples/environments/guess.py\"]",
                   PAL_SOURCE_DIR);
    (void)snprintf(file, sizeof file, "environments.0.tasks.file=%s/examples/environments/guess.jsonl", PAL_SOURCE_DIR);
    const char *const sets[] = {command,
                                file,
                                "environments.0.slots=8",
                                "policy.warmstart.demonstrations=80",
                                "policy.warmstart.updates=60",
                                "trainer.updates=15",
                                "trainer.groups_per_update=4",
                                "evaluation.episodes=20",
                                "evaluation.every=0",
                                NULL};
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/guess.json", sets);
    stack_wait(&stack, job, 120, state);
    ck_assert_str_eq(state, "succeeded");
    stack_verify(&stack, job);
    stack_remove(&stack);
}
END_TEST

/* an environment that always dies: no reward comes of it, and the job ends with what was counted */
START_TEST(an_environment_that_fails_ends_the_job)
{
    struct stack stack;
    char state[32], file[512];
    (void)snprintf(file, sizeof file, "environments.0.tasks.file=%s/examples/environments/guess.jsonl", PAL_SOURCE_DIR);
    const char *const sets[] = {"environments.0.command=[\"false\"]", file, "environments.0.slots=4", "stop.error_window=20",
                                NULL};
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/guess.json", sets);
    stack_wait(&stack, job, 60, state);
    ck_assert_str_eq(state, "failed");
    json_t *row = stack_get(&stack, "/v1/jobs/1");
    const char *reason = json_string_value(json_object_get(row, "reason"));
    ck_assert_msg(strstr(reason, "stop.error_rate") && strstr(reason, "env_crash"), "%s", reason);
    json_decref(row);
    stack_verify(&stack, job);
    stack_remove(&stack);
}
END_TEST

/* the demo's job, cut short: success on held-out tasks rises */
START_TEST(a_short_run_learns)
{
    struct stack stack;
    char state[32];
    const char *const sets[] = {"trainer.updates=150", "evaluation.every=0", NULL};
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/adventure.json", sets);
    stack_wait(&stack, job, 200, state);
    ck_assert_str_eq(state, "succeeded");
    double before = stack_success(&stack, job, true), after = stack_success(&stack, job, false);
    (void)printf("short run: %.3f -> %.3f\n", before, after);
    ck_assert_double_gt(after, before + 0.1);
    stack_verify(&stack, job);
    stack_remove(&stack);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stack");
    TCase *tcase = tcase_create("stack");
    tcase_set_timeout(tcase, STACK_SLOW * 280);
    tcase_add_test(tcase, a_job_goes_through_all_processes);
    tcase_add_test(tcase, on_policy_sampler_and_learner_agree);
    tcase_add_test(tcase, turn_refresh_and_late_drop_run_too);
    tcase_add_test(tcase, a_job_is_cancelled_and_a_queued_one_follows);
    tcase_add_test(tcase, a_bad_job_is_refused_with_pointers);
    tcase_add_test(tcase, two_stacks_run_side_by_side);
    tcase_add_test(tcase, killed_services_come_back);
    tcase_add_test(tcase, a_stack_that_died_goes_on);
    tcase_add_test(tcase, a_hung_environment_is_named);
    tcase_add_test(tcase, a_job_that_stays_stalled_fails);
    tcase_add_test(tcase, ctrl_c_stops_a_foreground_stack);
    tcase_add_test(tcase, a_process_environment_is_played);
    tcase_add_test(tcase, an_environment_that_fails_ends_the_job);
    tcase_add_test(tcase, a_short_run_learns);
    suite_add_tcase(suite, tcase);
    return stack_run(suite);
}
