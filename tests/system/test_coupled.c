/* LABELS: system
 * trainer.coupled: the same job twice, through all processes, ends with the same weights. */
#include "tests/support/stack.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

static const char *const COUPLED[] = {"trainer.coupled=true",
                                      "policy.init.preset=tiny-0.1m",
                                      "policy.warmstart.demonstrations=200",
                                      "policy.warmstart.updates=150",
                                      "environments.0.tasks.generate.count=64",
                                      "environments.0.tasks.holdout=20",
                                      "evaluation.episodes=20",
                                      "evaluation.every=3",
                                      "trainer.groups_per_update=4",
                                      "trainer.updates=8",
                                      "trainer.checkpoint_every=4",
                                      NULL};

/* the digest of the last checkpoint, in a stack of its own */
static void run(char *ret, size_t size)
{
    struct stack stack;
    char state[32];
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/adventure.json", COUPLED);
    stack_wait(&stack, job, 60, state);
    ck_assert_str_eq(state, "succeeded");
    ck_assert_double_eq(stack_metric(&stack, job, "staleness_max"), 0);
    json_t *rows = stack_get(&stack, "/v1/jobs/1/checkpoints");
    const json_t *begin = json_array_get(rows, 0), *last = json_array_get(rows, json_array_size(rows) - 1);
    ck_assert_int_gt(json_integer_value(json_object_get(last, "version")), 0);
    (void)snprintf(ret, size, "%s", json_string_value(json_object_get(last, "digest")));
    ck_assert_str_ne(ret, json_string_value(json_object_get(begin, "digest"))); /* it has learned something */
    json_decref(rows);
    stack_verify(&stack, job);
    stack_remove(&stack);
}

START_TEST(the_same_seed_gives_the_same_weights)
{
    char first[80], again[80];
    run(first, sizeof first);
    run(again, sizeof again);
    ck_assert_uint_eq(strlen(first), 64);
    ck_assert_str_eq(first, again);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("coupled");
    TCase *tcase = tcase_create("coupled");
    tcase_set_timeout(tcase, STACK_SLOW * 280);
    tcase_add_test(tcase, the_same_seed_gives_the_same_weights);
    suite_add_tcase(suite, tcase);
    return stack_run(suite);
}
