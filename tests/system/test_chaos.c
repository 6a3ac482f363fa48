/* LABELS: system
 * The short form of `./run chaos`: every process dies once, in an order and at moments drawn from a seed (printed, or taken
 * from PAL_SEED), while messages are lost and an environment's programs fail; the job ends well, and the ledger holds. */
#include "services/common/base/rng.h"
#include "services/common/run/process.h"
#include "tests/support/stack.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUESS PAL_SOURCE_DIR "/examples/environments/guess.jsonl"
#define FICKLE                                                                                                               \
    "environments.1.command=[\"python3\", \"" PAL_SOURCE_DIR "/tests/support/fickle.py\", \"--misbehave\", \"0.01\"]"
#define BEGIN_MS 2500 /* into the warm start */
#define APART_MS 1200 /* at most, between a death and the next */

static const char *const victims[] = {"run/env.pid",     "run/rollout.pid", "run/data.pid",
                                      "run/trainer.pid", "run/gateway.pid", "postgres/postmaster.pid"};
enum { VICTIMS = sizeof victims / sizeof *victims };

static const char *const SETS[] = {FICKLE,
                                   "environments.1.tasks.file=" GUESS,
                                   "policy.init.preset=tiny-0.1m",
                                   "policy.warmstart.demonstrations=200",
                                   "policy.warmstart.updates=150",
                                   "environments.0.tasks.generate.count=128",
                                   "environments.0.tasks.holdout=20",
                                   "evaluation.episodes=40",
                                   "trainer.groups_per_update=8",
                                   "trainer.updates=60",
                                   "trainer.checkpoint_every=5",
                                   NULL};

static void kill_one(const struct stack *stack, const char *file)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", stack->state, file);
    long pid = process_read_pid(path);
    ck_assert_int_gt(pid, 0);
    (void)kill((pid_t)pid, SIGKILL);
}

START_TEST(every_process_dies_and_the_ledger_holds)
{
    struct stack stack;
    struct rng rng;
    char state[32];
    const char *order[VICTIMS], *text = getenv("PAL_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : 20261126;
    (void)printf("PAL_SEED=%llu\n", (unsigned long long)seed);
    rng_init(&rng, seed, 1);
    memcpy(order, victims, sizeof order);
    ck_assert_int_eq(setenv("PAL_BUS_FAULTS", "drop=0.0005,duplicate=0.002,delay=0.01,delay_ms=20,seed=3", 1), 0);
    stack_make(&stack);
    stack_up(&stack);
    int64_t job = stack_submit(&stack, "bench/chaos.json", SETS);
    stack_pause(BEGIN_MS);
    for (uint32_t i = VICTIMS; i > 0; i--) {
        uint32_t k = rng_below(&rng, i);
        const char *victim = order[k];
        order[k] = order[i - 1];
        kill_one(&stack, victim);
        stack_pause((long)(APART_MS * rng_unit(&rng)));
    }
    stack_wait(&stack, job, 300, state);
    ck_assert_str_eq(state, "succeeded");
    stack_verify(&stack, job);
    char number[24];
    (void)snprintf(number, sizeof number, "%lld", (long long)job);
    const char *const replay[] = {"replay", number, "--update", "60", NULL};
    ck_assert_int_eq(stack_pal(&stack, NULL, replay), 0);
    stack_remove(&stack);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("chaos");
    TCase *tcase = tcase_create("chaos");
    tcase_set_timeout(tcase, STACK_SLOW * 400);
    tcase_add_test(tcase, every_process_dies_and_the_ledger_holds);
    suite_add_tcase(suite, tcase);
    return stack_run(suite);
}
