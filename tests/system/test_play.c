/* LABELS: system
 * Ways of playing, through the whole stack: a context per turn, where the learner agrees with the sampler. */
#include "tests/support/stack.h"

#include <stdio.h>
#include <string.h>

/* a job of seconds, on policy */
static const char *const SMALL[] = {"policy.init.preset=tiny-0.1m",
                                    "policy.warmstart.demonstrations=200",
                                    "policy.warmstart.updates=150",
                                    "environments.0.tasks.generate.count=64",
                                    "environments.0.tasks.holdout=40",
                                    "evaluation.episodes=40",
                                    "evaluation.every=0",
                                    "trainer.groups_per_update=4",
                                    "trainer.updates=10",
                                    "trainer.checkpoint_every=5",
                                    "trainer.max_staleness=0",
                                    "trainer.old_policy=recompute",
                                    "trainer.importance.mode=tis",
                                    NULL};

static size_t with(const char **sets, const char *const *more)
{
    size_t n = 0;
    for (size_t i = 0; SMALL[i]; i++) sets[n++] = SMALL[i];
    for (size_t i = 0; more[i]; i++) sets[n++] = more[i];
    sets[n] = NULL;
    return n;
}

/* of the newest successful episode: turns whose context repeated earlier tokens */
static size_t repeating_turns(const struct stack *stack, int64_t job, size_t *ret_turns)
{
    char path[96];
    (void)snprintf(path, sizeof path, "/v1/jobs/%d/episodes?limit=1&outcome=success", (int)job);
    json_t *rows = stack_get(stack, path);
    int64_t id = json_integer_value(json_object_get(json_array_get(rows, 0), "id"));
    json_decref(rows);
    (void)snprintf(path, sizeof path, "/v1/jobs/%d/episodes/%d", (int)job, (int)id);
    json_t *episode = stack_get(stack, path), *turn = NULL;
    const json_t *turns = json_object_get(episode, "transcript");
    size_t i = 0, repeating = 0, goals = 0;
    json_array_foreach(turns, i, turn)
    {
        repeating += json_integer_value(json_object_get(turn, "repeated")) > 0;
        goals += strstr(json_string_value(json_object_get(turn, "observation")), "find gem") != NULL;
    }
    *ret_turns = json_array_size(turns);
    ck_assert_uint_eq(goals, 1); /* the first observation is printed once, though contexts repeat it */
    json_decref(episode);
    return repeating;
}

START_TEST(each_turn_has_its_context)
{
    struct stack stack;
    char state[32];
    const char *sets[32];
    const char *const more[] = {"rollout.context=step", "rollout.history=2", "trainer.aggregation=seq_mean", NULL};
    size_t turns = 0;
    stack_make(&stack);
    stack_up(&stack);
    (void)with(sets, more);
    int64_t job = stack_submit(&stack, "examples/adventure.json", sets);
    stack_wait(&stack, job, 90, state);
    ck_assert_str_eq(state, "succeeded");
    ck_assert_double_gt(stack_metric(&stack, job, "own_targets"), 0);
    ck_assert_double_lt(stack_metric(&stack, job, "own_gap_max"), 1e-4);
    ck_assert_uint_gt(repeating_turns(&stack, job, &turns), 0);
    stack_verify(&stack, job);
    stack_remove(&stack);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("play");
    TCase *tcase = tcase_create("play");
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, each_turn_has_its_context);
    suite_add_tcase(suite, tcase);
    return stack_run(suite);
}
