/* LABELS: system
 * pal-trainer as a process against a scripted data manager over the real bus: a whole job, resuming after kill -9 with the
 * same bits, a clean stop, fencing by lineage, stopping in the middle of a computation, broken batches, what is sent again.
 */
#include "tests/services/trainer/script.h"

#include "services/common/run/rundir.h"
#include "services/trainer/archive.h"
#include "services/trainer/file.h"
#include "trainer/policy_file.h"

#include <glob.h>
#include <stdlib.h>
#include <unistd.h>

static struct script script;

static void setup(void)
{
    script_start(&script);
}

/* the process ended well and left nothing in shared memory */
static void teardown(void)
{
    char pattern[SCRIPT_TEXT];
    ck_assert_int_eq(rundir_shm_prefix(script.peer.state_dir, pattern, sizeof pattern - 2), ERR_ok);
    (void)strncat(pattern, "*", 2);
    data_peer_stop(&script.peer);
    glob_t found;
    ck_assert_int_eq(glob(pattern, 0, NULL, &found), GLOB_NOMATCH);
}

static bool is_published(int64_t version)
{
    return access(script.policies[version].where, R_OK) == 0;
}

/* the file holds the version, and its weights have the digest that was told */
static void check_policy(int64_t version)
{
    const struct script_policy *p = &script.policies[version];
    void *memory = NULL;
    struct span bytes;
    struct policy_file file;
    AUTO_PTR(model) model = NULL;
    ck_assert_int_eq(file_read(p->where, (size_t)1 << 30, &memory, &bytes), ERR_ok);
    ck_assert_int_eq(policy_file_open(bytes, &file), ERR_ok);
    ck_assert_int_eq(file.version, version);
    ck_assert_int_eq(file.lineage, p->lineage);
    ck_assert_str_eq(file.digest.hex, p->digest.hex);
    ck_assert_int_eq(policy_file_model(&file, &model), ERR_ok);
    free(memory);
}

static void check_checkpoint(int64_t version, int64_t update)
{
    const struct script_checkpoint *c = &script.checkpoints[version];
    void *memory = NULL;
    struct checkpoint checkpoint;
    ck_assert_int_eq(c->update, update);
    err_t err = archive_load(c->path, c->sha256.hex, c->size, &memory, &checkpoint);
    ck_assert_msg(err == ERR_ok, "%s", err_text());
    ck_assert_int_eq(checkpoint.version, version);
    ck_assert_int_eq(checkpoint.update, update);
    ck_assert_int_eq(checkpoint.lineage, c->lineage);
    ck_assert_uint_eq(checkpoint.job, SCRIPT_JOB);
    ck_assert_str_eq(checkpoint.digest.hex, c->digest.hex);
    ck_assert_str_eq(checkpoint.digest.hex, script.policies[version].digest.hex);
    free(memory);
}

START_TEST(a_whole_job)
{
    script.last_update = 3;
    script_assign(&script, SCRIPT_SPEC, 1, NULL, 0);
    script_wait(&script, script_heard_checkpoint, 3); /* the last one, after the end */
    for (int64_t u = 0; u <= 3; u++) {
        ck_assert_int_eq(script.updates[u].times, 1);
        ck_assert_int_eq(script.updates[u].version, u);
        ck_assert_str_eq(script.updates[u].outcome, "applied");
        ck_assert_str_eq(script.updates[u].digest.hex, script.policies[u].digest.hex);
        ck_assert_double_gt(script.updates[u].tokens_trained, 0);
        ck_assert_double_gt(script.updates[u].grad_norm, 0);
    }
    check_policy(2);
    check_policy(3);
    ck_assert(is_published(0)); /* pinned */
    ck_assert(!is_published(1));
    check_checkpoint(0, 0);
    check_checkpoint(2, 2);
    check_checkpoint(3, 3);
    ck_assert_int_eq(script.checkpoints[1].times, 0);
    script_wait(&script, script_heard_beats, (int64_t)script.peer.beats + 1);
    ck_assert_uint_eq(script.beat_job, SCRIPT_JOB);
    ck_assert_int_eq(script.beat_version, 3);
    script_stop_job(&script);
    script_wait(&script, script_heard_beats, (int64_t)script.peer.beats + 2);
    ck_assert_uint_eq(script.beat_job, 0);
    ck_assert(!is_published(0) && !is_published(3));
    check_checkpoint(3, 3); /* that stays */
}
END_TEST

START_TEST(a_redone_update_has_the_same_bits)
{
    script_assign(&script, SCRIPT_SPEC, 1, NULL, 0);
    script_wait(&script, script_heard_update, 5);
    const struct digest third = script.updates[3].digest, fifth = script.updates[5].digest;
    const struct script_checkpoint from = script.checkpoints[2];
    ck_assert_int_eq(from.times, 1);
    script_restart(&script);
    script_assign(&script, SCRIPT_SPEC, 2, &from, 2);
    script_wait(&script, script_heard_update, 5);
    ck_assert_int_eq(script.updates[2].times, 0); /* it began with the third */
    ck_assert_int_eq(script.updates[3].lineage, 2);
    ck_assert_int_eq(script.policies[2].lineage, 2); /* the version it resumed at can be pulled again */
    ck_assert_str_eq(script.policies[2].digest.hex, from.digest.hex);
    ck_assert_str_eq(script.updates[3].digest.hex, third.hex);
    ck_assert_str_eq(script.updates[5].digest.hex, fifth.hex);
    ck_assert_int_eq(script.checkpoints[4].lineage, 2);
    check_checkpoint(4, 4);
}
END_TEST

/* SCRIPT_SPEC with one text for another */
static const char *spec_with(const char *from, const char *to)
{
    static char spec[sizeof SCRIPT_SPEC + 64];
    const char *at = strstr(SCRIPT_SPEC, from);
    ck_assert_ptr_nonnull(at);
    (void)snprintf(spec, sizeof spec, "%.*s%s%s", (int)(at - SCRIPT_SPEC), SCRIPT_SPEC, to, at + strlen(from));
    return spec;
}

/* asked to end it keeps what it has computed: the next process makes nothing again */
START_TEST(a_clean_stop_keeps_a_checkpoint)
{
    const char *spec = spec_with("\"checkpoint_every\": 2", "\"checkpoint_every\": 99");
    int64_t last = 0;
    script_assign(&script, spec, 1, NULL, 0);
    script_wait(&script, script_heard_update, 3);
    data_peer_end(&script.peer);
    for (int64_t u = 0; u < SCRIPT_UPDATES; u++) {
        if (script.updates[u].times > 0) last = u;
    }
    ck_assert_int_ge(last, 3);
    check_checkpoint(last, last);
    const struct script_checkpoint from = script.checkpoints[last];
    script_again(&script);
    script_assign(&script, spec, 2, &from, last);
    script_wait(&script, script_heard_update, last + 1);
    ck_assert_int_eq(script.updates[last].times, 1);
}
END_TEST

/* a warm start of minutes is given up: there is nothing of it to keep */
START_TEST(a_clean_stop_gives_up_a_warm_start)
{
    script_assign(&script, spec_with("\"updates\": 5,", "\"updates\": 100000,"), 1, NULL, 0);
    script_wait(&script, script_heard_request, 0);
    script_wait(&script, script_heard_beats, (int64_t)script.peer.beats + 2);
    ck_assert_double_eq(script.computing, 1);
    data_peer_end(&script.peer);
    ck_assert_int_eq(script.checkpoint_times, 0);
}
END_TEST

START_TEST(older_lineages_are_ignored)
{
    script.mute = true;
    script_assign(&script, SCRIPT_SPEC, 5, NULL, 0);
    script_wait(&script, script_heard_request, 0);
    script_wait(&script, script_heard_beats, (int64_t)script.peer.beats + 1);
    double before = script.ignored;
    script_assign(&script, SCRIPT_SPEC, 4, NULL, 0);
    script_send_batch(&script, 4, 0);
    script_send_batch(&script, 5, 1);                /* not the one asked for */
    script_assign(&script, SCRIPT_SPEC, 5, NULL, 0); /* sent again after a hello */
    script_wait(&script, script_heard_beats, (int64_t)script.peer.beats + 2);
    ck_assert_double_eq(script.ignored, before + 4);
    ck_assert_int_eq(script.updates[0].times, 0);
    script.mute = false;
    script_send_batch(&script, 5, 0);
    script_wait(&script, script_heard_update, 1);
    ck_assert_int_eq(script.updates[1].lineage, 5);
    /* and a newer one takes over at once */
    script_assign(&script, SCRIPT_SPEC, 6, &script.checkpoints[0], 0);
    script.asked_update = -1;
    memset(script.updates, 0, sizeof script.updates);
    script_wait(&script, script_heard_update, 2);
    ck_assert_int_eq(script.updates[2].lineage, 6);
}
END_TEST

START_TEST(a_computation_can_be_stopped)
{
    /* minutes of warm start */
    script_assign(&script, spec_with("\"updates\": 5,", "\"updates\": 100000,"), 1, NULL, 0);
    script_wait(&script, script_heard_request, 0);
    script_wait(&script, script_heard_beats, (int64_t)script.peer.beats + 2); /* they go on while it computes */
    ck_assert_double_eq(script.computing, 1);
    script_stop_job(&script);
    script_wait(&script, script_heard_beats, (int64_t)script.peer.beats + 2);
    ck_assert_double_eq(script.computing, 0);
    ck_assert_uint_eq(script.beat_job, 0);
    ck_assert_int_eq(script.updates[0].times, 0);
    script.asked_update = -1;
    script_assign(&script, SCRIPT_SPEC, 2, NULL, 0);
    script_wait(&script, script_heard_update, 1);
}
END_TEST

static bool heard_everything_twice(void *ctx)
{
    const struct script *s = ctx;
    return s->updates[0].times > 1 && s->checkpoints[0].times > 1 && s->requests > 3;
}

START_TEST(what_is_not_acknowledged_is_sent_again)
{
    script.mute = true;
    script_assign(&script, SCRIPT_SPEC, 1, NULL, 0);
    script_wait(&script, script_heard_request, 0);
    script_send_batch(&script, 1, 0);
    script_wait(&script, script_heard_checkpoint, 0);
    ck_assert_int_eq(script.updates[0].times, 1);
    script.peer.hello_again = true; /* as a data manager that was restarted answers */
    uint64_t hellos = script.peer.hellos;
    script.goal = 0;
    ck_assert(data_peer_wait(&script.peer, heard_everything_twice, SCRIPT_WAIT_MS)); /* the second time by its timer */
    ck_assert_uint_eq(script.peer.hellos, hellos + 1);
    ck_assert_int_eq(script.asked_update, 1);
    script.mute = false;
    script_wait(&script, script_heard_update, 2);
    ck_assert_int_eq(script.updates[2].times, 1);
}
END_TEST

START_TEST(updates_without_signal_are_skipped)
{
    script.no_signal = 2;
    script.last_update = 2;
    script_assign(&script, SCRIPT_SPEC, 1, NULL, 0);
    script_wait(&script, script_heard_checkpoint, 1);
    ck_assert_str_eq(script.updates[2].outcome, "skipped");
    ck_assert_int_eq(script.updates[2].version, 1);
    ck_assert_str_eq(script.updates[2].digest.hex, script.updates[1].digest.hex);
    check_checkpoint(1, 2);
    ck_assert_int_eq(script.newest_policy, 1);
}
END_TEST

START_TEST(a_poisoned_payload_is_named)
{
    script.poisoned = 1;
    script_assign(&script, SCRIPT_SPEC, 1, NULL, 0);
    script_wait(&script, script_heard_failure, 0);
    ck_assert_ptr_nonnull(strstr(script.failure, "episode 1003"));
    ck_assert_ptr_nonnull(strstr(script.failure, "update 1"));
    ck_assert_int_eq(script.updates[1].times, 0);
}
END_TEST

START_TEST(updates_that_are_not_finite_are_passed_over)
{
    script.explosive = 2;
    script_assign(&script, SCRIPT_SPEC, 1, NULL, 0);
    script_wait(&script, script_heard_failure, 0);
    ck_assert_str_eq(script.updates[1].outcome, "applied");
    for (int64_t u = 2; u <= 3; u++) { /* max_bad_updates is 1 */
        ck_assert_str_eq(script.updates[u].outcome, "numeric");
        ck_assert_int_eq(script.updates[u].version, 1);
        ck_assert_str_eq(script.updates[u].digest.hex, script.updates[1].digest.hex);
    }
    ck_assert_ptr_nonnull(strstr(script.failure, "max_bad_updates"));
}
END_TEST

START_TEST(a_wrong_checkpoint_is_refused)
{
    script_assign(&script, SCRIPT_SPEC, 1, NULL, 0);
    script_wait(&script, script_heard_checkpoint, 0);
    struct script_checkpoint other = script.checkpoints[0];
    other.sha256.hex[0] = other.sha256.hex[0] == '0' ? '1' : '0';
    script_assign(&script, SCRIPT_SPEC, 2, &other, 0);
    script_wait(&script, script_heard_failure, 0);
    ck_assert_ptr_nonnull(strstr(script.failure, "SHA-256"));
    script.failure[0] = 0;
    script_assign(&script, SCRIPT_SPEC, 3, &script.checkpoints[0], 1); /* another version than its file's */
    script_wait(&script, script_heard_failure, 0);
    ck_assert_ptr_nonnull(strstr(script.failure, "version 0"));
}
END_TEST

START_TEST(a_checkpoint_that_cannot_be_saved_fails_the_job)
{
    script_assign(&script, SCRIPT_SPEC, 1, NULL, 0);
    script_wait(&script, script_heard_checkpoint, 0);
    /* the folder is gone for good: a file is in its place */
    char folder[SCRIPT_TEXT];
    (void)snprintf(folder, sizeof folder, "%s/jobs/%d/checkpoints", script.peer.state_dir, SCRIPT_JOB);
    char moved[SCRIPT_TEXT + 8];
    (void)snprintf(moved, sizeof moved, "%s.old", folder);
    script.mute = true;
    ck_assert_int_eq(rename(folder, moved), 0);
    FILE *file = fopen(folder, "w");
    ck_assert_ptr_nonnull(file);
    (void)fclose(file);
    script.mute = false;
    script_send_batch(&script, 1, script.asked_update);
    script_wait(&script, script_heard_failure, 0);
    ck_assert_ptr_nonnull(strstr(script.failure, "saving a checkpoint"));
    ck_assert_ptr_nonnull(strstr(script.failure, folder));
}
END_TEST

START_TEST(a_broken_job_fails_with_its_pointer)
{
    script_assign(&script, "{\"name\": \"x\", \"environments\": [{\"name\": \"adventure\"}], \"trainer\": {\"lr\": -1}}", 1,
                  NULL, 0);
    script_wait(&script, script_heard_failure, 0);
    ck_assert_ptr_nonnull(strstr(script.failure, "/trainer/lr"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trainer");
    TCase *tcase = tcase_create("trainer");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 90);
    tcase_add_test(tcase, a_whole_job);
    tcase_add_test(tcase, a_redone_update_has_the_same_bits);
    tcase_add_test(tcase, a_clean_stop_keeps_a_checkpoint);
    tcase_add_test(tcase, a_clean_stop_gives_up_a_warm_start);
    tcase_add_test(tcase, older_lineages_are_ignored);
    tcase_add_test(tcase, a_computation_can_be_stopped);
    tcase_add_test(tcase, what_is_not_acknowledged_is_sent_again);
    tcase_add_test(tcase, updates_without_signal_are_skipped);
    tcase_add_test(tcase, a_poisoned_payload_is_named);
    tcase_add_test(tcase, updates_that_are_not_finite_are_passed_over);
    tcase_add_test(tcase, a_wrong_checkpoint_is_refused);
    tcase_add_test(tcase, a_checkpoint_that_cannot_be_saved_fails_the_job);
    tcase_add_test(tcase, a_broken_job_fails_with_its_pointer);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
