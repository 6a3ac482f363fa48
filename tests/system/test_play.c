/* LABELS: system
 * Ways of playing, through the whole stack: a context per turn, hinted groups, measured tasks; where it is on policy the
 * learner agrees with the sampler. */
#include "tests/support/stack.h"

#include <stdio.h>
#include <string.h>

/* a job of seconds, on policy */
static const char *const SMALL[] = {"policy.init.preset=tiny-0.1m",
                                    "policy.warmstart.demonstrations=200",
                                    "policy.warmstart.updates=150",
                                    "evaluation.episodes=20",
                                    "evaluation.every=0",
                                    "trainer.groups_per_update=4",
                                    "trainer.updates=6",
                                    "trainer.checkpoint_every=3",
                                    "trainer.max_staleness=0",
                                    "trainer.old_policy=recompute",
                                    "trainer.importance.mode=tis",
                                    NULL};

static int64_t submit(const struct stack *stack, const char *file, const char *const *more)
{
    /* of the example's paths, which are from the tree's root: the tests run elsewhere */
    static const char *const places[] = {"environments.0.command=[\"python3\", \"" PAL_SOURCE_DIR
                                         "/examples/environments/guess.py\"]",
                                         "environments.0.tasks.file=" PAL_SOURCE_DIR "/examples/environments/guess.jsonl"};
    static const char *const fewer[] = {"environments.0.tasks.generate.count=64", "environments.0.tasks.holdout=20"};
    const char *sets[40], *const *own = strstr(file, "adventure") ? fewer : places;
    size_t n = 0;
    for (size_t i = 0; SMALL[i]; i++) sets[n++] = SMALL[i];
    for (size_t i = 0; i < 2; i++) sets[n++] = own[i];
    for (size_t i = 0; more[i]; i++) sets[n++] = more[i];
    sets[n] = NULL;
    return stack_submit(stack, file, sets);
}

static void succeed(const struct stack *stack, int64_t job)
{
    char state[32];
    stack_wait(stack, job, 180, state);
    ck_assert_str_eq(state, "succeeded");
    stack_verify(stack, job);
}

START_TEST(each_turn_has_its_context)
{
    struct stack stack;
    const char *const more[] = {"rollout.context=step", "rollout.history=2", "trainer.aggregation=seq_mean", NULL};
    size_t i = 0, repeating = 0, goals = 0;
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = submit(&stack, "examples/adventure.json", more);
    succeed(&stack, job);
    ck_assert_double_gt(stack_metric(&stack, job, "own_targets"), 0);
    ck_assert_double_lt(stack_metric(&stack, job, "own_gap_max"), 1e-4);
    json_t *episode = stack_newest(&stack, job, "outcome=success"), *turn = NULL;
    json_array_foreach(json_object_get(episode, "transcript"), i, turn)
    {
        repeating += json_integer_value(json_object_get(turn, "repeated")) > 0;
        goals += strstr(json_string_value(json_object_get(turn, "observation")), "find gem") != NULL;
    }
    ck_assert_uint_gt(repeating, 0);
    ck_assert_uint_eq(goals, 1); /* the first observation is printed once, though contexts repeat it */
    json_decref(episode);
    stack_remove(&stack);
}
END_TEST

/* every group is played again with its hint (a threshold that all are below): of a built-in environment, of a program */
START_TEST(hinted_groups_are_played)
{
    struct stack stack;
    const char *const files[] = {"examples/adventure.json", "examples/guess.json"};
    const char *const more[] = {"curation.guide={\"threshold\": 1, \"shaping\": \"constant\", \"template\": \"try {hint}\"}",
                                NULL};
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = submit(&stack, files[_i], more);
    succeed(&stack, job);
    ck_assert_double_gt(stack_metric(&stack, job, "hinted_groups"), 0);
    ck_assert_double_gt(stack_metric(&stack, job, "hinted_targets"), 0);
    ck_assert_double_lt(stack_metric(&stack, job, "own_gap_max"), 1e-4); /* prox with the hint, as it was drawn */
    json_t *episode = stack_newest(&stack, job, "source=hinted");
    const json_t *first = json_array_get(json_object_get(episode, "transcript"), 0);
    const char *hint = json_string_value(json_object_get(first, "hint"));
    ck_assert_msg(hint && strncmp(hint, "try ", 4) == 0 && hint[4], "hint: %s", hint ? hint : "none");
    ck_assert_ptr_null(strstr(json_string_value(json_object_get(first, "observation")), "try"));
    json_decref(episode);
    episode = stack_newest(&stack, job, "source=evaluation");
    first = json_array_get(json_object_get(episode, "transcript"), 0);
    ck_assert_ptr_null(json_object_get(first, "hint"));
    json_decref(episode);
    stack_remove(&stack);
}
END_TEST

/* GAIN-RL: each training task is measured once before the first group */
START_TEST(tasks_are_measured)
{
    struct stack stack;
    const char *const more[] = {"curriculum.kind=gain-rl", NULL};
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = submit(&stack, "examples/adventure.json", more);
    succeed(&stack, job);
    json_t *rows = stack_get(&stack, "/v1/jobs/1/episodes?source=score&limit=200"),
           *episode = stack_newest(&stack, job, "source=score");
    ck_assert_uint_ge(json_array_size(rows), 64);
    const json_t *transcript = json_object_get(episode, "transcript");
    ck_assert_uint_eq(json_array_size(transcript), 1);
    ck_assert_ptr_nonnull(
        strstr(json_string_value(json_object_get(json_array_get(transcript, 0), "observation")), "find gem"));
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(transcript, 0), "action")), "");
    json_decref(rows);
    json_decref(episode);
    stack_remove(&stack);
}
END_TEST

/* WebRL: starts of generated tasks have a value, stored successes a perplexity, and a reward model gives the rewards */
START_TEST(a_reward_model_judges)
{
    struct stack stack;
    const char *const more[] = {"trainer.updates=9",
                                "curation.webrl={\"phase_updates\": 3, \"phase_tasks\": 8, \"orm\": \"reward\","
                                " \"orm_updates\": 20, \"replay_low\": 1, \"replay_high\": 1000}",
                                NULL};
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = submit(&stack, "examples/adventure.json", more);
    succeed(&stack, job);
    stack_counted(&stack, "judged", 0);
    stack_counted(&stack, "scores", 8); /* more than the starts of one phase's tasks */
    json_t *episode = stack_newest(&stack, job, "source=score");
    ck_assert_ptr_nonnull(json_object_get(episode, "transcript"));
    json_decref(episode);
    stack_remove(&stack);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("play");
    TCase *tcase = tcase_create("play");
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, each_turn_has_its_context);
    tcase_add_loop_test(tcase, hinted_groups_are_played, 0, 2);
    tcase_add_test(tcase, tasks_are_measured);
    tcase_add_test(tcase, a_reward_model_judges);
    suite_add_tcase(suite, tcase);
    return stack_run(suite);
}
