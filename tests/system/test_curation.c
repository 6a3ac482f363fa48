/* LABELS: system
 * Guide and DART through the whole stack: the examples, cut short; what one job solved is imported by the next; all methods
 * in one job. */
#include "tests/support/stack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETS 40

/* a job of seconds */
static const char *const SHORT[] = {"policy.init.preset=tiny-0.1m", "policy.warmstart.demonstrations=240",
                                    "policy.warmstart.updates=150", "policy.warmstart.noise=0.3",
                                    "evaluation.episodes=20",       "evaluation.every=0",
                                    "trainer.groups_per_update=4",  "trainer.updates=20",
                                    "trainer.checkpoint_every=5",   NULL};

static int64_t start(const struct stack *stack, const char *example, const char *const *more)
{
    const char *sets[SETS] = {0};
    size_t n = 0;
    for (size_t i = 0; SHORT[i]; i++) sets[n++] = SHORT[i];
    for (size_t i = 0; more[i]; i++) sets[n++] = more[i];
    ck_assert_uint_lt(n, SETS);
    return stack_submit(stack, example, sets);
}

static void finish(const struct stack *stack, int64_t job)
{
    char state[32];
    stack_wait(stack, job, 90, state);
    ck_assert_str_eq(state, "succeeded");
    stack_verify(stack, job);
}

/* The updates are made again from the newest checkpoint and the batches: the same weights. */
static void remake(const struct stack *stack, const char *job, const char *update)
{
    const char *const words[] = {"replay", job, "--update", update, NULL};
    AUTO(buf) out = {0};
    ck_assert_msg(stack_pal(stack, &out, words) == 0, "%s", buf_chars(&out));
}

/* Decisions of a rule and a verdict; the first one's subject in ret_key (NULL: not wanted). */
static size_t decisions(const struct stack *stack, int64_t job, const char *rule, const char *verdict, int64_t *ret_key)
{
    size_t count = 0;
    for (json_int_t after = 0;;) {
        char path[96];
        json_t *row = NULL;
        size_t i = 0;
        (void)snprintf(path, sizeof path, "/v1/jobs/%d/decisions?limit=1000&after=%lld", (int)job, (long long)after);
        json_t *rows = stack_get(stack, path);
        size_t got = json_array_size(rows);
        json_array_foreach(rows, i, row)
        {
            after = json_integer_value(json_object_get(row, "id"));
            if (strcmp(json_string_value(json_object_get(row, "rule")), rule) != 0 ||
                strcmp(json_string_value(json_object_get(row, "verdict")), verdict) != 0)
                continue;
            if (count++ == 0 && ret_key) *ret_key = json_integer_value(json_object_get(row, "key"));
        }
        json_decref(rows);
        if (got < 1000) return count;
    }
}

/* ---- Guide ---- */

static const char ROOMS[] =
    "environments=[{\"name\": \"adventure\", \"slots\": 64, \"max_steps\": 16, \"step_timeout_ms\": 10000,"
    " \"tasks\": {\"generate\": {\"levels\": [3], \"count\": 48, \"seed\": 7}, \"holdout\": 20}}]";

START_TEST(failed_groups_are_guided)
{
    struct stack stack;
    const char *const more[] = {ROOMS, "policy.warmstart.hinted=0.5", "rollout.max_new_tokens=8", NULL};
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = start(&stack, "examples/guide.json", more), key = 0;
    finish(&stack, job);
    ck_assert_uint_ge(decisions(&stack, job, "guide", "hinted", &key), 1);
    ck_assert_double_gt(stack_metric(&stack, job, "hinted_groups"), 0);
    ck_assert_double_ge(stack_metric(&stack, job, "hinted_success"), 0);
    json_t *episode = stack_newest(&stack, job, "source=hinted"), *turns = json_object_get(episode, "transcript");
    ck_assert(json_is_true(json_object_get(episode, "hinted")));
    ck_assert_uint_gt(json_string_length(json_object_get(json_array_get(turns, 0), "hint")), 0);
    json_t *evaluated = stack_newest(&stack, job, "source=evaluation");
    ck_assert_ptr_null(json_object_get(json_array_get(json_object_get(evaluated, "transcript"), 0), "hint"));
    AUTO(buf) out = {0};
    char id[32];
    (void)snprintf(id, sizeof id, "%d", (int)json_integer_value(json_object_get(episode, "id")));
    const char *const why[] = {"why", id, NULL};
    ck_assert_int_eq(stack_pal(&stack, &out, why), 0);
    ck_assert_msg(strstr(buf_chars(&out), "hinted") && strstr(buf_chars(&out), "in the place of group"), "%s",
                  buf_chars(&out));
    json_decref(episode);
    json_decref(evaluated);
    remake(&stack, "1", "20");
    stack_remove(&stack);
}
END_TEST

/* ---- DART ---- */

static size_t count_lines(const struct buf *text)
{
    size_t lines = 0;
    for (size_t i = 0; i < text->size; i++) lines += text->data[i] == '\n';
    return lines;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

static void wait_for_decisions(const struct stack *stack, int64_t job, const char *rule, const char *verdict, size_t count)
{
    double end = stack_clock() + 60 * STACK_SLOW;
    while (decisions(stack, job, rule, verdict, NULL) < count) {
        ck_assert_msg(stack_clock() < end, "%s %s: %zu of %zu", rule, verdict, decisions(stack, job, rule, verdict, NULL),
                      count);
        stack_pause(100);
    }
}

/* Until every import has ended. */
static void wait_for_imports(const struct stack *stack, int64_t job)
{
    double end = stack_clock() + 60 * STACK_SLOW;
    for (bool open = true; open;) {
        char path[96];
        json_t *row = NULL;
        size_t i = 0;
        (void)snprintf(path, sizeof path, "/v1/jobs/%d/episodes?source=import&limit=1000", (int)job);
        json_t *rows = stack_get(stack, path);
        open = json_array_size(rows) == 0;
        json_array_foreach(rows, i, row) open |= strcmp(json_string_value(json_object_get(row, "state")), "done") != 0;
        json_decref(rows);
        ck_assert_msg(stack_clock() < end, "imports are not played");
        if (open) stack_pause(100);
    }
}

/* A file with problems imports nothing, and says the lines. */
static void import_badly(const struct stack *stack, const char *job)
{
    char path[256];
    AUTO(buf) out = {0};
    (void)snprintf(path, sizeof path, "%s/bad.jsonl", stack->state);
    const char *const words[] = {"pool", "import", job, path, NULL};
    write_file(path, "\n{\"task_id\": 0, \"actions\": []}\n{\"task_id\": 0, \"actions\": [\"look\"]}\n");
    ck_assert_int_eq(stack_pal(stack, &out, words), 1);
    ck_assert_msg(strstr(buf_chars(&out), "bad.jsonl:2: /actions must be"), "%s", buf_chars(&out));
    buf_clear(&out);
    write_file(path, "{\"task_id\": 0, \"actions\": [\"look\"]}\n\n{\"task_id\": 99999, \"actions\": [\"look\"]}\n");
    ck_assert_int_eq(stack_pal(stack, &out, words), 1);
    ck_assert_msg(strstr(buf_chars(&out), "bad.jsonl:3: ") && strstr(buf_chars(&out), "no task 99999"), "%s",
                  buf_chars(&out));
}

/* easy enough for a policy of seconds, some of the time */
static const char ONE_ROOM[] =
    "environments=[{\"name\": \"adventure\", \"slots\": 64, \"max_steps\": 16, \"step_timeout_ms\": 10000,"
    " \"tasks\": {\"generate\": {\"levels\": [1], \"count\": 48, \"seed\": 7}, \"holdout\": 20}}]";

START_TEST(what_one_job_solved_is_imported_by_the_next)
{
    struct stack stack;
    char path[256], set[320];
    const char *const dart[] = {ONE_ROOM, "curation.dart.keep=0.7", "trainer.updates=12", NULL};
    AUTO(buf) list = {0};
    AUTO(buf) exported = {0};
    AUTO(buf) again = {0};
    stack_make(&stack);
    stack_up(&stack);
    int64_t first = start(&stack, "examples/dart.json", dart);
    finish(&stack, first);
    ck_assert_uint_ge(decisions(&stack, first, "count", "all", NULL), 1);
    ck_assert_uint_ge(decisions(&stack, first, "entropy", "dropped", NULL), 1);
    ck_assert_double_gt(stack_metric(&stack, first, "turns_dropped_share"), 0);
    remake(&stack, "1", "12");
    const char *const listing[] = {"pool", "list", "1", NULL}, *const exporting[] = {"pool", "export", "1", NULL};
    ck_assert_int_eq(stack_pal(&stack, &list, listing), 0);
    ck_assert_int_eq(stack_pal(&stack, &exported, exporting), 0);
    size_t count = count_lines(&exported);
    ck_assert_uint_ge(count, 1);
    ck_assert_uint_eq(count_lines(&list), count + 1); /* a head */
    (void)snprintf(path, sizeof path, "%s/pool.jsonl", stack.state);
    write_file(path, buf_chars(&exported));
    (void)snprintf(set, sizeof set, "curation.dart.pool_file=%s", path);
    const char *const pooled[] = {ONE_ROOM, "curation.dart.keep=1", set, "seed=2", "trainer.updates=2000", NULL};
    int64_t second = start(&stack, "examples/dart.json", pooled);
    wait_for_imports(&stack, second); /* what was solved is solved again */
    ck_assert_uint_ge(decisions(&stack, second, "import", "pooled", NULL), 1);
    ck_assert_uint_eq(decisions(&stack, second, "import", "failed", NULL), 0);
    const char *const importing[] = {"pool", "import", "2", path, NULL};
    ck_assert_msg(stack_pal(&stack, &again, importing) == 0, "%s", buf_chars(&again));
    char said[96];
    (void)snprintf(said, sizeof said, "0 demonstrations are played for the pool of job 2, %zu were imported before", count);
    ck_assert_msg(strstr(buf_chars(&again), said), "%s", buf_chars(&again));
    import_badly(&stack, "2");
    write_file(path, "{\"task_id\": 1, \"actions\": [\"look\"]}\n");
    const char *const failing[] = {"pool", "import", "2", path, NULL}, *const cancel[] = {"cancel", "2", NULL};
    buf_clear(&again);
    ck_assert_msg(stack_pal(&stack, &again, failing) == 0, "%s", buf_chars(&again));
    ck_assert_ptr_nonnull(strstr(buf_chars(&again), "1 demonstrations are played"));
    wait_for_decisions(&stack, second, "import", "failed", 1);
    wait_for_decisions(&stack, second, "pool", "replaced", 1);
    ck_assert_int_eq(stack_pal(&stack, NULL, cancel), 0);
    stack_verify(&stack, second);
    stack_remove(&stack);
}
END_TEST

/* ---- all methods ---- */

START_TEST(all_methods_run_together)
{
    struct stack stack;
    AUTO(buf) out = {0};
    const char *const more[] = {"environments.0.tasks.generate.levels=[1]", /* it must learn something in seconds */
                                "environments.1.tasks.generate.levels=[1, 4]",
                                "policy.warmstart.demonstrations=300",
                                "policy.warmstart.updates=300",
                                "environments.0.tasks.generate.count=32",
                                "environments.0.tasks.holdout=20",
                                "environments.1.tasks.generate.count=32",
                                "environments.1.tasks.holdout=20",
                                "curation.webrl.phase_updates=8",
                                "curation.webrl.phase_tasks=8",
                                "curation.webrl.value_low=0",
                                "curation.webrl.value_high=1",
                                "curation.webrl.orm_updates=20",
                                "curation.replay_ratio.low=1.5",
                                "curation.replay_ratio.window=4",
                                "trainer.checkpoints_kept=20",
                                NULL};
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = start(&stack, "examples/all.json", more);
    finish(&stack, job);
    ck_assert_uint_ge(decisions(&stack, job, "guide", "hinted", NULL), 1);
    ck_assert_uint_ge(decisions(&stack, job, "gain-rl", "ranked", NULL), 1);
    ck_assert_uint_ge(decisions(&stack, job, "entropy", "dropped", NULL), 1);
    ck_assert_uint_ge(decisions(&stack, job, "webrl", "phase", NULL), 2);
    ck_assert_double_ge(stack_metric(&stack, job, "passes"), 2);
    ck_assert_double_gt(stack_metric(&stack, job, "fau"), 0);
    ck_assert_double_gt(stack_metric(&stack, job, "hinted_targets"), 0);
    remake(&stack, "1", "20");
    stack_remove(&stack);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("curation");
    TCase *tcase = tcase_create("curation");
    tcase_set_timeout(tcase, 300 * STACK_SLOW);
    tcase_add_test(tcase, failed_groups_are_guided);
    tcase_add_test(tcase, what_one_job_solved_is_imported_by_the_next);
    tcase_add_test(tcase, all_methods_run_together);
    suite_add_tcase(suite, tcase);
    return stack_run(suite);
}
