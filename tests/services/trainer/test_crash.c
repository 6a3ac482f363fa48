/* LABELS: system
 * pal-trainer killed at each of its crash points (services/common/run/crash.def) and started again, against a scripted data
 * manager: it goes on from the newest committed checkpoint, asks for what came after in its order, ends with the bits of a
 * run that was left alone, and leaves no orphan behind. */
#include "tests/services/trainer/script.h"

#include "services/common/run/crash.h"

#include <glob.h>
#include <sys/mman.h>

#define LAST     6 /* update of the last checkpoint */
#define DIES_AT  3 /* the checkpoints are those of 0, 2, 4 and 6 */
#define TRAINERS (CRASH_checkpoint_acked + 1)

static struct script script;
static struct digest *undisturbed; /* [LAST + 1] of the weights, shared by the processes of the tests; "": not made yet */

static void setup(void)
{
    script.last_update = LAST;
}

static void run_undisturbed(void)
{
    script_start(&script);
    script.last_update = LAST;
    script_assign(&script, SCRIPT_SPEC, 0, NULL, 0);
    script_wait(&script, script_heard_checkpoint, LAST);
    for (int64_t u = 0; u <= LAST; u++) undisturbed[u] = script.updates[u].digest;
    data_peer_stop(&script.peer);
    script = (struct script){.last_update = LAST};
}

/* The newest version whose checkpoint was heard of, as the ledger would have it; -1: none. */
static int64_t committed(void)
{
    int64_t version = SCRIPT_UPDATES - 1;
    while (version >= 0 && script.checkpoints[version].times == 0) version--;
    return version;
}

/* Every file of the folder is one that was told, in the lineage it was told of. */
static void check_folder(void)
{
    char pattern[SCRIPT_TEXT];
    glob_t found;
    (void)snprintf(pattern, sizeof pattern, "%s/jobs/%d/checkpoints/*", script.peer.state_dir, SCRIPT_JOB);
    ck_assert_int_eq(glob(pattern, 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        bool told = false;
        for (size_t v = 0; v < SCRIPT_UPDATES; v++)
            told |= script.checkpoints[v].times && strcmp(script.checkpoints[v].path, found.gl_pathv[i]) == 0;
        ck_assert_msg(told, "%s is an orphan", found.gl_pathv[i]);
    }
    globfree(&found);
}

START_TEST(a_killed_trainer_ends_with_the_same_bits)
{
    char crash_at[64];
    if (!undisturbed[LAST].hex[0]) run_undisturbed();
    (void)snprintf(crash_at, sizeof crash_at, "%s/0/%d", crash_name((enum crash)_i), DIES_AT);
    script.peer.crash_at = crash_at;
    script_start(&script);
    script.last_update = LAST;
    script_assign(&script, SCRIPT_SPEC, 0, NULL, 0);
    script_crashed(&script);
    int64_t from = committed();
    /* 0 where the disk was slower than the next batch: the checkpoint of 2 was on its way */
    ck_assert_msg(from == 0 || from == 2 || from == 4, "%s: version %ld is the newest committed", crash_at, (long)from);
    memset(script.updates, 0, sizeof script.updates);
    script.mute = true;
    script_assign(&script, SCRIPT_SPEC, 1, &script.checkpoints[from], from);
    script_wait(&script, script_heard_request, from + 1);
    check_folder();
    script.mute = false;
    script_send_batch(&script, 1, from + 1);
    script_wait(&script, script_heard_checkpoint, LAST);
    for (int64_t u = 0; u <= LAST; u++) { /* in their order: the script answers no request but the next */
        ck_assert_int_eq(script.updates[u].times, u > from ? 1 : 0);
        if (u <= from) continue;
        ck_assert_int_eq(script.updates[u].lineage, 1);
        ck_assert_int_eq(script.updates[u].version, u);
        ck_assert_msg(strcmp(script.updates[u].digest.hex, undisturbed[u].hex) == 0, "%s: update %ld has other bits",
                      crash_at, (long)u);
    }
    ck_assert_str_eq(script.checkpoints[LAST].digest.hex, undisturbed[LAST].hex);
    data_peer_stop(&script.peer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("crash");
    TCase *tcase = tcase_create("crash");
    undisturbed = mmap(NULL, (LAST + 1) * sizeof *undisturbed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (undisturbed == MAP_FAILED) return 1;
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_set_timeout(tcase, 90);
    tcase_add_loop_test(tcase, a_killed_trainer_ends_with_the_same_bits, 0, TRAINERS);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
