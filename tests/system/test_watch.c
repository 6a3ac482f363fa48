/* LABELS: system slow
 * What the status page and the events say of a stack in trouble: each process stopped in its turn is named, with evidence and
 * likely cause, and the job goes on when it may; the bottleneck of jobs that wait for their environments, their engine and
 * their trainer. */
#include "services/common/run/process.h"
#include "tests/support/stack.h"

#include <check.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAMED_S   10 /* after nothing moves any more */
#define DRAIN_S   8  /* what is under way may still move for so long */
#define HELD_S    6
#define PROCESSES 64

struct stopped {
    pid_t pids[PROCESSES];
    size_t count;
};

/* ---- stopping ---- */

static pid_t number_in(const struct stack *stack, const char *file)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", stack->state, file);
    return (pid_t)process_read_pid(path);
}

static void add_children(pid_t parent, struct stopped *ret)
{
    DIR *dir = opendir("/proc");
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        char path[300], text[512] = "";
        long of = 0;
        (void)snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        FILE *file = strtol(entry->d_name, NULL, 10) > 0 ? fopen(path, "re") : NULL;
        if (!file) continue;
        if (fgets(text, sizeof text, file) && strrchr(text, ')') && sscanf(strrchr(text, ')') + 1, " %*c %ld", &of) == 1 &&
            of == parent && ret->count < PROCESSES)
            ret->pids[ret->count++] = (pid_t)strtol(entry->d_name, NULL, 10);
        (void)fclose(file);
    }
    (void)closedir(dir);
}

/* A service of the stack; of PostgreSQL all processes. */
static struct stopped processes_of(const struct stack *stack, const char *stage)
{
    struct stopped found = {.count = 0};
    char file[64];
    bool postgres = strcmp(stage, "postgres") == 0;
    (void)snprintf(file, sizeof file, postgres ? "postgres/postmaster.pid" : "run/%s.pid", stage);
    found.pids[found.count++] = number_in(stack, file);
    ck_assert_int_gt(found.pids[0], 1);
    if (postgres) add_children(found.pids[0], &found);
    return found;
}

static void signal_all(const struct stopped *processes, int number)
{
    for (size_t i = 0; i < processes->count; i++) ck_assert_int_eq(kill(processes->pids[i], number), 0);
}

/* ---- what is said ---- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static json_int_t newest_event(const struct stack *stack)
{
    json_t *rows = stack_get(stack, "/v1/jobs/1/events?follow=false");
    json_int_t seq = json_integer_value(json_object_get(json_array_get(rows, json_array_size(rows) - 1), "seq"));
    json_decref(rows);
    return seq;
}

static bool event_names(const struct stack *stack, json_int_t after, const char *stage)
{
    char path[96];
    bool named = false;
    size_t i = 0;
    (void)snprintf(path, sizeof path, "/v1/jobs/1/events?follow=false&after=%lld", (long long)after);
    json_t *rows = stack_get(stack, path), *row = NULL;
    json_array_foreach(rows, i, row)
    {
        const json_t *data = json_object_get(row, "data");
        named |= strcmp(text_of(row, "kind"), "alarm") == 0 && strcmp(text_of(data, "stage"), stage) == 0;
    }
    json_decref(rows);
    return named;
}

/* By the job's `stalled`, or by the gateway where the data manager cannot say it; with evidence and cause. */
static bool status_names(const struct stack *stack, const char *stage)
{
    json_t *status = stack_get(stack, "/v1/status");
    const json_t *stalled = json_object_get(json_object_get(status, "job"), "stalled");
    const json_t *said = json_object_get(status, "stage") ? status : stalled;
    bool named = strcmp(text_of(said, "stage"), stage) == 0 && *text_of(said, "evidence") && *text_of(said, "cause");
    if (named) (void)printf("%s: %s; likely: %s\n", stage, text_of(said, "evidence"), text_of(said, "cause"));
    json_decref(status);
    return named;
}

static bool command_names(const struct stack *stack)
{
    AUTO(buf) out = {0};
    const char *const words[] = {"status", NULL};
    int code = stack_pal(stack, &out, words);
    return code == 1 && strstr(buf_chars(&out), "its process") && strstr(buf_chars(&out), "is stopped");
}

static double update_of(const struct stack *stack)
{
    json_t *status = stack_get(stack, "/v1/status");
    double update = json_number_value(json_object_get(json_object_get(status, "job"), "update"));
    json_decref(status);
    return update;
}

static void wait_for_progress(const struct stack *stack)
{
    double end = stack_clock() + STACK_SLOW * 60, from = -1;
    for (; from <= 0; stack_pause(200)) {
        from = update_of(stack);
        ck_assert_msg(stack_clock() < end, "the job does not go on");
    }
    for (; update_of(stack) < from + 2; stack_pause(200)) ck_assert_msg(stack_clock() < end, "the job does not go on");
}

static const char *const stages[] = {"env", "rollout", "trainer", "data", "postgres", "gateway"};

START_TEST(a_stopped_process_is_named)
{
    const char *stage = stages[_i];
    struct stack stack;
    bool gateway = strcmp(stage, "gateway") == 0, silent = strcmp(stage, "data") == 0 || strcmp(stage, "postgres") == 0;
    const char *const sets[] = {"trainer.updates=100000", "trainer.schedule=constant", "evaluation.every=0", NULL};
    stack_make(&stack);
    stack_up(&stack);
    (void)stack_submit(&stack, "examples/adventure.json", sets);
    wait_for_progress(&stack);
    json_int_t before = newest_event(&stack);
    struct stopped processes = processes_of(&stack, stage);
    signal_all(&processes, SIGSTOP);
    double begin = stack_clock(), end = begin + STACK_SLOW * (NAMED_S + DRAIN_S);
    bool named = false, told = silent || gateway; /* who is stopped writes no event */
    for (; (!named || !told) && stack_clock() < end; stack_pause(200)) {
        if (!named) named = gateway ? command_names(&stack) : status_names(&stack, stage);
        if (!told) told = event_names(&stack, before, stage);
    }
    (void)printf("%s is named after %.1f s\n", stage, stack_clock() - begin);
    while (stack_clock() < begin + HELD_S) stack_pause(100); /* a stop that is worth an event afterwards */
    signal_all(&processes, SIGCONT);
    ck_assert_msg(named, "the status does not name %s", stage);
    ck_assert_msg(told, "no event names %s", stage);
    wait_for_progress(&stack);
    for (end = stack_clock() + STACK_SLOW * 10; !event_names(&stack, before, stage); stack_pause(200))
        ck_assert_msg(stack_clock() < end, "no event names %s, even afterwards", stage);
    stack_verify(&stack, 1);
    stack_remove(&stack);
}
END_TEST

/* ---- the bottleneck ---- */

static const struct {
    const char *stage;
    const char *job;
    const char *sets[12];
} bounds[] = {
    {"env",
     "examples/guess.json",
     {"environments.0.command=[\"python3\", \"" PAL_SOURCE_DIR "/tests/support/fickle.py\", \"--delay\", \"0.3\"]",
      "environments.0.tasks.file=" PAL_SOURCE_DIR "/examples/environments/guess.jsonl", "environments.0.slots=8",
      "policy.init.preset=tiny-0.1m", "policy.warmstart.demonstrations=8", "policy.warmstart.updates=1",
      "trainer.groups_per_update=1", NULL}},
    {"rollout", "examples/adventure.json", {"policy.warmstart.updates=5", "policy.warmstart.demonstrations=50", NULL}},
    {"trainer",
     "examples/adventure.json",
     {"policy.warmstart.updates=100", "policy.warmstart.demonstrations=100", "trainer.epochs=12", "trainer.minibatches=4",
      NULL}},
};

START_TEST(the_bottleneck_is_what_is_waited_for)
{
    struct stack stack;
    const char *sets[20] = {"evaluation.every=0", "evaluation.episodes=8", "trainer.updates=100000",
                            "trainer.schedule=constant"};
    size_t n = 4, right = 0, looks = 0;
    for (size_t i = 0; bounds[_i].sets[i]; i++) sets[n++] = bounds[_i].sets[i];
    stack_make(&stack);
    stack_up(&stack);
    (void)stack_submit(&stack, bounds[_i].job, sets);
    wait_for_progress(&stack);
    stack_pause(4000); /* rates are of the last seconds */
    for (; looks < 12; looks++) {
        json_t *status = stack_get(&stack, "/v1/status");
        const json_t *neck = json_object_get(status, "bottleneck");
        right += strcmp(text_of(neck, "stage"), bounds[_i].stage) == 0;
        (void)printf("%s: %s: %s\n", bounds[_i].stage, text_of(neck, "stage"), text_of(neck, "evidence"));
        json_decref(status);
        stack_pause(500);
    }
    ck_assert_msg(right >= 10, "%zu of %zu looks name %s", right, looks, bounds[_i].stage);
    stack_remove(&stack);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("watch");
    TCase *tcase = tcase_create("watch");
    tcase_set_timeout(tcase, STACK_SLOW * 300);
    tcase_add_loop_test(tcase, a_stopped_process_is_named, 0, (int)(sizeof stages / sizeof *stages));
    tcase_add_loop_test(tcase, the_bottleneck_is_what_is_waited_for, 0, (int)(sizeof bounds / sizeof *bounds));
    suite_add_tcase(suite, tcase);
    return stack_run(suite);
}
