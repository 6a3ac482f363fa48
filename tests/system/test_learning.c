/* LABELS: system slow
 * The demo's job on three seeds: what README and examples/README.md say that it learns. Seconds are printed, not asserted. */
#include "tests/support/stack.h"

#include <check.h>
#include <stdio.h>

START_TEST(the_demo_learns)
{
    struct stack stack;
    char state[32], seed[32];
    (void)snprintf(seed, sizeof seed, "seed=%d", _i);
    const char *const sets[] = {seed, "evaluation.every=0", NULL};
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/adventure.json", sets);
    stack_wait(&stack, job, 240, state);
    ck_assert_str_eq(state, "succeeded");
    json_t *row = stack_get(&stack, "/v1/jobs/1");
    double before = stack_success(&stack, job, true), after = stack_success(&stack, job, false);
    (void)printf("seed %d: %.3f -> %.3f in %.1f s\n", _i, before, after,
                 json_number_value(json_object_get(row, "train_seconds")));
    (void)fflush(stdout);
    json_decref(row);
    ck_assert_double_le(before, 0.55);
    ck_assert_double_ge(after, 0.9);
    stack_verify(&stack, job);
    stack_remove(&stack);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("learning");
    TCase *tcase = tcase_create("learning");
    tcase_set_timeout(tcase, STACK_SLOW * 300);
    tcase_add_loop_test(tcase, the_demo_learns, 1, 4);
    suite_add_tcase(suite, tcase);
    return stack_run(suite);
}
