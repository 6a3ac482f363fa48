/* bench_stack: the demo's job through the real processes: time to 90 %, rates, CPU and memory of each process, REST latency.
 * Each figure stands beside its limit, both of this run. --updates N, --seed N; ends with one JSON object under --json. */
#include <ctype.h>
#include <curl/curl.h>
#include <dirent.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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
    char bin[400], state[64], url[64];
    CURL *curl;
    long supervisor;
    double latency_ms[LATENCIES];
    size_t latencies;
};

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void pause_ms(long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

static void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "bench_stack: %s: %s\n", what, why);
    exit(1);
}

/* runs pal with these words; the first line of its output in ret (may be NULL) */
static bool pal(const struct bench *bench, const char *words, char *ret, int size)
{
    char command[1400];
    (void)snprintf(command, sizeof command, "'%s/pal' --state '%s' %s", bench->bin, bench->state, words);
    FILE *pipe = popen(command, "r");
    if (!pipe) die("popen", command);
    char line[256] = "";
    if (fgets(line, sizeof line, pipe) && ret) (void)snprintf(ret, (size_t)size, "%s", line);
    while (fgets(line, sizeof line, pipe)) {
    }
    return pclose(pipe) == 0;
}

/* ---- REST ---- */

struct body {
    char *text;
    size_t size;
};

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
    struct body *body = ctx;
    char *more = realloc(body->text, body->size + size * count + 1);
    if (!more) return 0;
    body->text = more;
    memcpy(more + body->size, data, size * count);
    body->size += size * count;
    more[body->size] = 0;
    return size * count;
}

/* ms is the time of the whole request over a connection that is kept */
static json_t *get(const struct bench *bench, const char *path, double *ret_ms)
{
    char url[256];
    struct body body = {0};
    (void)snprintf(url, sizeof url, "%s%s", bench->url, path);
    (void)curl_easy_setopt(bench->curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(bench->curl, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(bench->curl, CURLOPT_TIMEOUT_MS, 10000L);
    (void)curl_easy_setopt(bench->curl, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(bench->curl, CURLOPT_WRITEDATA, &body);
    double begin = now();
    CURLcode code = curl_easy_perform(bench->curl);
    if (ret_ms) *ret_ms = 1e3 * (now() - begin);
    if (code != CURLE_OK) die(url, curl_easy_strerror(code));
    json_t *root = json_loadb(body.text ? body.text : "", body.size, 0, NULL);
    free(body.text);
    if (!root) die(url, "the answer is not JSON");
    return root;
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static json_t *service(const json_t *status, const char *name)
{
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(json_object_get(status, "services"), i, row)
    {
        const char *text = json_string_value(json_object_get(row, "service"));
        if (text && strcmp(text, name) == 0) return json_object_get(row, "counters");
    }
    return NULL;
}

/* ---- processes ---- */

struct process {
    long pid, parent;
    char comm[32];
    double cpu_s, children_s;
};

static bool read_process(const char *pid, struct process *ret)
{
    char path[300], text[1024] = "";
    (void)snprintf(path, sizeof path, "/proc/%s/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file) return false;
    bool good = fgets(text, sizeof text, file) != NULL;
    (void)fclose(file);
    char *open = strchr(text, '('), *close = strrchr(text, ')');
    if (!good || !open || !close) return false;
    unsigned long utime = 0, stime = 0;
    long cutime = 0, cstime = 0, parent = 0;
    if (sscanf(close + 2, "%*c %ld %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld", &parent, &utime, &stime, &cutime,
               &cstime) != 5)
        return false;
    double tick = (double)sysconf(_SC_CLK_TCK);
    *ret = (struct process){.pid = strtol(pid, NULL, 10),
                            .parent = parent,
                            .cpu_s = (double)(utime + stime) / tick,
                            .children_s = (double)(cutime + cstime) / tick};
    (void)snprintf(ret->comm, sizeof ret->comm, "%.*s", (int)(close - open - 1), open + 1);
    return true;
}

static double peak_mib(long pid)
{
    char path[64], line[128];
    double kib = 0;
    (void)snprintf(path, sizeof path, "/proc/%ld/status", pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, "VmHWM:", 6) == 0) kib = strtod(line + 6, NULL);
    }
    if (file) (void)fclose(file);
    return kib / 1024;
}

static bool descends(const struct process *all, size_t count, long pid, long ancestor)
{
    for (int depth = 0; depth < 8 && pid > 1; depth++) {
        if (pid == ancestor) return true;
        long parent = 0;
        for (size_t i = 0; i < count && !parent; i++) parent = all[i].pid == pid ? all[i].parent : 0;
        pid = parent;
    }
    return false;
}

/* PostgreSQL's processes come and go: those that ended are in their parent's children. Its memory is the sum of peaks, so
 * shared buffers are counted once per process: an upper bound. */
static struct sample sample(const struct bench *bench)
{
    static struct process all[4096];
    struct sample s = {.at = now()};
    size_t count = 0;
    DIR *dir = opendir("/proc");
    if (!dir) die("/proc", "cannot be read");
    for (struct dirent *entry = readdir(dir); entry && count < 4096; entry = readdir(dir)) {
        if (isdigit((unsigned char)entry->d_name[0]) && read_process(entry->d_name, &all[count])) count++;
    }
    (void)closedir(dir);
    for (size_t i = 0; i < count; i++) {
        if (!descends(all, count, all[i].pid, bench->supervisor)) continue;
        for (size_t p = 0; p < PARTS; p++) {
            if (strcmp(all[i].comm, parts[p].comm) != 0) continue;
            bool postmaster = strcmp(all[i].comm, "postgres") == 0 && all[i].parent == bench->supervisor;
            s.cpu_s[p] += all[i].cpu_s + (postmaster ? all[i].children_s : 0);
            s.peak_mib[p] += peak_mib(all[i].pid);
        }
    }
    return s;
}

/* ---- the run ---- */

static double start(struct bench *bench)
{
    double begin = now();
    if (!pal(bench, "up --detach --port 0", NULL, 0)) die("pal up", "the stack did not start");
    double took = now() - begin;
    char path[128], line[32] = "";
    (void)snprintf(path, sizeof path, "%s/gateway.port", bench->state);
    FILE *file = fopen(path, "re");
    if (!file || !fgets(line, sizeof line, file)) die(path, "no port");
    (void)fclose(file);
    (void)snprintf(bench->url, sizeof bench->url, "http://127.0.0.1:%ld", strtol(line, NULL, 10));
    (void)snprintf(path, sizeof path, "%s/pal.pid", bench->state);
    file = fopen(path, "re");
    if (!file || !fgets(line, sizeof line, file)) die(path, "no pid");
    (void)fclose(file);
    bench->supervisor = strtol(line, NULL, 10);
    return took;
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
        json_t *status = get(bench, "/v1/status", &ms), *job = json_object_get(status, "job");
        if (bench->latencies < LATENCIES) bench->latency_ms[bench->latencies++] = ms;
        bool runs = json_is_object(job);
        if (runs) {
            const json_t *rollout = service(status, "rollout"), *trainer = service(status, "trainer");
            f->episodes = number(job, "episodes");
            f->processed = number(rollout, "prompt_tokens") + number(rollout, "action_tokens");
            f->generated = number(rollout, "action_tokens");
            f->trained = number(trainer, "tokens_trained");
            if (f->solved_s <= 0 && number(job, "evaluated_success") >= SOLVED) f->solved_s = now() - submitted;
            if (now() > told + 5) {
                (void)fprintf(stderr, "update %.0f of %.0f, held-out success %.2f\n", number(job, "update"),
                              number(job, "updates"), number(job, "evaluated_success"));
                told = now();
            }
            f->last = sample(bench);
        }
        json_decref(status);
        if (!runs && f->last.at > 0) return;
        if (!runs && now() > submitted + 30) die("the job", "did not start within 30 s");
        pause_ms(POLL_MS);
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
    json_t *job = get(bench, "/v1/jobs/1", NULL), *evaluations = json_object_get(job, "evaluations");
    size_t count = json_array_size(evaluations);
    const json_t *begin = json_array_get(evaluations, 0), *end = json_array_get(evaluations, count ? count - 1 : 0);
    double seconds = number(job, "train_seconds");
    if (strcmp(json_string_value(json_object_get(job, "state")), "succeeded") != 0) die("the job", "did not succeed");
    f->episodes = number(json_object_get(job, "episodes"), "done");
    print_processes(f, out);
    row(out, "first_start_s", first_start, "s", 0);
    row(out, "start_s", next_start, "s", LIMIT_START_S);
    row(out, "success_before", number(begin, "successes") / number(begin, "done"), "", 0);
    row(out, "success_after", number(end, "successes") / number(end, "done"), "", 0);
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

static const char *option(int argc, char **argv, const char *name, const char *otherwise)
{
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], name) == 0) return argv[i + 1];
    }
    return otherwise;
}

int main(int argc, char **argv)
{
    struct bench bench = {.state = "/tmp/pal-bench-XXXXXX"};
    struct figures figures = {0};
    bool json = argc > 1 && strcmp(argv[argc - 1], "--json") == 0;
    ssize_t n = readlink("/proc/self/exe", bench.bin, sizeof bench.bin - 1);
    if (n <= 0 || !mkdtemp(bench.state)) die("a folder under /tmp", "cannot be made");
    *strrchr(bench.bin, '/') = 0;
    bench.curl = curl_easy_init();
    if (!bench.curl) die("libcurl", "no memory");
    double first_start = start(&bench);
    if (!pal(&bench, "down", NULL, 0)) die("pal down", "failed");
    double next_start = start(&bench);
    char words[600], text[64] = "";
    (void)snprintf(words, sizeof words,
                   "submit '%s/adventure.json' --set seed=%ld --set trainer.updates=%ld --set evaluation.every=50",
                   PAL_EXAMPLES_DIR, strtol(option(argc, argv, "--seed", "1"), NULL, 10),
                   strtol(option(argc, argv, "--updates", "600"), NULL, 10));
    double submitted = now();
    if (!pal(&bench, words, text, sizeof text)) die("pal submit", "failed");
    follow(&bench, &figures, submitted);
    json_t *out = json_pack("{s:s}", "bench", "stack");
    report(&bench, &figures, first_start, next_start, out);
    if (!pal(&bench, "down", NULL, 0)) die("pal down", "failed");
    (void)snprintf(words, sizeof words, "rm -rf '%s'", bench.state);
    if (system(words) != 0) die("removing", bench.state);
    if (json) {
        (void)json_dumpf(out, stdout, JSON_COMPACT);
        (void)printf("\n");
    }
    json_decref(out);
    curl_easy_cleanup(bench.curl);
    return 0;
}
