#include "bench/support/methods.h"

#include "bench/support/play.h"
#include "env/env.h"
#include "services/common/base/digest.h"
#include "services/common/job/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEMONSTRATIONS 64
#define DEMONSTRATED   "@demonstrations" /* in an assignment: a file of the expert's actions on the first training tasks */
#define STEPS_MOST     64

void methods_folder(void)
{
    (void)mkdir(PAL_RESULTS_DIR, 0777);
    if (access(PAL_RESULTS_DIR, W_OK) != 0) rig_die(PAL_RESULTS_DIR, "cannot be written");
}

static void read_file(const char *path, struct buf *out)
{
    FILE *file = fopen(path, "re");
    char chunk[4096];
    if (!file) rig_die(path, "cannot be opened");
    for (size_t n = fread(chunk, 1, sizeof chunk, file); n > 0; n = fread(chunk, 1, sizeof chunk, file)) {
        if (buf_append(out, chunk, n) != ERR_ok) rig_die(path, err_text());
    }
    (void)fclose(file);
}

/* ---- the job ---- */

static void assign(struct buf *job, const char *assignment)
{
    AUTO(buf) next = {0};
    if (job_override(buf_span(job), assignment, &next) != ERR_ok) rig_die(assignment, err_text());
    buf_clear(job);
    if (buf_append(job, next.data, next.size) != ERR_ok) rig_die(assignment, err_text());
}

/* The expert's actions on the first training tasks of the first environment, as `pal pool import` reads them. */
static void demonstrate(const struct job_spec *spec, const char *path)
{
    const struct job_environment *env = &spec->environments[0];
    const struct job_generate *generate = &env->tasks.generate;
    const struct env_class *class = env_find(env->name);
    void *state = class ? aligned_alloc(64, (class->state_bytes + 63) / 64 * 64) : NULL;
    FILE *file = fopen(path, "we");
    if (!state || !file) rig_die(path, "demonstrations cannot be made");
    for (size_t i = 0; i < DEMONSTRATIONS; i++) {
        struct env_task task;
        struct env_obs obs;
        struct rng rng;
        char action[ENV_ACTION_BYTES];
        json_t *actions = json_array();
        rng_init(&rng, i, 0);
        memset(state, 0, class->state_bytes);
        if (class->generate((int32_t)generate->levels[i % generate->level_count], (uint64_t)generate->seed + i,
                            env->variant[0] ? env->variant : NULL, &task) != ERR_ok ||
            class->reset(state, span_text(task.text), 0, &obs) != ERR_ok)
            rig_die("a demonstration", err_text());
        for (size_t step = 0; step < STEPS_MOST && !obs.terminated; step++) {
            class->expert(state, 0, &rng, action);
            (void)json_array_append_new(actions, json_string(action));
            if (class->step(state, span_text(action), &obs) != ERR_ok) rig_die("a demonstration", err_text());
        }
        json_t *line = json_pack("{s:o, s:o}", "task", json_loads(task.text, 0, NULL), "actions", actions);
        (void)json_dumpf(line, file, JSON_COMPACT);
        (void)fputc('\n', file);
        json_decref(line);
    }
    free(state);
    if (fclose(file) != 0) rig_die(path, "cannot be written");
}

static void parse(const struct buf *text, struct arena *arena, struct job_spec *ret)
{
    struct job_problems problems;
    if (job_parse(buf_span(text), arena, ret, &problems) != ERR_ok) rig_die("the arm's job", err_text());
}

/* The first 16 digits of the resolved job's digest, and the seed: the name of what is kept of its run. */
static void name_of(const struct buf *job, const char *kind, int64_t seed, const char *end, char *ret_path, size_t size)
{
    AUTO(buf) resolved = {0};
    AUTO(arena) arena = {0};
    static struct job_spec spec;
    struct digest digest;
    parse(job, &arena, &spec);
    if (job_dump(&spec, false, &resolved) != ERR_ok || digest_bytes(buf_span(&resolved), &digest) != ERR_ok)
        rig_die("a job's digest", err_text());
    (void)snprintf(ret_path, size, "%s/%s%.16s-%lld%s", PAL_RESULTS_DIR, kind, digest.hex, (long long)seed, end);
}

/* The result that is kept at path, or of a run now. */
static json_t *recall(const char *path, const struct buf *job, const char *what, const char *first)
{
    json_t *result = json_load_file(path, 0, NULL);
    if (result) return result;
    result = play_job(buf_chars(job), what, first);
    (void)json_object_set_new(result, "arm", json_string(what));
    char *text = json_dumps(result, JSON_INDENT(1));
    if (!text) rig_die(path, "no memory");
    play_write(path, text);
    free(text);
    return result;
}

/* All arms of a seed begin with the same weights: the base job's warm start is made once and exported, and the job begins
 * from there. Returns the tokens that it took. */
static double begin_warm(const struct experiment *e, int64_t seed, struct buf *job)
{
    char folder[512], path[520], line[600];
    AUTO(buf) warm = {0};
    AUTO(arena) arena = {0};
    static struct job_spec spec;
    parse(job, &arena, &spec);
    if (!spec.warmstart.on) return 0;
    if (buf_append(&warm, job->data, job->size) != ERR_ok) rig_die(e->file, err_text());
    assign(&warm, "trainer.updates=1");
    name_of(&warm, "warm.", seed, "", folder, sizeof folder);
    (void)snprintf(path, sizeof path, "%s.json", folder);
    (void)snprintf(line, sizeof line, "%s, warm start, seed %lld", e->file, (long long)seed);
    json_t *result = recall(path, &warm, line, folder);
    double tokens = rig_number(json_array_get(json_object_get(result, "points"), 0), "tokens");
    json_decref(result);
    (void)snprintf(line, sizeof line, "policy={\"init\": {\"path\": \"%s\"}}", folder);
    assign(job, line);
    return tokens;
}

/* An assignment of an arm, with the name of a file of demonstrations where it asks for one. */
static void assign_arm(const struct experiment *e, const char *text, size_t length, struct buf *job)
{
    char line[1024], path[512];
    (void)snprintf(line, sizeof line, "%.*s", (int)length, text);
    char *mark = strstr(line, DEMONSTRATED);
    if (mark) {
        AUTO(arena) arena = {0};
        static struct job_spec spec;
        parse(job, &arena, &spec);
        (void)snprintf(path, sizeof path, "%s/%s.demonstrations.jsonl", PAL_RESULTS_DIR, e->file);
        demonstrate(&spec, path);
        size_t before = (size_t)(mark - line), after = before + strlen(DEMONSTRATED);
        (void)snprintf(line, sizeof line, "%.*s%s%.*s", (int)before, text, path, (int)(length - after), text + after);
    }
    assign(job, line);
}

/* The arm's job: file, seed, warm start, budget, assignments. Returns the tokens of the warm start. */
static double make_job(const struct experiment *e, const char *sets, int64_t seed, double tokens, struct buf *out)
{
    char path[512], line[64];
    (void)snprintf(path, sizeof path, "%s/methods/%s", PAL_BENCH_DIR, e->file);
    read_file(path, out);
    (void)snprintf(line, sizeof line, "seed=%lld", (long long)seed);
    assign(out, line);
    double warm = begin_warm(e, seed, out);
    (void)snprintf(line, sizeof line, "stop.tokens=%.0f", tokens - warm);
    assign(out, line);
    for (const char *at = sets; *at;) {
        size_t length = strcspn(at, "\n");
        assign_arm(e, at, length, out);
        at += length + (at[length] == '\n');
    }
    return warm;
}

/* ---- results ---- */

static int by_version(const void *a, const void *b)
{
    double x = rig_number(*(json_t *const *)a, "version"), y = rig_number(*(json_t *const *)b, "version");
    return (x > y) - (x < y);
}

/* before: tokens that were spent before the run */
static void read_result(const json_t *file, double before, struct result *ret)
{
    const json_t *points = json_object_get(file, "points");
    const json_t *rows[CURVE_POINTS];
    size_t count = json_array_size(points) < CURVE_POINTS ? json_array_size(points) : CURVE_POINTS;
    for (size_t i = 0; i < count; i++) rows[i] = json_array_get(points, i);
    qsort(rows, count, sizeof *rows, by_version);
    for (size_t i = 0; i < count; i++) {
        double tokens = before + rig_number(rows[i], "tokens");
        if (i > 0 && tokens < ret->curve.tokens[i - 1]) tokens = ret->curve.tokens[i - 1];
        ret->curve.tokens[i] = tokens;
        ret->curve.success[i] = rig_number(rows[i], "success");
    }
    ret->curve.count = count;
    ret->seconds = rig_number(file, "seconds");
    ret->hinted = rig_number(file, "hint_rate");
    ret->hinted_before = rig_number(file, "hinted_before");
    ret->hinted_after = rig_number(file, "hinted_after");
    ret->means = json_incref(json_object_get(file, "means"));
    ret->updates = count ? rig_number(rows[count - 1], "version") : 0;
    ret->levels = json_object();
    const char *level = NULL;
    json_t *value = NULL;
    json_object_foreach(count ? json_object_get(rows[count - 1], "levels") : NULL, level, value)(void)
        json_object_set_new(ret->levels, level, json_real(rig_number(value, "successes") / rig_number(value, "done")));
}

void methods_run(const struct experiment *e, const char *label, const char *sets, int64_t seed, double tokens,
                 struct result *ret)
{
    AUTO(buf) job = {0};
    char path[512], what[160];
    double warm = make_job(e, sets, seed, tokens, &job);
    name_of(&job, "", seed, ".json", path, sizeof path);
    (void)snprintf(what, sizeof what, "%s, %s, seed %lld", e->name, label, (long long)seed);
    json_t *file = recall(path, &job, what, NULL);
    *ret = (struct result){.seed = seed};
    read_result(file, warm, ret);
    (void)fprintf(stderr, "%s: %.2f -> %.2f in %.0f s\n", what, ret->curve.count ? ret->curve.success[0] : 0,
                  ret->curve.count ? ret->curve.success[ret->curve.count - 1] : 0, ret->seconds);
    json_decref(file);
}
