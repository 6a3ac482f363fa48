/* bench_stack: the demo's job through the real processes: time to 90 %, rates, CPU and memory of each process, REST latency.
 * Each figure stands beside its limit, both of this run. --updates N, --seed N; ends with one JSON object under --json. */
#include "bench/support/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS       40
#define LATENCIES     20000
#define PIDS          256
#define SOLVED        0.9
#define LIMIT_START_S 3.0
#define LIMIT_REST_MS 20.0
#define LIMIT_EPISODE 0.2 /* ms of CPU that are neither playing, nor learning, nor environment */
#define LIMIT_SHARE   0.1
#define LIMIT_TRAIN_S 120.0

/* the parts of a stack, by the name of the process */
static const struct {
    const char *comm, *part;
    bool overhead; /* what a stack costs besides the work itself */
} parts[] = {{"pal-rollout", "decode", false}, {"pal-trainer", "training", false}, {"pal-env", "environments", false},
             {"pal-data", "data", true},       {"pal-gateway", "gateway", true},   {"postgres", "postgres", true},
             {"pal", "supervisor", true}};
enum { PARTS = sizeof parts / sizeof *parts };

struct sample {
    double at, cpu_s[PARTS], peak_mib[PARTS];
};

struct bench {
    struct rig rig;
    double latency_ms[LATENCIES];
    size_t latencies;
};

/* PostgreSQL's processes come and go: those that ended are in their parent's children. Its memory is the sum of peaks, so
 * shared buffers are counted once per process: an upper bound. */
static struct sample sample(const struct bench *bench)
{
    struct rig_process all[PIDS];
    struct sample s = {.at = rig_now()};
    size_t count = rig_processes(&bench->rig, all, PIDS);
    for (size_t i = 0; i < count; i++) {
        for (size_t p = 0; p < PARTS; p++) {
            if (strcmp(all[i].comm, parts[p].comm) != 0) continue;
            bool postmaster = strcmp(all[i].comm, "postgres") == 0 && all[i].parent == bench->rig.supervisor;
            s.cpu_s[p] += all[i].cpu_s + (postmaster ? all[i].children_s : 0);
            s.peak_mib[p] += rig_memory_mib(all[i].pid, "VmHWM");
        }
    }
    return s;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double quantile(struct bench *bench, double share)
{
    qsort(bench->latency_ms, bench->latencies, sizeof(double), by_value);
    return bench->latencies ? bench->latency_ms[(size_t)(share * (double)(bench->latencies - 1))] : 0;
}

struct figures {
    double solved_s, episodes, processed, generated, trained, overhead_ms, overhead_share, total_s;
    struct sample first, last;
};

/* Polls until the job ends; the last counters are those of the end, a heartbeat late. */
static void follow(struct bench *bench, struct figures *f, double submitted)
{
    double told = 0;
    f->first = sample(bench);
    for (;;) {
        double ms = 0;
        json_t *status = rig_get(&bench->rig, "/v1/status", &ms), *job = json_object_get(status, "job");
        if (bench->latencies < LATENCIES) bench->latency_ms[bench->latencies++] = ms;
        bool runs = json_is_object(job);
        if (runs) {
            const json_t *rollout = rig_counters(status, "rollout"), *trainer = rig_counters(status, "trainer");
            f->episodes = rig_number(job, "episodes");
            f->processed = rig_number(rollout, "prompt_tokens") + rig_number(rollout, "action_tokens");
            f->generated = rig_number(rollout, "action_tokens");
            f->trained = rig_number(trainer, "tokens_trained");
            if (f->solved_s <= 0 && rig_number(job, "evaluated_success") >= SOLVED) f->solved_s = rig_now() - submitted;
            if (rig_now() > told + 5) {
                (void)fprintf(stderr, "update %.0f of %.0f, held-out success %.2f\n", rig_number(job, "update"),
                              rig_number(job, "updates"), rig_number(job, "evaluated_success"));
                told = rig_now();
            }
            f->last = sample(bench);
        }
        json_decref(status);
        if (!runs && f->last.at > 0) return;
        if (!runs && rig_now() > submitted + 30) rig_die("the job", "did not start within 30 s");
        rig_pause(POLL_MS);
    }
}

static void row(json_t *out, const char *name, double value, const char *unit, double limit)
{
    if (limit > 0)
        (void)printf("  %-34s %12.2f %-12s limit %8.2f  (%.2fx)\n", name, value, unit, limit, value / limit);
    else
        (void)printf("  %-34s %12.2f %s\n", name, value, unit);
    (void)json_object_set_new(out, name, json_real(value));
}

static void print_processes(struct figures *f, json_t *out)
{
    double wall = f->last.at - f->first.at;
    json_t *rows = json_object();
    for (size_t p = 0; p < PARTS; p++) f->total_s += f->last.cpu_s[p] - f->first.cpu_s[p];
    (void)printf("\n  %-14s %10s %8s %16s %10s\n", "process", "CPU s", "share", "cores used", "peak MiB");
    for (size_t p = 0; p < PARTS; p++) {
        double cpu = f->last.cpu_s[p] - f->first.cpu_s[p];
        if (parts[p].overhead) f->overhead_ms += 1e3 * cpu / f->episodes;
        if (parts[p].overhead) f->overhead_share += cpu / f->total_s;
        (void)printf("  %-14s %10.2f %7.1f%% %16.2f %10.1f\n", parts[p].part, cpu, 100 * cpu / f->total_s, cpu / wall,
                     f->last.peak_mib[p]);
        (void)json_object_set_new(
            rows, parts[p].part,
            json_pack("{s:f, s:f, s:f}", "cpu_s", cpu, "share", cpu / f->total_s, "peak_mib", f->last.peak_mib[p]));
    }
    (void)json_object_set_new(out, "processes", rows);
    (void)printf("\n");
}

static void report(struct bench *bench, struct figures *f, double first_start, double next_start, json_t *out)
{
    json_t *job = rig_get(&bench->rig, "/v1/jobs/1", NULL), *evaluations = json_object_get(job, "evaluations");
    size_t count = json_array_size(evaluations);
    const json_t *begin = json_array_get(evaluations, 0), *end = json_array_get(evaluations, count ? count - 1 : 0);
    double seconds = rig_number(job, "train_seconds");
    if (strcmp(json_string_value(json_object_get(job, "state")), "succeeded") != 0) rig_die("the job", "did not succeed");
    f->episodes = rig_number(json_object_get(job, "episodes"), "done");
    print_processes(f, out);
    row(out, "first_start_s", first_start, "s", 0);
    row(out, "start_s", next_start, "s", LIMIT_START_S);
    row(out, "success_before", rig_number(begin, "successes") / rig_number(begin, "done"), "", 0);
    row(out, "success_after", rig_number(end, "successes") / rig_number(end, "done"), "", 0);
    row(out, "seconds_to_90_percent", f->solved_s, "s", 0);
    row(out, "train_seconds", seconds, "s", LIMIT_TRAIN_S);
    row(out, "episodes_per_s", f->episodes / seconds, "/s", 0);
    row(out, "rollout_tokens_per_s", f->processed / seconds, "/s", 0);
    row(out, "generated_tokens_per_s", f->generated / seconds, "/s", 0);
    row(out, "training_tokens_per_s", f->trained / seconds, "/s", 0);
    row(out, "overhead_ms_per_episode", f->overhead_ms, "ms CPU", LIMIT_EPISODE);
    row(out, "overhead_share", f->overhead_share, "of all CPU", LIMIT_SHARE);
    row(out, "status_p50_ms", quantile(bench, 0.5), "ms", 0);
    row(out, "status_p99_ms", quantile(bench, 0.99), "ms", LIMIT_REST_MS);
    json_decref(job);
}

static const struct rig_words options[] = {
    {"--seed S", "of the job (1)"}, {"--updates N", "to make (600)"}, {"--json", "ends with one JSON object"}, {NULL, NULL}};

int main(int argc, char **argv)
{
    rig_usage(argc, argv, options);
    struct bench bench = {0};
    struct figures figures = {0};
    char words[600];
    rig_open(&bench.rig);
    double first_start = rig_start(&bench.rig);
    if (!rig_pal(&bench.rig, "down", NULL, 0)) rig_die("pal down", "failed");
    double next_start = rig_start(&bench.rig);
    (void)snprintf(words, sizeof words,
                   "submit '%s/adventure.json' --set seed=%ld --set trainer.updates=%ld --set evaluation.every=50",
                   PAL_EXAMPLES_DIR, strtol(rig_option(argc, argv, "--seed", "1"), NULL, 10),
                   strtol(rig_option(argc, argv, "--updates", "600"), NULL, 10));
    double submitted = rig_now();
    if (!rig_pal(&bench.rig, words, NULL, 0)) rig_die("pal submit", "failed");
    follow(&bench, &figures, submitted);
    json_t *out = json_pack("{s:s}", "bench", "stack");
    report(&bench, &figures, first_start, next_start, out);
    rig_close(&bench.rig);
    if (rig_flag(argc, argv, "--json")) {
        (void)json_dumpf(out, stdout, JSON_COMPACT);
        (void)printf("\n");
    }
    json_decref(out);
    return 0;
}
