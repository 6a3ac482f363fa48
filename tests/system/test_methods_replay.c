/* LABELS: system
 * Whole stacks whose jobs use the trainer's methods together: everything is on record, and from the first checkpoint the
 * ledger's batches give the recorded weights again, bit for bit. */
#include "tests/support/stack.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define COMMON                                                                                                               \
    "policy.init.preset=tiny-0.1m", "policy.warmstart.demonstrations=200", "policy.warmstart.updates=120",                   \
        "policy.warmstart.hinted=0.5", "evaluation.every=0", "evaluation.episodes=10", "environments.0.tasks.holdout=10",    \
        "trainer.groups_per_update=4", "rollout.group_size=4", "trainer.updates=12", "trainer.checkpoint_every=5",           \
        "trainer.checkpoints_kept=20"

static const char FORMS[] =
    "environments=[{\"name\": \"webform\", \"max_steps\": 8, \"tasks\": {\"generate\": {\"levels\": [1, 4], \"count\": 24},"
    " \"holdout\": 10}}]";

/* hints, dropped turns, a pool, contexts per turn, a measured start, more passes than one */
static const char *const HINTED[] = {FORMS,
                                     COMMON,
                                     "rollout.context=step",
                                     "rollout.history=2",
                                     "curriculum.kind=gain-rl",
                                     "curation.guide={\"shaping\": \"quantile\"}",
                                     "curation.dart={\"keep\": 0.7}",
                                     "curation.replay_ratio={\"low\": 1.5, \"high\": 2, \"window\": 3}",
                                     "trainer.loss=gspo",
                                     "trainer.aggregation=step_mean",
                                     "trainer.old_policy=recompute",
                                     "trainer.importance={\"mode\": \"tis\", \"cap\": 5}",
                                     "trainer.kl=0.01",
                                     "trainer.value={\"body\": \"shared\", \"width\": 16}",
                                     NULL};

/* phases: the regression, a reference that moves, an outcome reward model that learns, replayed successes */
static const char *const PHASED[] = {COMMON,
                                     "environments.0.tasks.generate.count=32",
                                     "curation.webrl={\"phase_updates\": 4, \"phase_tasks\": 8, \"orm\": \"measure\","
                                     " \"orm_updates\": 20, \"value_low\": 0, \"value_high\": 1}",
                                     "trainer.loss=webrl",
                                     "trainer.aggregation=step_mean",
                                     NULL};

/* advantages of the value head, two passes over three minibatches */
static const char *const VALUED[] = {COMMON,
                                     "environments.0.tasks.generate.count=32",
                                     "trainer.loss=ppo",
                                     "trainer.epochs=2",
                                     "trainer.minibatches=3",
                                     "trainer.value={\"discount\": 0.95}",
                                     NULL};

static const struct {
    const char *name;
    const char *const *sets;
} jobs[] = {{"hinted", HINTED}, {"phased", PHASED}, {"valued", VALUED}};

/* All checkpoints but the first go, so that everything is made again. */
static void forget_checkpoints(const struct stack *stack)
{
    json_t *rows = stack_get(stack, "/v1/jobs/1/checkpoints"), *row = NULL;
    size_t i = 0;
    ck_assert_uint_gt(json_array_size(rows), 2);
    json_array_foreach(rows, i, row)
    {
        if (json_integer_value(json_object_get(row, "update")) == 0) continue;
        ck_assert_int_eq(unlink(json_string_value(json_object_get(row, "path"))), 0);
    }
    json_decref(rows);
}

START_TEST(updates_of_the_methods_are_made_again)
{
    struct stack stack;
    char state[32];
    AUTO(buf) out = {0};
    const char *const *sets = jobs[_i].sets;
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "examples/adventure.json", sets);
    stack_wait(&stack, job, 120, state);
    ck_assert_msg(strcmp(state, "succeeded") == 0, "%s: %s", jobs[_i].name, state);
    stack_verify(&stack, job);
    if (sets == HINTED) {
        ck_assert_double_gt(stack_metric(&stack, job, "hinted_targets"), 0);
        ck_assert_double_eq(stack_metric(&stack, job, "passes"), 2);
        ck_assert_double_gt(stack_metric(&stack, job, "angle"), 0);
        ck_assert_double_lt(stack_metric(&stack, job, "own_gap_max"), 1e-3);
    }
    if (sets == PHASED) ck_assert_double_gt(stack_metric(&stack, job, "orm_train_loss"), 0);
    ck_assert_double_gt(stack_metric(&stack, job, "fau"), 0);
    forget_checkpoints(&stack);
    const char *const replay[] = {"replay", "1", "--update", "12", NULL};
    ck_assert_msg(stack_pal(&stack, &out, replay) == 0, "%s: %s", jobs[_i].name, buf_chars(&out));
    ck_assert_ptr_nonnull(strstr(buf_chars(&out), "bit for bit"));
    stack_remove(&stack);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("methods_replay");
    TCase *tcase = tcase_create("methods_replay");
    tcase_set_timeout(tcase, STACK_SLOW * 180);
    tcase_add_loop_test(tcase, updates_of_the_methods_are_made_again, 0, (int)(sizeof jobs / sizeof *jobs));
    suite_add_tcase(suite, tcase);
    return stack_run(suite);
}
