/* LABELS: system
 * pal-trainer as a process with what the methods ask of it: hints, dropped turns, passes and value heads in one batch; phases
 * that end with a reward model, a new reference and a checkpoint; all of it again with the same bits after kill -9. */
#include "tests/services/trainer/script.h"

#include "services/common/run/rundir.h"
#include "services/trainer/archive.h"
#include "services/trainer/file.h"
#include "trainer/policy_file.h"

#include <stdlib.h>
#include <unistd.h>

#define SPEC(curation, trainer)                                                                                              \
    "{\"name\": \"script\", \"seed\": 5, \"environments\": [{\"name\": \"adventure\"}],"                                     \
    " \"policy\": {\"init\": {\"preset\": \"tiny-0.1m\"},"                                                                   \
    "             \"warmstart\": {\"demonstrations\": 8, \"updates\": 5, \"batch\": 4}},"                                    \
    " \"rollout\": {\"group_size\": 4}, \"curation\": {" curation "},"                                                       \
    " \"trainer\": {\"groups_per_update\": 2, \"updates\": 9, \"max_bad_updates\": 1," trainer "}}"

static const char PHASES[] =
    SPEC("\"webrl\": {\"phase_updates\": 2, \"orm\": \"reward\", \"orm_updates\": 6, \"orm_batch\": 4}",
         "\"loss\": \"webrl\", \"aggregation\": \"step_mean\", \"checkpoint_every\": 100, \"checkpoints_kept\": 9");

static const char EVERYTHING[] =
    SPEC("\"replay_ratio\": {\"low\": 1, \"high\": 2}, \"guide\": {\"file\": \"hints.jsonl\", \"shaping\": \"quantile\"}",
         "\"loss\": \"gspo\", \"aggregation\": \"step_mean\", \"old_policy\": \"recompute\", \"kl\": 0.1,"
         " \"importance\": {\"mode\": \"tis\"}, \"value\": {\"body\": \"shared\", \"width\": 8}, \"checkpoint_every\": 2");

static struct script script;

static void setup(void)
{
    script_start(&script);
}

static void teardown(void)
{
    data_peer_stop(&script.peer);
}

/* A file's bytes; free the memory. */
static struct span read_file(const char *path, void **ret_memory)
{
    struct span bytes;
    err_t err = file_read(path, (size_t)1 << 30, ret_memory, &bytes);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
    return bytes;
}

static struct checkpoint open_checkpoint(const struct script_checkpoint *c, void **ret_memory)
{
    struct checkpoint checkpoint;
    err_t err = archive_load(c->path, c->sha256.hex, c->size, ret_memory, &checkpoint);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
    return checkpoint;
}

/* what was published under the role and can be pulled */
static void check_reward(int64_t version)
{
    void *memory = NULL;
    struct policy_file file;
    AUTO_PTR(model) model = NULL;
    ck_assert_int_eq(policy_file_open(read_file(script.rewards[version].where, &memory), &file), ERR_ok);
    ck_assert_int_eq(file.role, POLICY_FILE_orm);
    ck_assert_int_eq(file.version, version);
    ck_assert_str_eq(file.digest.hex, script.rewards[version].digest.hex);
    ck_assert_int_eq(policy_file_model(&file, &model), ERR_ok);
    free(memory);
}

START_TEST(phases_end_with_a_checkpoint)
{
    script.phase_updates = 2;
    script_assign(&script, PHASES, 1, NULL, 0);
    script_wait(&script, script_heard_update, 5);
    /* none is due but those of the phases, and each is durable before the next phase's first update */
    ck_assert_int_eq(script.checkpoints[0].times, 1);
    ck_assert_int_eq(script.checkpoints[2].update, 2);
    ck_assert_int_eq(script.checkpoints[4].update, 4);
    ck_assert_int_eq(script.checkpoint_times, 3);
    ck_assert_int_eq(script.updates[3].checkpoints, 2);
    ck_assert_int_eq(script.updates[5].checkpoints, 3);
    ck_assert(isnan(script.updates[1].orm_auroc) && !isnan(script.updates[2].orm_auroc));
    ck_assert(!isnan(script.updates[1].fau));
    ck_assert_int_eq(script.reward_times, 2);
    check_reward(1);
    check_reward(2);
    ck_assert_str_ne(script.rewards[1].digest.hex, script.rewards[2].digest.hex);
    void *memory = NULL;
    struct checkpoint c = open_checkpoint(&script.checkpoints[4], &memory);
    ck_assert_int_eq(c.phase, 2);
    ck_assert_int_eq(c.orm_version, 2);
    ck_assert_uint_eq(c.value_units, 64);
    ck_assert_mem_eq(c.reference, c.weights, c.count * sizeof(float)); /* the actor of now is the next reference */
    free(memory);
    c = open_checkpoint(&script.checkpoints[0], &memory);
    ck_assert_int_eq(c.phase, 0);
    ck_assert_mem_eq(c.reference, c.weights, c.count * sizeof(float)); /* version 0 is the first one, */
    ck_assert_mem_eq(c.orm, c.weights, c.count * sizeof(float));       /* and what the reward model begins from */
    free(memory);
    /* the policy's file, which is told of after its update, brings its value head */
    script_wait(&script, script_heard_policy, 5);
    struct policy_file file;
    AUTO_PTR(value_head) head = NULL;
    ck_assert_int_eq(policy_file_open(read_file(script.policies[5].where, &memory), &file), ERR_ok);
    ck_assert_int_eq(policy_file_value(&file, &head), ERR_ok);
    ck_assert_uint_eq(head->units, 64);
    free(memory);
}
END_TEST

START_TEST(phases_are_redone_with_the_same_bits)
{
    script.phase_updates = 2;
    script_assign(&script, PHASES, 1, NULL, 0);
    script_wait(&script, script_heard_update, 5);
    const struct digest fifth = script.updates[5].digest, reward = script.rewards[2].digest;
    const struct script_checkpoint from = script.checkpoints[2];
    script_restart(&script);
    memset(script.rewards, 0, sizeof script.rewards);
    script_assign(&script, PHASES, 2, &from, 2);
    script_wait(&script, script_heard_update, 5);
    ck_assert_int_eq(script.rewards[1].lineage, 2); /* the reward model it resumed with can be pulled again */
    check_reward(1);
    ck_assert_str_eq(script.rewards[2].digest.hex, reward.hex);
    ck_assert_str_eq(script.updates[5].digest.hex, fifth.hex);
}
END_TEST

START_TEST(a_phase_ends_with_a_discarded_batch)
{
    char spec[2048];
    (void)snprintf(spec, sizeof spec, "%s", PHASES);
    char *every = strstr(spec, "\"checkpoint_every\": 100, \"checkpoints_kept\": 9");
    ck_assert_ptr_nonnull(every);
    memcpy(every + strlen("\"checkpoint_every\": "), "1  ", 3);
    script.phase_updates = 2;
    script.discarded = 2;
    script.last_update = 3;
    script_assign(&script, spec, 1, NULL, 0);
    script_wait(&script, script_heard_checkpoint, 3);
    ck_assert_str_eq(script.updates[2].outcome, "skipped");
    ck_assert_int_eq(script.updates[2].version, 1);
    /* version 1 was durable before; the end of the phase is a file of its own */
    ck_assert_int_eq(script.checkpoints[1].times, 2);
    ck_assert_int_eq(script.checkpoints[1].update, 2);
    ck_assert_ptr_nonnull(strstr(script.checkpoints[1].path, "1-1-2.ckpt"));
    void *memory = NULL;
    struct checkpoint c = open_checkpoint(&script.checkpoints[1], &memory);
    ck_assert_int_eq(c.phase, 1);
    free(memory);
    char older[SCRIPT_TEXT];
    (void)snprintf(older, sizeof older, "%s/jobs/%d/checkpoints/1-1.ckpt", script.peer.state_dir, SCRIPT_JOB);
    ck_assert_int_eq(access(older, R_OK), 0);
}
END_TEST

START_TEST(everything_in_one_batch)
{
    script.methods = true;
    script_assign(&script, EVERYTHING, 1, NULL, 0);
    script_wait(&script, script_heard_update, 5);
    for (int64_t u = 1; u <= 5; u++) {
        ck_assert_str_eq(script.updates[u].outcome, "applied");
        ck_assert_double_eq(script.updates[u].passes, 2);
        ck_assert_double_gt(script.updates[u].hinted_targets, 0);
        ck_assert(script.updates[u].fau > 0 && script.updates[u].fau < 1);
    }
    const struct digest fifth = script.updates[5].digest;
    const struct script_checkpoint from = script.checkpoints[2];
    script_restart(&script);
    script_assign(&script, EVERYTHING, 2, &from, 2);
    script_wait(&script, script_heard_update, 5);
    ck_assert_str_eq(script.updates[5].digest.hex, fifth.hex);
}
END_TEST

START_TEST(a_dropped_turn_that_is_not_there_is_named)
{
    script.methods = true;
    script.mute = true;
    script_assign(&script, EVERYTHING, 1, NULL, 0);
    script_wait(&script, script_heard_request, 0);
    script_send_batch(&script, 1, 0);
    script_wait(&script, script_heard_request, 1);
    struct wire_batch_member member;
    struct script_payload payload;
    struct rng rng;
    const uint64_t far = 99;
    rng_init(&rng, 1, 1);
    script_member(&script, 1, 0, &rng, &payload, &member);
    member.dropped = (struct wire_u64s){&far, 1};
    const struct wire_batch batch = {.job = SCRIPT_JOB,
                                     .lineage = 1,
                                     .update = 1,
                                     .kind = span_text("update"),
                                     .norm_tokens = member.action_tokens,
                                     .groups = 1,
                                     .members = &member,
                                     .members_count = 1};
    data_peer_send(&script.peer, WIRE_batch, &batch);
    script_wait(&script, script_heard_failure, 0);
    ck_assert_ptr_nonnull(strstr(script.failure, "episode 1000"));
    ck_assert_ptr_nonnull(strstr(script.failure, "turn 99"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trainer_methods");
    TCase *tcase = tcase_create("trainer_methods");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 90);
    tcase_add_test(tcase, phases_end_with_a_checkpoint);
    tcase_add_test(tcase, phases_are_redone_with_the_same_bits);
    tcase_add_test(tcase, a_phase_ends_with_a_discarded_batch);
    tcase_add_test(tcase, everything_in_one_batch);
    tcase_add_test(tcase, a_dropped_turn_that_is_not_there_is_named);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
