/* LABELS: system
 * The order of a checkpoint, from the system calls that a real pal-trainer made: every byte is written, then the file is
 * fsynced, then renamed, then its folder fsynced, and only then the data manager hears of it. Recorded with strace; where it
 * is not installed or may not trace, the test says so and ends well. */
#include "tests/services/trainer/script.h"

#include <ctype.h>
#include <stdlib.h>

#define LINE 8192

static struct script script;

enum call { CALL_OPEN, CALL_WRITE, CALL_FSYNC, CALL_RENAME, CALL_OPEN_FOLDER, CALL_FSYNC_FOLDER, CALL_SEND, CALLS };

static const char *const names[CALLS] = {
    "open of the temporary file", "last write",          "fsync", "rename", "open of the folder",
    "fsync of the folder",        "checkpoint_committed"};

/* Where the calls for one checkpoint lie in the trace: line numbers, 0 for none. */
struct order {
    int at[CALLS];
    int fd, folder_fd;
    unsigned long written;
};

static bool may_trace(void)
{
    return system("strace -qq -e trace=none true 2>/dev/null") == 0;
}

/* A finished call's result; -1 for one that failed. */
static long result_of(const char *line)
{
    const char *equals = strrchr(line, '=');
    return equals ? strtol(equals + 1, NULL, 10) : -1;
}

static const char *begins(const char *line, const char *call)
{
    const char *at = strstr(line, call);
    return at && (at == line || isspace((unsigned char)at[-1]) || at[-1] == ']') ? at + strlen(call) : NULL;
}

static void read_open(struct order *order, const char *line, const char *rest, const char *file, const char *folder,
                      int number)
{
    char temporary[SCRIPT_TEXT + 8], whole[SCRIPT_TEXT + 8];
    (void)snprintf(temporary, sizeof temporary, "\"%s.tmp\"", file);
    (void)snprintf(whole, sizeof whole, "\"%s\"", folder);
    if (strstr(rest, temporary)) {
        order->fd = (int)result_of(line);
        order->at[CALL_OPEN] = number;
    } else if (strstr(rest, whole) && order->at[CALL_RENAME] && strstr(rest, "O_DIRECTORY")) {
        order->folder_fd = (int)result_of(line);
        order->at[CALL_OPEN_FOLDER] = number;
    }
}

/* One line of strace -f: "PID call(arguments) = result". Only the first time of each call but write counts. */
static void read_line(struct order *order, const char *line, const char *file, const char *folder, int number)
{
    const char *name = strrchr(file, '/') + 1, *rest = NULL;
    if ((rest = begins(line, "openat("))) {
        if (!order->at[CALL_SEND]) read_open(order, line, rest, file, folder, number);
    } else if ((rest = begins(line, "write("))) {
        if (order->at[CALL_OPEN] && !order->at[CALL_FSYNC] && strtol(rest, NULL, 10) == order->fd) {
            order->at[CALL_WRITE] = number;
            order->written += (unsigned long)result_of(line);
        }
    } else if ((rest = begins(line, "fsync("))) {
        long fd = strtol(rest, NULL, 10);
        if (result_of(line) != 0) return;
        if (order->at[CALL_OPEN] && !order->at[CALL_FSYNC] && fd == order->fd) order->at[CALL_FSYNC] = number;
        if (order->at[CALL_OPEN_FOLDER] && !order->at[CALL_FSYNC_FOLDER] && fd == order->folder_fd)
            order->at[CALL_FSYNC_FOLDER] = number;
    } else if ((rest = begins(line, "rename("))) {
        if (strstr(rest, name) && result_of(line) == 0) order->at[CALL_RENAME] = number;
    } else if ((rest = begins(line, "sendto(")) || (rest = begins(line, "sendmsg("))) {
        if (strstr(rest, name) && !order->at[CALL_SEND]) order->at[CALL_SEND] = number;
    }
}

static void check_order(const char *trace, const struct script_checkpoint *checkpoint)
{
    static char line[LINE];
    char folder[SCRIPT_TEXT];
    struct order order = {.fd = -1, .folder_fd = -1};
    FILE *file = fopen(trace, "re");
    ck_assert_ptr_nonnull(file);
    (void)snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(checkpoint->path, '/') - checkpoint->path), checkpoint->path);
    for (int number = 1; fgets(line, sizeof line, file); number++) read_line(&order, line, checkpoint->path, folder, number);
    (void)fclose(file);
    for (int i = 0; i < CALLS; i++) ck_assert_msg(order.at[i] > 0, "%s: no %s in the trace", checkpoint->path, names[i]);
    for (int i = 1; i < CALLS; i++)
        ck_assert_msg(order.at[i - 1] < order.at[i], "%s: %s (line %d) does not come before %s (line %d)", checkpoint->path,
                      names[i - 1], order.at[i - 1], names[i], order.at[i]);
    ck_assert_uint_eq(order.written, checkpoint->size);
}

START_TEST(a_checkpoint_is_durable_before_it_is_told)
{
    char trace[SCRIPT_TEXT];
    if (!may_trace()) {
        (void)fprintf(stderr, "skipped: strace is not installed (deploy/packages.txt) or may not trace here (ptrace)\n");
        return;
    }
    (void)snprintf(trace, sizeof trace, "/tmp/pal-order-%d.trace", (int)getpid());
    script.peer.trace = trace;
    script_start(&script);
    script.last_update = 4;
    script_assign(&script, SCRIPT_SPEC, 0, NULL, 0);
    script_wait(&script, script_heard_checkpoint, 4);
    const struct script_checkpoint second = script.checkpoints[2], last = script.checkpoints[4];
    data_peer_stop(&script.peer);
    check_order(trace, &second);
    check_order(trace, &last);
    ck_assert_int_eq(unlink(trace), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("order");
    TCase *tcase = tcase_create("order");
    tcase_set_timeout(tcase, 90);
    tcase_add_test(tcase, a_checkpoint_is_durable_before_it_is_told);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
