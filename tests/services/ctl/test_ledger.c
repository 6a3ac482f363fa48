/* LABELS: system
 * pal verify, why and replay on a real stack that has played a job: what they say, their exit codes, what is not there; and
 * the stack's readiness while its PostgreSQL hangs. */
#include "tests/support/stack.h"

#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static struct stack stack;
static int64_t job;

static void setup(void)
{
    char state[32];
    const char *const sets[] = {"policy.init.preset=tiny-0.1m",
                                "policy.warmstart.demonstrations=40",
                                "policy.warmstart.updates=20",
                                "environments.0.tasks.generate.count=64",
                                "environments.0.tasks.holdout=40",
                                "evaluation.episodes=40",
                                "trainer.groups_per_update=4",
                                "trainer.updates=6",
                                NULL};
    stack_make(&stack);
    stack_up(&stack);
    job = stack_submit(&stack, "examples/adventure.json", sets);
    stack_wait(&stack, job, 60, state);
    if (strcmp(state, "succeeded") != 0) exit(1);
}

static void teardown(void)
{
    stack_remove(&stack);
}

static const char *number(int64_t value)
{
    static char text[4][32];
    static int next;
    next = (next + 1) % 4;
    (void)snprintf(text[next], sizeof text[next], "%lld", (long long)value);
    return text[next];
}

static json_t *json_of(const struct buf *out)
{
    json_t *root = json_loads(buf_chars(out), 0, NULL);
    ck_assert_msg(root != NULL, "not JSON: %.200s", buf_chars(out));
    return root;
}

START_TEST(verify_says_each_invariant)
{
    AUTO(buf) out = {0};
    AUTO(buf) text = {0};
    const char *const words[] = {"verify", number(job), "--json", NULL}, *const plain[] = {"verify", number(job), NULL};
    json_t *row = NULL;
    size_t i = 0, lines = 0;
    ck_assert_msg(stack_pal(&stack, &out, words) == 0, "%s", buf_chars(&out));
    json_t *rows = json_of(&out);
    json_array_foreach(rows, i, row)
    {
        ck_assert_int_eq(json_integer_value(json_object_get(row, "broken")), 0);
        ck_assert_uint_gt(strlen(json_string_value(json_object_get(row, "doc"))), 0);
    }
    ck_assert_int_eq(stack_pal(&stack, &text, plain), 0);
    for (const char *c = buf_chars(&text); *c; c++) lines += *c == '\n';
    ck_assert_uint_eq(lines, json_array_size(rows));
    json_decref(rows);
}
END_TEST

static int64_t episode_of(const char *query)
{
    char path[96];
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld/episodes?limit=1&%s", (long long)job, query);
    json_t *rows = stack_get(&stack, path);
    ck_assert_uint_eq(json_array_size(rows), 1);
    int64_t id = json_integer_value(json_object_get(json_array_get(rows, 0), "id"));
    json_decref(rows);
    return id;
}

START_TEST(why_tells_the_whole_life)
{
    AUTO(buf) out = {0};
    AUTO(buf) json = {0};
    int64_t episode = episode_of("source=fresh&outcome=ok");
    const char *const words[] = {"why", number(episode), "--job", number(job), NULL};
    const char *const again[] = {"why", number(episode), "--json", NULL};
    static const char *const parts[] = {"planned   group", "task      ", "leased    attempt 0, token", "to rollout-",
                                        "outcome ok",      "version   ", "group     closed",           "decision  "};
    ck_assert_int_eq(stack_pal(&stack, &out, words), 0);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        ck_assert_msg(strstr(buf_chars(&out), parts[i]) != NULL, "no '%s' in:\n%s", parts[i], buf_chars(&out));
    bool trained = strstr(buf_chars(&out), "trained   update") && strstr(buf_chars(&out), "policy    version");
    ck_assert_msg(trained || strstr(buf_chars(&out), "trained   not (yet)"), "%s", buf_chars(&out));
    ck_assert_int_eq(stack_pal(&stack, &json, again), 0);
    json_t *root = json_of(&json);
    ck_assert_int_eq(json_integer_value(json_object_get(root, "id")), episode);
    ck_assert_uint_gt(json_array_size(json_object_get(root, "decisions")), 0);
    json_decref(root);
}
END_TEST

START_TEST(replay_gives_the_same_weights)
{
    AUTO(buf) out = {0};
    const char *const words[] = {"replay", number(job), "--update", "6", "--json", NULL};
    json_t *row = NULL;
    size_t i = 0;
    ck_assert_msg(stack_pal(&stack, &out, words) == 0, "%s", buf_chars(&out));
    json_t *rows = json_of(&out);
    ck_assert_uint_eq(json_array_size(rows), 6); /* from version 0: there is no other checkpoint before */
    json_array_foreach(rows, i, row)
    {
        ck_assert(json_is_true(json_object_get(row, "same")));
    }
    json_decref(rows);
}
END_TEST

static const struct {
    const char *words[8];
    int code;
    const char *says;
} refused[] = {
    {{"verify", "99"}, 1, "there is no job 99"},
    {{"verify", "one"}, 2, "one number is wanted"},
    {{"verify"}, 2, "one number is wanted"},
    {{"why", "9999999"}, 1, "episode does not exist"},
    {{"why", "1", "--job", "99"}, 1, "does not exist"},
    {{"why", "1", "--job", "one"}, 2, "--job wants a job's number"},
    {{"replay", "99", "--update", "1"}, 1, "there is no job 99"},
    {{"replay", "1", "--update", "77"}, 1, "batch of this update does not exist"},
    {{"replay", "1", "--update", "0"}, 2, "--update wants a whole number from 1"},
    {{"replay", "1"}, 2, "--update wants a whole number from 1"},
    {{"replay", "1", "--update", "2", "--threads", "0"}, 2, "--threads wants a whole number from 1"},
};

START_TEST(what_is_not_there_is_said)
{
    AUTO(buf) out = {0};
    int code = stack_pal(&stack, &out, refused[_i].words);
    ck_assert_msg(code == refused[_i].code && strstr(buf_chars(&out), refused[_i].says), "%s %s: %d, %s",
                  refused[_i].words[0], refused[_i].words[1] ? refused[_i].words[1] : "", code, buf_chars(&out));
}
END_TEST

/* ---- PostgreSQL hangs ---- */

/* A signal for the server of the stack and all its sessions. */
static void signal_server(int number)
{
    char path[256];
    long server = 0, parent = 0;
    (void)snprintf(path, sizeof path, "%s/postgres/postmaster.pid", stack.state);
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%ld", &server), 1);
    (void)fclose(file);
    DIR *proc = opendir("/proc");
    for (struct dirent *entry = readdir(proc); entry; entry = readdir(proc)) {
        if (!isdigit((unsigned char)entry->d_name[0])) continue;
        (void)snprintf(path, sizeof path, "/proc/%.20s/stat", entry->d_name);
        file = fopen(path, "re");
        bool child = file && fscanf(file, "%*d (%*[^)]) %*c %ld", &parent) == 1 && parent == server;
        if (file) (void)fclose(file);
        if (child || strtol(entry->d_name, NULL, 10) == server) (void)kill((pid_t)strtol(entry->d_name, NULL, 10), number);
    }
    (void)closedir(proc);
}

static int status_of(const char *path, int seconds)
{
    char command[400];
    int port = 0, status = 0;
    (void)snprintf(command, sizeof command, "%s/gateway.port", stack.state);
    FILE *file = fopen(command, "re");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%d", &port), 1);
    (void)fclose(file);
    (void)snprintf(command, sizeof command,
                   "curl -s -o /dev/null -w '%%{http_code}' --noproxy '*' -m %d 'http://127.0.0.1:%d%s'", seconds, port,
                   path);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    if (fscanf(pipe, "%d", &status) != 1) status = 0;
    (void)pclose(pipe);
    return status;
}

static void wait_ready(int wanted)
{
    double end = stack_clock() + STACK_SLOW * 20;
    while (status_of("/readyz", 12) != wanted) {
        ck_assert_msg(stack_clock() < end, "not %d", wanted);
        stack_pause(100);
    }
}

START_TEST(a_stack_whose_database_hangs_is_not_ready)
{
    char jobs[64];
    (void)snprintf(jobs, sizeof jobs, "/v1/jobs/%lld", (long long)job);
    wait_ready(200);
    signal_server(SIGSTOP);
    int read = status_of(jobs, 12); /* and it is said, within the patience of a client */
    wait_ready(503);
    int alive = status_of("/healthz", 12);
    signal_server(SIGCONT);
    ck_assert_int_eq(read, 503);
    ck_assert_int_eq(alive, 200);
    wait_ready(200);
    ck_assert_int_eq(status_of(jobs, 12), 200);
    stack_verify(&stack, job);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger commands");
    TCase *tcase = tcase_create("ledger commands");
    tcase_add_unchecked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, verify_says_each_invariant);
    tcase_add_test(tcase, why_tells_the_whole_life);
    tcase_add_test(tcase, replay_gives_the_same_weights);
    tcase_add_loop_test(tcase, what_is_not_there_is_said, 0, (int)(sizeof refused / sizeof *refused));
    tcase_add_test(tcase, a_stack_whose_database_hangs_is_not_ready);
    suite_add_tcase(suite, tcase);
    return stack_run(suite);
}
