#include "tests/support/stack.h"

#include "services/common/run/rundir.h"

#include <check.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS 64

static char folder[64] = "/tmp/pal-stack-XXXXXX"; /* the states of this program's tests lie in it */

double stack_clock(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void stack_pause(long ms)
{
    const struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
}

void stack_make(struct stack *stack)
{
    (void)snprintf(stack->state, sizeof stack->state, "%s/XXXXXX", folder);
    ck_assert_ptr_nonnull(mkdtemp(stack->state));
    stack->up = false;
}

int stack_pal(const struct stack *stack, struct buf *out, const char *const *words)
{
    char program[] = PAL_BIN_DIR "/pal", option[] = "--state", state[128], *argv[WORDS + 4] = {program, option, state};
    (void)snprintf(state, sizeof state, "%s", stack->state);
    size_t n = 3;
    for (size_t i = 0; words[i] && n < WORDS; i++) argv[n++] = strdup(words[i]);
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)dup2(ends[1], STDERR_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        (void)execv(program, argv);
        _exit(127);
    }
    (void)close(ends[1]);
    char chunk[4096];
    for (ssize_t got = read(ends[0], chunk, sizeof chunk); got > 0; got = read(ends[0], chunk, sizeof chunk)) {
        if (out) ck_assert_int_eq(buf_append(out, chunk, (size_t)got), ERR_ok);
    }
    (void)close(ends[0]);
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    for (size_t i = 3; i < n; i++) free(argv[i]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

void stack_up(struct stack *stack)
{
    AUTO(buf) out = {0};
    const char *const words[] = {"up", "--detach", "--port", "0", NULL};
    int code = stack_pal(stack, &out, words);
    ck_assert_msg(code == 0, "pal up: %s", buf_chars(&out));
    stack->up = true;
}

/* Processes whose command line names the state directory. */
static int processes_of(const struct stack *stack)
{
    DIR *proc = opendir("/proc");
    int found = 0;
    for (struct dirent *entry = readdir(proc); entry; entry = readdir(proc)) {
        char path[300], line[4096];
        (void)snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
        FILE *file = fopen(path, "re");
        size_t n = file ? fread(line, 1, sizeof line - 1, file) : 0;
        if (file) (void)fclose(file);
        line[n] = 0;
        for (size_t i = 0; i + 1 < n; i++) line[i] = line[i] ? line[i] : ' ';
        if (strstr(line, stack->state)) found++;
    }
    (void)closedir(proc);
    return found;
}

static int shm_files_of(const struct stack *stack)
{
    char prefix[256];
    ck_assert_int_eq(rundir_shm_prefix(stack->state, prefix, sizeof prefix), ERR_ok);
    const char *name = strrchr(prefix, '/') + 1;
    DIR *shm = opendir("/dev/shm");
    int found = 0;
    for (struct dirent *entry = readdir(shm); entry; entry = readdir(shm))
        found += strncmp(entry->d_name, name, strlen(name)) == 0;
    (void)closedir(shm);
    return found;
}

/* Services that tests kill end by SIGKILL; any other signal is a crash that the supervisor has covered up. */
static void crashed(const struct stack *stack)
{
    char path[256], line[512];
    (void)snprintf(path, sizeof path, "%s/logs/pal.log", stack->state);
    FILE *log = fopen(path, "re");
    if (!log) return;
    while (fgets(line, sizeof line, log)) {
        const char *at = strstr(line, "was ended by signal ");
        ck_assert_msg(!at || strtol(at + strlen("was ended by signal "), NULL, 10) == SIGKILL, "%s", line);
    }
    (void)fclose(log);
}

void stack_remove(struct stack *stack)
{
    crashed(stack);
    if (stack->up) {
        AUTO(buf) out = {0};
        const char *const words[] = {"down", NULL};
        ck_assert_msg(stack_pal(stack, &out, words) == 0, "pal down: %s", buf_chars(&out));
        stack->up = false;
    }
    for (int i = 0; i < 100 && processes_of(stack); i++) stack_pause(50);
    ck_assert_int_eq(processes_of(stack), 0);
    ck_assert_int_eq(shm_files_of(stack), 0);
    char command[256];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", stack->state);
    ck_assert_int_eq(system(command), 0);
}

json_t *stack_get(const struct stack *stack, const char *path)
{
    char command[600];
    (void)snprintf(command, sizeof command, "%s/gateway.port", stack->state);
    FILE *file = fopen(command, "re");
    ck_assert_ptr_nonnull(file);
    int number = 0;
    ck_assert_int_eq(fscanf(file, "%d", &number), 1);
    (void)fclose(file);
    (void)snprintf(command, sizeof command, "curl -s --noproxy '*' -m 10 'http://127.0.0.1:%d%s'", number, path);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    json_error_t error;
    json_t *root = json_loadf(pipe, 0, &error);
    ck_assert_int_eq(pclose(pipe), 0);
    ck_assert_msg(root != NULL, "%s: %s", path, error.text);
    return root;
}

int64_t stack_submit(const struct stack *stack, const char *file, const char *const *sets)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s%s", file[0] == '/' ? "" : PAL_SOURCE_DIR "/", file);
    const char *words[WORDS] = {"submit", path, "--json"};
    size_t n = 3;
    for (size_t i = 0; sets && sets[i]; i++) {
        words[n++] = "--set";
        words[n++] = sets[i];
    }
    AUTO(buf) out = {0};
    int code = stack_pal(stack, &out, words);
    ck_assert_msg(code == 0, "submit %s: %s", file, buf_chars(&out));
    const char *answer = strchr(buf_chars(&out), '{'); /* behind what was said on the way */
    json_t *root = answer ? json_loads(answer, 0, NULL) : NULL;
    int64_t id = json_integer_value(json_object_get(root, "id"));
    json_decref(root);
    ck_assert_int_gt(id, 0);
    return id;
}

void stack_wait(const struct stack *stack, int64_t job, int seconds, char *ret)
{
    char path[64];
    double end = stack_clock() + STACK_SLOW * seconds;
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld", (long long)job);
    for (;;) {
        json_t *root = stack_get(stack, path);
        const char *state = json_string_value(json_object_get(root, "state"));
        (void)snprintf(ret, 32, "%s", state ? state : "");
        json_decref(root);
        if (strcmp(ret, "succeeded") == 0 || strcmp(ret, "failed") == 0 || strcmp(ret, "cancelled") == 0) return;
        ck_assert_msg(stack_clock() < end, "job %lld is %s after %d s", (long long)job, ret, seconds);
        stack_pause(100);
    }
}

int stack_pid(const struct stack *stack, const char *service)
{
    json_t *rows = stack_get(stack, "/v1/workers"), *row = NULL;
    size_t index = 0;
    int pid = 0;
    json_array_foreach(rows, index, row)
    {
        bool alive = strcmp(json_string_value(json_object_get(row, "state")), "alive") == 0;
        double silent = json_number_value(json_object_get(row, "silent_seconds"));
        if (alive && silent < 2.5 && strcmp(json_string_value(json_object_get(row, "service")), service) == 0)
            pid = (int)json_integer_value(json_object_get(row, "pid"));
    }
    json_decref(rows);
    return pid;
}

void stack_verify(const struct stack *stack, int64_t job)
{
    char id[32];
    AUTO(buf) out = {0};
    (void)snprintf(id, sizeof id, "%lld", (long long)job);
    const char *const words[] = {"verify", id, NULL};
    ck_assert_msg(stack_pal(stack, &out, words) == 0, "%s", buf_chars(&out));
}

double stack_success(const struct stack *stack, int64_t job, bool first)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld/evaluations", (long long)job);
    json_t *rows = stack_get(stack, path);
    size_t count = json_array_size(rows);
    ck_assert_uint_ge(count, 2);
    const json_t *row = json_array_get(rows, first ? 0 : count - 1);
    double rate = json_number_value(json_object_get(row, "successes")) / json_number_value(json_object_get(row, "done"));
    json_decref(rows);
    return rate;
}

double stack_metric(const struct stack *stack, int64_t job, const char *name)
{
    char path[160];
    size_t i = 0, count = 0;
    double most = 0;
    (void)snprintf(path, sizeof path, "/v1/jobs/%lld/metrics?names=%s", (long long)job, name);
    json_t *rows = stack_get(stack, path), *row = NULL;
    json_array_foreach(rows, i, row)
    {
        const json_t *value = json_object_get(json_object_get(row, "values"), name);
        if (!value) continue;
        if (count++ == 0 || json_number_value(value) > most) most = json_number_value(value);
    }
    json_decref(rows);
    ck_assert_msg(count > 0, "no update has the metric %s", name);
    return most;
}

json_t *stack_newest(const struct stack *stack, int64_t job, const char *filter)
{
    char path[128];
    (void)snprintf(path, sizeof path, "/v1/jobs/%d/episodes?limit=1&%s", (int)job, filter);
    json_t *rows = stack_get(stack, path);
    ck_assert_msg(json_array_size(rows) == 1, "no episode with %s", filter);
    int64_t id = json_integer_value(json_object_get(json_array_get(rows, 0), "id"));
    json_decref(rows);
    (void)snprintf(path, sizeof path, "/v1/jobs/%d/episodes/%d", (int)job, (int)id);
    return stack_get(stack, path);
}

static double newest_counter(const struct stack *stack, const char *name)
{
    double found = -1;
    json_t *rows = stack_get(stack, "/v1/workers"), *row = NULL;
    size_t i = 0;
    json_array_foreach(rows, i, row)
    {
        const char *service = json_string_value(json_object_get(row, "service"));
        const json_t *value = json_object_get(json_object_get(row, "counters"), name);
        if (service && strcmp(service, "rollout") == 0 && json_is_number(value)) found = json_number_value(value);
    }
    json_decref(rows);
    return found;
}

void stack_counted(const struct stack *stack, const char *name, double least)
{
    for (double end = stack_clock() + STACK_SLOW * 10; newest_counter(stack, name) <= least; stack_pause(100))
        ck_assert_msg(stack_clock() < end, "%s stays at %g", name, newest_counter(stack, name));
}

/* A test that failed ended before its stack_remove: says what its services said last, and stops them. */
static void sweep(void)
{
    char command[512];
    (void)snprintf(command, sizeof command,
                   "for d in %s/*/; do [ -d \"$d\" ] || continue; echo \"left behind: $d\"; tail -n 6 \"$d\"logs/*.log; "
                   "'%s/pal' --state \"${d%%/}\" down; done; rm -rf '%s'",
                   folder, PAL_BIN_DIR, folder);
    (void)fflush(stdout);
    if (system(command) != 0) (void)fprintf(stderr, "%s may not be gone\n", folder);
}

int stack_run(Suite *suite)
{
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    sweep();
    return failed == 0 ? 0 : 1;
}
