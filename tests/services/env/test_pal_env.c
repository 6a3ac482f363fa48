/* LABELS: system
 * pal-env as a process: it says hello, hosts an assigned job, plays batches of episodes for a worker over the bus, reports
 * a job it cannot host, beats with its figures, and leaves nothing behind when it is told to stop or is killed. */
#include "env/env.h"
#include "services/common/bus/bus.h"
#include "services/common/run/rundir.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 30000
#define EPISODES    24

struct episode {
    uint64_t step;
    double reward;
    bool over;
    char error[32], expert[64], hint[64];
};

struct stage {
    uv_loop_t loop;
    char state[256], run[256];
    struct bus *data, *worker;
    uv_process_t process;
    uv_timer_t patience;
    bool impatient, ended;
    int64_t status;
    char env[BUS_PEER_BYTES]; /* pal-env's identity, known from its hello */
    size_t hellos, beats, failures, answers, messages;
    double seated, children;
    struct episode episodes[EPISODES];
};

static void on_data(void *ctx, const char *peer, enum wire_id id, const void *message)
{
    struct stage *stage = ctx;
    if (id == WIRE_hello) {
        const struct wire_hello *hello = message;
        ck_assert(span_is(hello->service, "env"));
        (void)snprintf(stage->env, sizeof stage->env, "%s", peer);
        stage->hellos++;
    } else if (id == WIRE_heartbeat) {
        const struct wire_heartbeat *beat = message;
        for (size_t i = 0; i < beat->counters_count; i++) {
            if (span_is(beat->counters[i].name, "seated")) stage->seated = beat->counters[i].value;
            if (span_is(beat->counters[i].name, "children")) stage->children = beat->counters[i].value;
        }
        stage->beats++;
    } else if (id == WIRE_job_failed) {
        stage->failures++;
    }
}

static void on_worker(void *ctx, const char *peer, enum wire_id id, const void *message)
{
    (void)peer;
    struct stage *stage = ctx;
    ck_assert_int_eq(id, WIRE_observations);
    const struct wire_observations *m = message;
    stage->messages++;
    for (size_t i = 0; i < m->items_count; i++) {
        const struct wire_observation *o = &m->items[i];
        ck_assert_uint_lt(o->episode, EPISODES);
        struct episode *e = &stage->episodes[o->episode];
        e->step = o->step;
        e->reward = o->reward;
        e->over = o->terminated || o->error.size;
        (void)snprintf(e->error, sizeof e->error, "%.*s", SPAN_ARG(o->error));
        (void)snprintf(e->expert, sizeof e->expert, "%.*s", SPAN_ARG(o->expert));
        if (o->step == 0 || o->hint.size) (void)snprintf(e->hint, sizeof e->hint, "%.*s", SPAN_ARG(o->hint));
        stage->answers++;
    }
}

static void on_patience(uv_timer_t *timer)
{
    struct stage *stage = timer->data;
    stage->impatient = true;
}

static void on_ended(uv_process_t *process, int64_t status, int number)
{
    struct stage *stage = process->data;
    stage->ended = true;
    stage->status = number ? -number : status;
    uv_close((uv_handle_t *)process, NULL);
}

#define stage_until(stage, condition)                                                                                        \
    do {                                                                                                                     \
        (stage)->impatient = false;                                                                                          \
        (void)uv_timer_start(&(stage)->patience, on_patience, PATIENCE_MS, 0);                                               \
        while (!(condition) && !(stage)->impatient) (void)uv_run(&(stage)->loop, UV_RUN_ONCE);                               \
        ck_assert_msg(!(stage)->impatient, "waited in vain: %s", #condition);                                                \
        (void)uv_timer_stop(&(stage)->patience);                                                                             \
    } while (0)

static void stage_open(struct stage *stage)
{
    static char program[] = PAL_BIN_DIR "/pal-env", option[] = "--state", root[] = PAL_SOURCE_DIR;
    char endpoint[512], *words[] = {program, option, stage->state, NULL};
    *stage = (struct stage){0};
    (void)snprintf(stage->state, sizeof stage->state, "/tmp/pal-test-env-%d", (int)getpid());
    ck_assert_int_eq(rundir_path(stage->state, stage->run, sizeof stage->run), ERR_ok);
    ck_assert_int_eq(rundir_make(stage->run), ERR_ok);
    ck_assert_int_eq(uv_loop_init(&stage->loop), 0);
    (void)uv_timer_init(&stage->loop, &stage->patience);
    stage->patience.data = stage->process.data = stage;
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s/data.sock", stage->run);
    ck_assert_int_eq(
        bus_listen(&stage->data, &stage->loop, endpoint, (struct bus_events){.ctx = stage, .on_message = on_data}), ERR_ok);
    (void)snprintf(endpoint, sizeof endpoint, "ipc://%s/env.sock", stage->run);
    ck_assert_int_eq(bus_connect(&stage->worker, &stage->loop, endpoint, "rollout-1",
                                 (struct bus_events){.ctx = stage, .on_message = on_worker}),
                     ERR_ok);
    uv_stdio_container_t stdio[3] = {{.flags = UV_IGNORE}, {.flags = UV_IGNORE}, {.flags = UV_INHERIT_FD, .data.fd = 2}};
    uv_process_options_t options = {
        .file = program, .args = words, .cwd = root, .exit_cb = on_ended, .stdio = stdio, .stdio_count = 3};
    ck_assert_int_eq(uv_spawn(&stage->loop, &stage->process, &options), 0);
    stage_until(stage, stage->hellos == 1);
}

static void stage_close(struct stage *stage, int number)
{
    ck_assert_int_eq(uv_process_kill(&stage->process, number), 0);
    stage_until(stage, stage->ended);
    ck_assert_int_eq(stage->status, number == SIGTERM ? 0 : -number);
    bus_free(&stage->data);
    bus_free(&stage->worker);
    uv_close((uv_handle_t *)&stage->patience, NULL);
    ck_assert_int_eq(uv_run(&stage->loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&stage->loop), 0);
    static const char *const files[] = {"data.sock", "env.sock"};
    for (size_t i = 0; i < 2; i++) {
        char path[512];
        (void)snprintf(path, sizeof path, "%s/%s", stage->run, files[i]);
        (void)unlink(path);
    }
    (void)rmdir(stage->run);
    (void)rmdir(stage->state);
}

static void assign(struct stage *stage, uint64_t job, const char *spec)
{
    struct wire_job_assign message = {.job = job, .spec = span_text(spec), .resume_version = -1};
    ck_assert_int_eq(bus_send(stage->data, stage->env, WIRE_job_assign, &message), ERR_ok);
}

static void reset_all(struct stage *stage, uint64_t job, char tasks[EPISODES][ENV_TASK_BYTES])
{
    struct wire_reset_item items[EPISODES];
    for (uint64_t i = 0; i < EPISODES; i++)
        items[i] = (struct wire_reset_item){.episode = i,
                                            .token = i + 1,
                                            .task_text = span_text(tasks[i]),
                                            .expert = true,
                                            .hint = i % 2 == 1,
                                            .ttl_ms = 60000};
    struct wire_acquire_reset message = {.job = job, .remaining_ms = 20000, .items = items, .items_count = EPISODES};
    ck_assert_int_eq(bus_send(stage->worker, NULL, WIRE_acquire_reset, &message), ERR_ok);
    stage_until(stage, stage->answers == EPISODES);
}

/* Every episode that goes on does what its expert says. */
static void play_all(struct stage *stage, uint64_t job)
{
    for (;;) {
        struct wire_action_item items[EPISODES];
        struct wire_actions message = {.job = job, .remaining_ms = 20000, .items = items};
        for (uint64_t i = 0; i < EPISODES; i++) {
            const struct episode *e = &stage->episodes[i];
            ck_assert_msg(!e->error[0], "episode %d: %s", (int)i, e->error);
            if (e->over) continue;
            items[message.items_count++] =
                (struct wire_action_item){.episode = i, .token = i + 1, .step = e->step, .action = span_text(e->expert)};
        }
        if (message.items_count == 0) return;
        size_t want = stage->answers + message.items_count;
        ck_assert_int_eq(bus_send(stage->worker, NULL, WIRE_actions, &message), ERR_ok);
        stage_until(stage, stage->answers >= want);
    }
}

/* Every second episode was asked for its hint, and only it has one. */
static void expect_hints(const struct stage *stage)
{
    for (size_t i = 0; i < EPISODES; i++)
        ck_assert_msg((stage->episodes[i].hint[0] != 0) == (i % 2 == 1), "episode %zu: \"%s\"", i, stage->episodes[i].hint);
}

static void expect_rewards(const struct stage *stage)
{
    for (size_t i = 0; i < EPISODES; i++) ck_assert_double_eq(stage->episodes[i].reward, 1);
}

START_TEST(builtin_job)
{
    static struct stage stage;
    static char tasks[EPISODES][ENV_TASK_BYTES];
    stage_open(&stage);
    for (uint64_t i = 0; i < EPISODES; i++) {
        struct env_task task;
        ck_assert_int_eq(env_find("adventure")->generate(1 + (int32_t)(i % 4), i, NULL, &task), ERR_ok);
        (void)snprintf(tasks[i], sizeof tasks[i], "%s", task.text);
    }
    assign(&stage, 5, "{\"name\":\"t\",\"environments\":[{\"provider\":\"builtin\",\"name\":\"adventure\"}]}");
    reset_all(&stage, 5, tasks);
    ck_assert_uint_le(stage.messages, 2); /* answers of a turn travel together */
    play_all(&stage, 5);
    expect_rewards(&stage);
    expect_hints(&stage);
    size_t beats = stage.beats;
    stage_until(&stage, stage.beats >= beats + 2);
    ck_assert_double_eq(stage.seated, 0);

    assign(&stage, 6, "{\"name\":\"t\",\"environments\":[{\"provider\":\"builtin\",\"name\":\"nowhere\"}]}");
    stage_until(&stage, stage.failures == 1);
    stage_close(&stage, SIGTERM);
}
END_TEST

/* examples/guess.json as it is shipped, with tasks from its file. */
START_TEST(process_job)
{
    static struct stage stage;
    static char tasks[EPISODES][ENV_TASK_BYTES];
    stage_open(&stage);
    FILE *file = fopen(PAL_SOURCE_DIR "/examples/environments/guess.jsonl", "r");
    ck_assert_ptr_nonnull(file);
    for (size_t i = 0; i < EPISODES; i++) {
        static const char head[] = "{\"task\":";
        char line[ENV_TASK_BYTES];
        for (int skip = 0; skip < 7; skip++) ck_assert_ptr_nonnull(fgets(line, sizeof line, file));
        const char *end = strchr(line, '}');
        ck_assert(strncmp(line, head, sizeof head - 1) == 0 && end != NULL);
        (void)snprintf(tasks[i], sizeof tasks[i], "%.*s}", (int)(end - line - (long)sizeof head + 1), line + sizeof head - 1);
    }
    (void)fclose(file);
    char spec[4096] = "";
    file = fopen(PAL_SOURCE_DIR "/examples/guess.json", "r");
    ck_assert_ptr_nonnull(file);
    spec[fread(spec, 1, sizeof spec - 1, file)] = '\0';
    (void)fclose(file);
    assign(&stage, 5, spec);
    /* 24 episodes, 16 seats: the rest waits for its turn, so play as they come */
    struct wire_reset_item items[EPISODES];
    for (uint64_t i = 0; i < EPISODES; i++)
        items[i] = (struct wire_reset_item){.episode = i,
                                            .token = i + 1,
                                            .task_text = span_text(tasks[i]),
                                            .expert = true,
                                            .hint = i % 2 == 1,
                                            .ttl_ms = 60000};
    struct wire_acquire_reset message = {.job = 5, .remaining_ms = 60000, .items = items, .items_count = EPISODES};
    ck_assert_int_eq(bus_send(stage.worker, NULL, WIRE_acquire_reset, &message), ERR_ok);
    size_t over = 0;
    uint64_t done[EPISODES] = {0}; /* actions sent */
    while (over < EPISODES) {
        size_t had = stage.answers;
        stage_until(&stage, stage.answers > had);
        over = 0;
        for (uint64_t i = 0; i < EPISODES; i++) {
            const struct episode *e = &stage.episodes[i];
            ck_assert_msg(!e->error[0], "episode %d: %s", (int)i, e->error);
            over += e->over;
            if (e->over || !e->expert[0] || e->step != done[i]) continue;
            struct wire_action_item item = {.episode = i, .token = i + 1, .step = e->step, .action = span_text(e->expert)};
            struct wire_actions act = {.job = 5, .remaining_ms = 20000, .items = &item, .items_count = 1};
            ck_assert_int_eq(bus_send(stage.worker, NULL, WIRE_actions, &act), ERR_ok);
            done[i]++;
        }
    }
    expect_rewards(&stage);
    expect_hints(&stage);
    size_t beats = stage.beats;
    stage_until(&stage, stage.beats >= beats + 2);
    ck_assert_double_eq(stage.children, 16);
    stage_close(&stage, _i ? SIGTERM : SIGKILL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pal_env");
    TCase *tcase = tcase_create("pal_env");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, builtin_job);
    tcase_add_loop_test(tcase, process_job, 0, 2);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
