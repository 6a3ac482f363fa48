/* LABELS: unit
 * cluster: slots, tokens, repeats, deadlines and time to live over built-in environments and over real child processes
 * that hang, crash, babble and dawdle; nothing is left running afterwards. This program is its own child (--child). */
#include "env/env.h"
#include "services/common/run/log.h"
#include "services/env/cluster.h"
#include "services/env/launch.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOB         7
#define SEEN_MAX    512
#define PATIENCE_MS 20000

/* ---- the child: does what the task or the action says ---- */

static void pause_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

static void misbehave(const char *line)
{
    if (strstr(line, "hang")) pause_ms(1000000);
    if (strstr(line, "slow")) pause_ms(300);
    if (strstr(line, "crash")) {
        (void)fputs("first words\nlast words\n", stderr);
        exit(3);
    }
    if (strstr(line, "abort")) (void)raise(SIGKILL);
    if (strstr(line, "garbage")) (void)puts("Traceback (most recent call last):");
    if (strstr(line, "type")) (void)puts("{\"text\":1}");
    if (strstr(line, "refuse")) (void)puts("{\"error\":\"no such task\"}");
    if (strstr(line, "twice")) (void)puts("{\"text\":\"a\"}\n{\"text\":\"b\"}");
    if (strstr(line, "again")) {
        (void)puts("{\"text\":\"a\",\"reward\":1,\"terminated\":true}");
        (void)fflush(stdout);
        pause_ms(50);
        (void)puts("{\"text\":\"a\",\"reward\":1,\"terminated\":true}");
    }
    if (strstr(line, "deaf")) (void)fclose(stdout), pause_ms(1000000);
    if (strstr(line, "end")) (void)puts("{\"text\":\"bye\",\"reward\":1,\"terminated\":true}");
    if (strstr(line, "long")) {
        for (int i = 0; i < 70000; i++) (void)putchar('x');
        (void)putchar('\n');
    }
    if (strstr(line, "loud")) {
        for (int i = 0; i < 1000; i++) (void)fputs("loud words\n", stderr);
    }
    if (strstr(line, "fork") && fork() == 0) pause_ms(1000000);
}

static int child_main(void)
{
    char line[16384];
    for (int asked = 0; fgets(line, sizeof line, stdin); asked++) {
        bool said = strstr(line, "garbage") || strstr(line, "type") || strstr(line, "refuse") || strstr(line, "twice") ||
                    strstr(line, "long") || strstr(line, "end") || strstr(line, "again");
        if (strstr(line, "\"close\"")) return 0;
        misbehave(line);
        if (!said)
            (void)printf("{\"text\":\"%d %d\"%s}\n", (int)getpid(), asked,
                         strstr(line, "expert\":true") ? ",\"expert\":\"go\"" : "");
        (void)fflush(stdout);
        if (strstr(line, "once")) return 0;
    }
    return 0;
}

/* ---- the harness ---- */

struct seen {
    char peer[64];
    uint64_t episode, token, step;
    char text[512], error[32], detail[512], expert[64];
    size_t text_size;
    double reward, env_ms;
    bool terminated;
};

struct stage {
    uv_loop_t loop;
    struct cluster *cluster;
    struct provider_counters children;
    struct seen seen[SEEN_MAX];
    size_t count, taken;
    uv_timer_t patience;
    bool impatient;
};

static void copy(char *to, size_t size, struct span from)
{
    size_t n = from.size < size ? from.size : size - 1;
    if (n) memcpy(to, from.data, n);
    to[n] = '\0';
}

static void on_observation(void *ctx, const char *peer, uint64_t job, const struct wire_observation *o)
{
    struct stage *stage = ctx;
    ck_assert_uint_eq(job, JOB);
    ck_assert_uint_lt(stage->count, SEEN_MAX);
    struct seen *seen = &stage->seen[stage->count++];
    *seen = (struct seen){.episode = o->episode,
                          .token = o->token,
                          .step = o->step,
                          .reward = o->reward,
                          .env_ms = o->env_ms,
                          .terminated = o->terminated,
                          .text_size = o->text.size};
    copy(seen->peer, sizeof seen->peer, span_text(peer));
    copy(seen->text, sizeof seen->text, o->text);
    copy(seen->error, sizeof seen->error, o->error);
    copy(seen->detail, sizeof seen->detail, o->detail);
    copy(seen->expert, sizeof seen->expert, o->expert);
    enum outcome outcome;
    if (o->error.size) {
        ck_assert_msg(outcome_find(o->error, &outcome) && outcome_failure(outcome), "%s", seen->error);
        ck_assert_msg(o->reward == 0 && !o->terminated && o->text.size == 0, "a failure with a reward");
    }
}

static void on_patience(uv_timer_t *timer)
{
    struct stage *stage = timer->data;
    stage->impatient = true;
}

static void stage_open(struct stage *stage)
{
    *stage = (struct stage){0};
    ck_assert_int_eq(uv_loop_init(&stage->loop), 0);
    ck_assert_int_eq(uv_timer_init(&stage->loop, &stage->patience), 0);
    stage->patience.data = stage;
    uv_unref((uv_handle_t *)&stage->patience);
    struct cluster_events events = {stage, on_observation};
    ck_assert_int_eq(cluster_new(&stage->cluster, &stage->loop, &stage->children, events), ERR_ok);
}

static void stage_job(struct stage *stage, const char *builtin, int64_t slots, int64_t timeout_ms)
{
    static char self[] = "/proc/self/exe", flag[] = "--child";
    struct job_spec *spec = calloc(1, sizeof *spec);
    struct job_environment *environment = &spec->environments[0];
    spec->environment_count = 1;
    environment->provider = builtin ? JOB_PROVIDER_BUILTIN : JOB_PROVIDER_PROCESS;
    (void)snprintf(environment->name, sizeof environment->name, "%s", builtin ? builtin : "child");
    environment->slots = slots;
    environment->step_timeout_ms = timeout_ms;
    environment->command[0] = self;
    environment->command[1] = flag;
    ck_assert_int_eq(cluster_job_start(stage->cluster, JOB, spec), ERR_ok);
    free(spec);
}

/* Turns the loop until n more observations are there. */
static void stage_wait(struct stage *stage, size_t n)
{
    stage->impatient = false;
    (void)uv_timer_start(&stage->patience, on_patience, PATIENCE_MS, 0);
    while (stage->count < stage->taken + n && !stage->impatient) (void)uv_run(&stage->loop, UV_RUN_ONCE);
    (void)uv_timer_stop(&stage->patience);
    ck_assert_msg(stage->count >= stage->taken + n, "waited in vain for %zu answers", n);
}

static const struct seen *stage_next(struct stage *stage)
{
    stage_wait(stage, 1);
    return &stage->seen[stage->taken++];
}

static void stage_silent(struct stage *stage)
{
    (void)uv_run(&stage->loop, UV_RUN_NOWAIT);
    ck_assert_uint_eq(stage->count, stage->taken);
}

/* Ends everything: no child, no zombie, no handle stays. */
static void stage_close(struct stage *stage)
{
    cluster_free(&stage->cluster);
    ck_assert_ptr_null(stage->cluster);
    uv_close((uv_handle_t *)&stage->patience, NULL);
    ck_assert_int_eq(uv_run(&stage->loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&stage->loop), 0);
    ck_assert_uint_eq(stage->children.children, 0);
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
    ck_assert_int_eq(errno, ECHILD);
    ck_assert_uint_eq(stage->count, stage->taken);
}

static void reset_with(struct stage *stage, uint64_t episode, uint64_t token, const char *task, uint64_t ttl_ms,
                       uint64_t remaining_ms)
{
    struct wire_reset_item item = {
        .episode = episode, .token = token, .task_text = span_text(task), .expert = true, .noise_seed = 1, .ttl_ms = ttl_ms};
    cluster_acquire_reset(stage->cluster, "worker", JOB, &item, remaining_ms);
}

static void reset(struct stage *stage, uint64_t episode, uint64_t token, const char *task)
{
    reset_with(stage, episode, token, task, 0, 0);
}

static void act(struct stage *stage, uint64_t episode, uint64_t token, uint64_t step, const char *action)
{
    struct wire_action_item item = {.episode = episode, .token = token, .step = step, .action = span_text(action)};
    cluster_action(stage->cluster, "worker", JOB, &item, 0);
}

static struct cluster_counters counters(const struct stage *stage)
{
    struct cluster_counters ret;
    cluster_read_counters(stage->cluster, &ret);
    return ret;
}

static bool alive(int pid)
{
    char path[64], state = 'Z';
    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) state = 'Z';
    (void)fclose(file);
    return state != 'Z';
}

/* ---- built-in environments ---- */

START_TEST(builtin_episode_by_its_expert)
{
    static struct stage stage;
    struct env_task task;
    stage_open(&stage);
    stage_job(&stage, "adventure", 4, 1000);
    ck_assert_int_eq(env_find("adventure")->generate(2, 1, NULL, &task), ERR_ok);
    reset(&stage, 1, 10, task.text);
    struct seen last = *stage_next(&stage);
    ck_assert(strncmp(last.text, "find gem\n", 9) == 0);
    for (uint64_t step = 0; !last.terminated; step++) {
        ck_assert_uint_eq(last.step, step);
        ck_assert_str_eq(last.error, "");
        ck_assert_str_ne(last.expert, "");
        act(&stage, 1, 10, step, last.expert);
        last = *stage_next(&stage);
        ck_assert_str_eq(last.peer, "worker");
    }
    ck_assert_double_eq(last.reward, 1);
    ck_assert_str_eq(last.text, "done");
    ck_assert_uint_eq(counters(&stage).seated, 0);

    /* the end is said again when asked again; another step is refused */
    act(&stage, 1, 10, last.step - 1, "take gem");
    ck_assert_double_eq(stage_next(&stage)->reward, 1);
    act(&stage, 1, 10, last.step, "take gem");
    ck_assert_str_eq(stage_next(&stage)->error, "cancelled");
    stage_close(&stage);
}
END_TEST

START_TEST(tokens_and_repeats)
{
    static struct stage stage;
    struct env_task task;
    stage_open(&stage);
    stage_job(&stage, "adventure", 4, 1000);
    ck_assert_int_eq(env_find("adventure")->generate(3, 1, NULL, &task), ERR_ok);
    reset(&stage, 1, 10, task.text);
    struct seen first = *stage_next(&stage);
    reset(&stage, 1, 10, task.text);
    ck_assert_str_eq(stage_next(&stage)->text, first.text);
    act(&stage, 1, 10, 0, "dance");
    ck_assert_str_eq(stage_next(&stage)->text, "no");
    act(&stage, 1, 10, 0, first.expert);
    ck_assert_str_eq(stage_next(&stage)->text, "no"); /* not done twice */
    act(&stage, 1, 10, 5, "dance");
    ck_assert_str_eq(stage_next(&stage)->error, "cancelled");
    ck_assert_uint_eq(counters(&stage).seated, 1); /* a wrong step costs the asker, not the slot */

    act(&stage, 1, 9, 1, "dance");
    ck_assert_str_eq(stage_next(&stage)->error, "cancelled");
    reset(&stage, 1, 9, task.text);
    ck_assert_str_eq(stage_next(&stage)->error, "cancelled");
    act(&stage, 1, 11, 1, "dance");
    ck_assert_str_eq(stage_next(&stage)->error, "env_crash");
    act(&stage, 2, 1, 0, "dance");
    ck_assert_str_eq(stage_next(&stage)->error, "env_crash");
    cluster_release(stage.cluster, JOB, 1, 9);
    ck_assert_uint_eq(counters(&stage).seated, 1);

    reset(&stage, 1, 12, task.text); /* the newer token takes the episode over */
    ck_assert_uint_eq(stage_next(&stage)->token, 12);
    act(&stage, 1, 10, 1, "dance");
    ck_assert_str_eq(stage_next(&stage)->error, "cancelled");
    ck_assert_uint_eq(counters(&stage).seated, 1);
    cluster_release(stage.cluster, JOB, 1, 12);
    ck_assert_uint_eq(counters(&stage).seated, 0);
    reset(&stage, 1, 11, task.text); /* remembered after the release */
    ck_assert_str_eq(stage_next(&stage)->error, "cancelled");
    reset(&stage, 1, 12, task.text);
    ck_assert_str_eq(stage_next(&stage)->error, "cancelled");
    reset(&stage, 3, 13, "{\"level\":3}");
    ck_assert_str_eq(stage_next(&stage)->error, "env_error");
    ck_assert_ptr_nonnull(strstr(stage.seen[stage.taken - 1].detail, "seed"));
    stage_close(&stage);
}
END_TEST

START_TEST(slots_are_bounded_and_queued)
{
    static struct stage stage;
    struct env_task task;
    stage_open(&stage);
    ck_assert_int_eq(env_find("lake")->generate(1, 1, NULL, &task), ERR_ok);
    for (uint64_t e = 1; e <= 5; e++) reset(&stage, e, e, task.text); /* before the job is known */
    reset_with(&stage, 9, 9, task.text, 0, 30);
    stage_silent(&stage);
    ck_assert_uint_eq(counters(&stage).waiting, 6);
    ck_assert_str_eq(stage_next(&stage)->error, "env_timeout");
    stage_job(&stage, "lake", 2, 1000);
    stage_wait(&stage, 2);
    stage.taken += 2;
    stage_silent(&stage);
    ck_assert_uint_eq(counters(&stage).waiting, 3);
    for (uint64_t e = 1; e <= 5; e++) {
        cluster_release(stage.cluster, JOB, e, e);
        if (e > 3) continue;
        ck_assert_uint_eq(stage_next(&stage)->episode, e + 2);
    }
    ck_assert_uint_eq(counters(&stage).seated, 0);
    ck_assert_uint_eq(counters(&stage).waiting, 0);

    /* many broken tasks at once do not nest */
    for (uint64_t e = 100; e < 400; e++) reset(&stage, e, e, "{}");
    stage_wait(&stage, 300);
    for (size_t i = 0; i < 300; i++) ck_assert_str_eq(stage.seen[stage.taken++].error, "env_error");

    struct wire_reset_item item = {.episode = 500, .token = 500, .environment = 3, .task_text = span_text("{}")};
    cluster_acquire_reset(stage.cluster, "worker", JOB, &item, 0);
    ck_assert_str_eq(stage_next(&stage)->error, "env_error");
    stage_close(&stage);
}
END_TEST

START_TEST(time_to_live_and_lost_peers)
{
    static struct stage stage;
    struct env_task task;
    stage_open(&stage);
    stage_job(&stage, "lake", 8, 1000);
    ck_assert_int_eq(env_find("lake")->generate(1, 1, NULL, &task), ERR_ok);
    reset_with(&stage, 1, 1, task.text, 40, 0);
    reset(&stage, 2, 2, task.text);
    ck_assert_str_eq(stage_next(&stage)->error, "");
    ck_assert_str_eq(stage_next(&stage)->error, "");
    const struct seen *expired = stage_next(&stage);
    ck_assert_uint_eq(expired->episode, 1);
    ck_assert_str_eq(expired->error, "timeout");
    ck_assert_uint_eq(counters(&stage).seated, 1);
    act(&stage, 1, 1, 0, "go north"); /* the failure is repeated */
    ck_assert_str_eq(stage_next(&stage)->error, "timeout");

    cluster_peer_lost(stage.cluster, "another");
    ck_assert_uint_eq(counters(&stage).seated, 1);
    cluster_peer_lost(stage.cluster, "worker");
    ck_assert_uint_eq(counters(&stage).seated, 0);
    ck_assert_uint_eq(counters(&stage).peer_lost, 1);
    stage_silent(&stage);

    reset(&stage, 3, 3, task.text);
    ck_assert_str_eq(stage_next(&stage)->error, "");
    cluster_job_stop(stage.cluster, JOB);
    ck_assert_uint_eq(counters(&stage).seated, 0);
    act(&stage, 3, 3, 0, "go north");
    ck_assert_str_eq(stage_next(&stage)->error, "env_crash");
    stage_close(&stage);
}
END_TEST

START_TEST(slots_that_are_not_named_are_free)
{
    static struct stage stage;
    struct env_task task;
    stage_open(&stage);
    stage_job(&stage, "lake", 2, 1000);
    ck_assert_int_eq(env_find("lake")->generate(1, 1, NULL, &task), ERR_ok);
    for (uint64_t episode = 1; episode <= 3; episode++) reset(&stage, episode, episode, task.text);
    ck_assert_uint_eq(stage_next(&stage)->episode, 1);
    ck_assert_uint_eq(stage_next(&stage)->episode, 2);
    const uint64_t held[] = {3, 2}, older[] = {3, 1}; /* episode 1 was released in a message that was lost */
    cluster_held(stage.cluster, "another", JOB, NULL, NULL, 0);
    cluster_held(stage.cluster, "worker", JOB + 1, NULL, NULL, 0);
    ck_assert_uint_eq(counters(&stage).seated, 2);
    cluster_held(stage.cluster, "worker", JOB, held, held, 2);
    ck_assert_uint_eq(stage_next(&stage)->episode, 3); /* it waited for that slot */
    ck_assert_uint_eq(counters(&stage).seated, 2);
    cluster_held(stage.cluster, "worker", JOB, held, older, 2); /* 2 with another token than it was asked for */
    ck_assert_uint_eq(counters(&stage).seated, 1);
    ck_assert_uint_eq(counters(&stage).released, 2);
    stage_silent(&stage);
    stage_close(&stage);
}
END_TEST

/* ---- programs ---- */

START_TEST(children_are_kept_warm)
{
    static struct stage stage;
    stage_open(&stage);
    stage_job(&stage, NULL, 2, 5000);
    int pid = 0;
    for (uint64_t e = 1; e <= 5; e++) {
        reset(&stage, e, e, "{}");
        const struct seen *seen = stage_next(&stage);
        ck_assert_str_eq(seen->error, "");
        ck_assert_str_eq(seen->expert, "go");
        int now = (int)strtol(seen->text, NULL, 10);
        ck_assert_int_eq(pid ? pid : now, now);
        pid = now;
        act(&stage, e, e, 0, "hello");
        ck_assert_str_eq(stage_next(&stage)->error, "");
        act(&stage, e, e, 1, e % 2 ? "end" : "hello");
        ck_assert_int_eq(stage_next(&stage)->terminated, e % 2);
        cluster_release(stage.cluster, JOB, e, e);
    }
    ck_assert_uint_eq(counters(&stage).children_started, 1);
    reset(&stage, 8, 8, "{\"do\":\"refuse\"}"); /* an error reply keeps to the protocol */
    ck_assert_str_eq(stage_next(&stage)->error, "env_error");
    ck_assert_str_eq(stage.seen[stage.taken - 1].detail, "no such task");
    ck_assert_uint_eq(counters(&stage).children, 1);
    ck_assert(alive(pid));
    stage_close(&stage);
    ck_assert(!alive(pid));
}
END_TEST

static const struct {
    const char *task, *action; /* where it goes wrong; action NULL: at the reset */
    const char *error, *detail;
} wrongs[] = {
    {"{\"do\":\"hang\"}", NULL, "env_timeout", "no answer within"},
    {"{}", "hang", "env_timeout", "no answer within 300 ms"},
    {"{\"do\":\"crash\"}", NULL, "env_crash", "status 3: last words"},
    {"{}", "crash", "env_crash", "status 3: last words"},
    {"{}", "abort", "env_crash", "signal 9"},
    {"{}", "deaf", "env_timeout", "no answer within"},
    {"{\"do\":\"garbage\"}", NULL, "env_error", "Traceback"},
    {"{}", "garbage", "env_error", "Traceback"},
    {"{}", "type", "env_error", "text: not a string"},
    {"{}", "long", "env_error", "longer than 65536 bytes"},
    {"{}", "refuse", "env_error", "no such task"},
    {"{\"do\":\"end\"}", NULL, "env_error", "over at its reset"},
    {"not a task", NULL, "env_error", "task: not a JSON object"},
};

START_TEST(failures_are_typed_and_replaced)
{
    static struct stage stage;
    stage_open(&stage);
    stage_job(&stage, NULL, 1, 300);
    /* asked for less than the start of a fresh program allows, so that the hanging reset ends soon */
    reset_with(&stage, 1, 1, wrongs[_i].task, 0, wrongs[_i].action ? 0 : 1500);
    const struct seen *seen = stage_next(&stage);
    int pid = (int)strtol(seen->text, NULL, 10);
    if (wrongs[_i].action) {
        ck_assert_msg(!seen->error[0], "%s: %s", seen->error, seen->detail);
        act(&stage, 1, 1, 0, wrongs[_i].action);
        seen = stage_next(&stage);
    }
    ck_assert_str_eq(seen->error, wrongs[_i].error);
    ck_assert_msg(strstr(seen->detail, wrongs[_i].detail) != NULL, "%s", seen->detail);
    /* the slot is free again and a new child plays in it */
    reset(&stage, 2, 2, "{}");
    seen = stage_next(&stage);
    ck_assert_msg(!seen->error[0], "%s: %s", seen->error, seen->detail);
    struct cluster_counters now = counters(&stage);
    ck_assert_uint_eq(now.errors + now.crashes + now.timeouts, 1);
    ck_assert_uint_eq(now.seated, 1);
    act(&stage, 2, 2, 0, "hello");
    ck_assert_str_eq(stage_next(&stage)->error, "");
    stage_close(&stage);
    if (pid) ck_assert(!alive(pid));
}
END_TEST

START_TEST(unasked_lines_break_the_protocol)
{
    static struct stage stage;
    stage_open(&stage);
    stage_job(&stage, NULL, 1, 2000);
    reset(&stage, 1, 1, "{}");
    ck_assert_str_eq(stage_next(&stage)->error, "");
    act(&stage, 1, 1, 0, "twice");
    ck_assert_str_eq(stage_next(&stage)->error, "env_error");
    ck_assert_ptr_nonnull(strstr(stage.seen[stage.taken - 1].detail, "nobody asked"));
    /* the end of an episode said again is not the start of the next one */
    reset(&stage, 2, 2, "{}");
    ck_assert_str_eq(stage_next(&stage)->error, "");
    act(&stage, 2, 2, 0, "again");
    ck_assert(stage_next(&stage)->terminated);
    pause_ms(150); /* it lies there, and the loop has not seen it */
    reset(&stage, 3, 3, "{}");
    ck_assert(!stage_next(&stage)->terminated);
    ck_assert_str_eq(stage.seen[stage.taken - 1].error, "env_error");
    ck_assert_ptr_nonnull(strstr(stage.seen[stage.taken - 1].detail, "nobody asked"));
    reset(&stage, 4, 4, "{}");
    ck_assert_str_eq(stage_next(&stage)->error, "");
    stage_close(&stage);
}
END_TEST

START_TEST(slow_resets_and_short_lives)
{
    static struct stage stage;
    stage_open(&stage);
    stage_job(&stage, NULL, 1, 200);
    reset(&stage, 1, 1, "{\"do\":\"slow\"}"); /* a fresh program may take longer than a step */
    ck_assert_str_eq(stage_next(&stage)->error, "");
    ck_assert_double_ge(stage.seen[stage.taken - 1].env_ms, 290);
    cluster_release(stage.cluster, JOB, 1, 1);
    reset(&stage, 2, 2, "{\"do\":\"slow\"}"); /* a warm one may not */
    ck_assert_str_eq(stage_next(&stage)->error, "env_timeout");
    /* a program that plays one episode and ends is started again */
    for (uint64_t e = 3; e <= 5; e++) {
        reset(&stage, e, e, "{\"do\":\"once\"}");
        const struct seen *seen = stage_next(&stage);
        ck_assert_msg(!seen->error[0], "%s: %s", seen->error, seen->detail);
        cluster_release(stage.cluster, JOB, e, e);
    }
    /* a released slot in the middle of a call: its child is killed, nothing is said */
    reset(&stage, 6, 6, "{}");
    (void)stage_next(&stage);
    act(&stage, 6, 6, 0, "hang");
    cluster_release(stage.cluster, JOB, 6, 6);
    reset(&stage, 7, 7, "{}");
    ck_assert_uint_eq(stage_next(&stage)->episode, 7);
    /* close while one hangs */
    act(&stage, 7, 7, 0, "hang");
    stage_close(&stage);
}
END_TEST

START_TEST(noise_on_stderr_and_families)
{
    static struct stage stage;
    stage_open(&stage);
    stage_job(&stage, NULL, 1, 2000);
    reset(&stage, 1, 1, "{\"do\":\"loud fork\"}");
    const struct seen *seen = stage_next(&stage);
    ck_assert_str_eq(seen->error, "");
    int leader = (int)strtol(seen->text, NULL, 10);
    act(&stage, 1, 1, 0, "hello");
    (void)stage_next(&stage);
    ck_assert_uint_ge(counters(&stage).stderr_dropped, 900);
    ck_assert_int_eq(kill(-leader, 0), 0);
    stage_close(&stage);
    for (int i = 0; kill(-leader, 0) == 0 && i < 500; i++) pause_ms(10); /* the grandchild is reaped by somebody else */
    ck_assert(!alive(leader));
}
END_TEST

START_TEST(commands_that_cannot_run)
{
    static struct stage stage;
    static char missing[] = "/nonexistent/environment";
    stage_open(&stage);
    struct job_spec *spec = calloc(1, sizeof *spec);
    spec->environment_count = 1;
    spec->environments[0] = (struct job_environment){.provider = JOB_PROVIDER_PROCESS, .slots = 1, .step_timeout_ms = 100};
    ck_assert_int_eq(cluster_job_start(stage.cluster, JOB, spec), ERR_invalid);
    spec->environments[0].command[0] = missing;
    ck_assert_int_eq(cluster_job_start(stage.cluster, JOB, spec), ERR_ok);
    reset(&stage, 1, 1, "{}");
    ck_assert_str_eq(stage_next(&stage)->error, "env_crash");
    ck_assert_ptr_nonnull(strstr(stage.seen[stage.taken - 1].detail, "No such file"));
    cluster_job_stop(stage.cluster, JOB);
    spec->environments[0].provider = JOB_PROVIDER_BUILTIN;
    ck_assert_int_eq(cluster_job_start(stage.cluster, JOB, spec), ERR_not_found);
    free(spec);
    stage_close(&stage);
}
END_TEST

/* kill -9 of the cluster takes its children along. */
START_TEST(children_die_with_the_cluster)
{
    int tell[2];
    ck_assert_int_eq(pipe(tell), 0);
    pid_t cluster = fork();
    if (cluster == 0) {
        static struct stage stage;
        stage_open(&stage);
        stage_job(&stage, NULL, 1, 5000);
        reset(&stage, 1, 1, "{}");
        int pid = (int)strtol(stage_next(&stage)->text, NULL, 10);
        if (write(tell[1], &pid, sizeof pid) != sizeof pid) _exit(1);
        (void)raise(SIGKILL);
    }
    int pid = 0;
    ck_assert_int_eq(read(tell[0], &pid, sizeof pid), sizeof pid);
    ck_assert_int_eq(waitpid(cluster, NULL, 0), cluster);
    for (int i = 0; alive(pid) && i < 500; i++) pause_ms(10);
    ck_assert(!alive(pid));
}
END_TEST

int main(int argc, char **argv)
{
    launch_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], "--child") == 0) return child_main();
    (void)setenv("PAL_LOG", "error", 0);
    log_open("test");
    (void)signal(SIGPIPE, SIG_IGN);
    Suite *suite = suite_create("cluster");
    TCase *tcase = tcase_create("cluster");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, builtin_episode_by_its_expert);
    tcase_add_test(tcase, tokens_and_repeats);
    tcase_add_test(tcase, slots_are_bounded_and_queued);
    tcase_add_test(tcase, time_to_live_and_lost_peers);
    tcase_add_test(tcase, slots_that_are_not_named_are_free);
    tcase_add_test(tcase, children_are_kept_warm);
    tcase_add_loop_test(tcase, failures_are_typed_and_replaced, 0, (int)(sizeof wrongs / sizeof *wrongs));
    tcase_add_test(tcase, unasked_lines_break_the_protocol);
    tcase_add_test(tcase, slow_resets_and_short_lives);
    tcase_add_test(tcase, noise_on_stderr_and_families);
    tcase_add_test(tcase, commands_that_cannot_run);
    tcase_add_test(tcase, children_die_with_the_cluster);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
