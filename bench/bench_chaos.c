/* bench_chaos: real jobs while processes are killed, messages lost, environments failing and a disk full at seeded moments;
 * then `pal verify`, a replay, and whether they learned as undisturbed ones. --kills N (default 50), --seed S, --updates N,
 * --json; exit 1 when something was lost, trained twice, or not learned. The three undisturbed runs are kept beside the
 * programs (build/.../chaos-undisturbed.json); --undisturbed measures them and ends. Needs root for the disk; without it says
 * so. */
#include "bench/support/disturb.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIMIT_P99_S   5.0
#define QUIET_LEAST_S 0.6 /* between a recovery and the next kill */
#define QUIET_MOST_S  1.8
#define JOBS          16
#define DISK_EVERY    17 /* kills */
#define SEEDS         3
#define STUDENT       4.303 /* t, 97.5 %, 2 degrees of freedom */
#define EPISODES      300   /* of the last evaluation */
#define FAULTS        "drop=0.0005,duplicate=0.002,delay=0.01,delay_ms=20,seed=%llu"
#define MISBEHAVE     0.005

struct chaos {
    struct rig rig;
    struct disturb disturb;
    long updates;
    unsigned long long seed;
    double undisturbed[SEEDS], low, high;
    long jobs, id[JOBS]; /* numbers have gaps after a database's death: sequences jump */
    double success[JOBS];
    size_t crashes; /* processes that ended by a signal that nobody here sent */
    bool ended_well;
    double redone, checked, broken, lost, doubled;
    bool replayed;
    json_t *invariants;
};

/* ---- jobs ---- */

static long submit(const struct rig *rig, const struct chaos *chaos, unsigned long long seed, double misbehave)
{
    char words[1200], answer[64] = "";
    long id = 0;
    (void)snprintf(
        words, sizeof words,
        "submit '%s/chaos.json' --set seed=%llu --set trainer.updates=%ld --set "
        "'environments.1.command=[\"python3\",\"%s/../tests/support/fickle.py\",\"--misbehave\",\"%g\",\"--seed\",\"%llu\"]'"
        " --set environments.1.tasks.file=%s/environments/guess.jsonl",
        PAL_BENCH_DIR, seed, chaos->updates, PAL_BENCH_DIR, misbehave, seed, PAL_EXAMPLES_DIR);
    /* its question, too, may be lost: it asks again by itself */
    if (!rig_pal(rig, words, answer, sizeof answer) || sscanf(answer, "job %ld", &id) != 1) rig_die("pal submit", answer);
    return id;
}

/* Waits for a job's end; its success on the held-out tasks. */
static double wait_for(const struct rig *rig, long job, bool *ret_well)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/v1/jobs/%ld", job);
    for (;; rig_pause(200)) {
        json_t *row = rig_ask(rig, path, NULL);
        const char *state = json_string_value(json_object_get(row, "state"));
        bool well = state && strcmp(state, "succeeded") == 0, over = well || (state && strcmp(state, "failed") == 0);
        const json_t *list = json_object_get(row, "evaluations");
        const json_t *last = json_array_get(list, json_array_size(list) ? json_array_size(list) - 1 : 0);
        double success = rig_number(last, "done") > 0 ? rig_number(last, "successes") / rig_number(last, "done") : 0;
        if (over && !well) (void)printf("job %ld failed: %s\n", job, json_string_value(json_object_get(row, "reason")));
        json_decref(row);
        if (!over) continue;
        *ret_well = well;
        return success;
    }
}

/* ---- undisturbed runs ---- */

static void interval(struct chaos *chaos)
{
    double mean = 0, variance = 0;
    for (int i = 0; i < SEEDS; i++) mean += chaos->undisturbed[i] / SEEDS;
    for (int i = 0; i < SEEDS; i++) variance += pow(chaos->undisturbed[i] - mean, 2) / (SEEDS - 1);
    /* three runs may agree by chance: no run is surer than its own evaluation */
    variance = fmax(variance, mean * (1 - mean) / EPISODES);
    double half = STUDENT * sqrt(variance * (1 + 1.0 / SEEDS));
    chaos->low = mean - half;
    chaos->high = fmin(1, mean + half);
}

/* What the kept runs depend on. */
static void key_of(const struct chaos *chaos, char *ret, size_t size)
{
    char path[600];
    struct stat trainer = {0}, rollout = {0}, job = {0};
    (void)snprintf(path, sizeof path, "%s/pal-trainer", chaos->rig.bin);
    (void)stat(path, &trainer);
    (void)snprintf(path, sizeof path, "%s/pal-rollout", chaos->rig.bin);
    (void)stat(path, &rollout);
    (void)stat(PAL_BENCH_DIR "/chaos.json", &job);
    (void)snprintf(ret, size, "%ld %lld %lld %lld", chaos->updates, (long long)trainer.st_mtime, (long long)rollout.st_mtime,
                   (long long)job.st_mtime);
}

static void measure_undisturbed(struct chaos *chaos)
{
    struct rig rig;
    bool well = true;
    rig_open(&rig);
    (void)rig_start(&rig);
    long id[SEEDS];
    for (int i = 0; i < SEEDS; i++) id[i] = submit(&rig, chaos, (unsigned long long)i + 1, 0);
    for (int i = 0; i < SEEDS; i++) {
        chaos->undisturbed[i] = wait_for(&rig, id[i], &well);
        if (!well) rig_die("an undisturbed job", "did not succeed");
        (void)fprintf(stderr, "undisturbed, seed %d: %.3f\n", i + 1, chaos->undisturbed[i]);
    }
    rig_close(&rig);
}

static void know_undisturbed(struct chaos *chaos, bool again)
{
    char path[600], key[128];
    (void)snprintf(path, sizeof path, "%s/../chaos-undisturbed.json", chaos->rig.bin);
    key_of(chaos, key, sizeof key);
    json_t *kept = json_load_file(path, 0, NULL);
    const char *of = json_string_value(json_object_get(kept, "key"));
    bool usable = !again && of && strcmp(of, key) == 0;
    for (size_t i = 0; usable && i < SEEDS; i++)
        chaos->undisturbed[i] = json_number_value(json_array_get(json_object_get(kept, "success"), i));
    json_decref(kept);
    if (!usable) {
        measure_undisturbed(chaos);
        kept = json_pack("{s:s, s:[f, f, f]}", "key", key, "success", chaos->undisturbed[0], chaos->undisturbed[1],
                         chaos->undisturbed[2]);
        if (json_dump_file(kept, path, JSON_INDENT(2)) != 0) rig_die(path, "cannot be written");
        json_decref(kept);
    }
    interval(chaos);
}

/* ---- afterwards ---- */

static bool is_one_of(const char *name, const char *const *names)
{
    for (size_t i = 0; names[i]; i++) {
        if (strcmp(name, names[i]) == 0) return true;
    }
    return false;
}

static void verify(struct chaos *chaos, long job)
{
    static const char *const of_loss[] = {"ended_episodes_have_payload", "updates_without_gap", "batches_are_full", NULL};
    static const char *const of_doubling[] = {"slots_filled_once", "trained_once", "used_as_recorded", NULL};
    char path[700];
    (void)snprintf(path, sizeof path, "'%s/pal' --state '%s' verify %ld --json", chaos->rig.bin, chaos->rig.state, job);
    FILE *pipe = popen(path, "r");
    json_t *rows = pipe ? json_loadf(pipe, 0, NULL) : NULL, *row = NULL;
    size_t i = 0;
    if (!rows) rig_die("pal verify", "failed");
    (void)pclose(pipe);
    json_array_foreach(rows, i, row)
    {
        const char *name = json_string_value(json_object_get(row, "name"));
        double broken = rig_number(row, "broken");
        chaos->checked += rig_number(row, "checked");
        chaos->broken += broken;
        if (is_one_of(name, of_loss)) chaos->lost += broken;
        if (is_one_of(name, of_doubling)) chaos->doubled += broken;
        if (broken > 0) (void)printf("  BROKEN %s: %.0f in job %ld\n", name, broken, job);
        (void)json_object_set_new(chaos->invariants, name, json_real(broken + rig_number(chaos->invariants, name)));
    }
    json_decref(rows);
    (void)snprintf(path, sizeof path, "/v1/jobs/%ld", job);
    row = rig_get(&chaos->rig, path, NULL);
    chaos->redone += rig_number(json_object_get(row, "episodes"), "retried");
    json_decref(row);
    (void)snprintf(path, sizeof path, "replay %ld --update %ld", job, chaos->updates - 3);
    chaos->replayed &= rig_pal(&chaos->rig, path, NULL, 0);
}

static json_t *report(const struct chaos *chaos, double seconds, bool good)
{
    const struct disturb *d = &chaos->disturb;
    json_t *kills = json_object(), *success = json_array();
    for (size_t v = 0; v < DISTURB_VICTIMS; v++)
        (void)json_object_set_new(kills, disturb_victim(v), json_integer((json_int_t)d->killed[v]));
    for (long i = 0; i < chaos->jobs; i++) (void)json_array_append_new(success, json_real(chaos->success[i]));
    return json_pack("{s:s, s:b, s:I, s:f, s:I, s:o, s:I, s:f, s:f, s:f, s:I, s:f, s:o, s:[f, f, f], s:[f, f], s:f, s:f, "
                     "s:f, s:{s:f, s:f},"
                     " s:b, s:O}",
                     "bench", "chaos", "good", (int)good, "crashes", (json_int_t)chaos->crashes, "seconds", seconds, "kills",
                     (json_int_t)d->kills, "killed", kills, "recoveries", (json_int_t)d->recoveries, "recovery_p50_s",
                     disturb_quantile(d->recovery_s, d->recoveries, 0.5), "recovery_p99_s",
                     disturb_quantile(d->recovery_s, d->recoveries, 0.99), "recovery_most_s",
                     disturb_quantile(d->recovery_s, d->recoveries, 1), "disks", (json_int_t)d->disks, "disk_recovery_most_s",
                     disturb_quantile(d->disk_recovery_s, d->disks, 1), "success", success, "undisturbed",
                     chaos->undisturbed[0], chaos->undisturbed[1], chaos->undisturbed[2], "interval", chaos->low, chaos->high,
                     "redone", chaos->redone, "lost", chaos->lost, "doubled", chaos->doubled, "verify", "checked",
                     chaos->checked, "broken", chaos->broken, "replayed", (int)chaos->replayed, "invariants",
                     chaos->invariants);
}

static void print(const struct chaos *chaos, double seconds, double faults)
{
    const struct disturb *d = &chaos->disturb;
    double p99 = disturb_quantile(d->recovery_s, d->recoveries, 0.99);
    (void)printf("%zu kills in %.0f s:", d->kills, seconds);
    for (size_t v = 0; v < DISTURB_VICTIMS; v++) (void)printf(" %s %zu", disturb_victim(v), d->killed[v]);
    (void)printf("; the disk full %zu times; %.0f messages lost, repeated or late; 1 of %.0f calls of an environment fails\n",
                 d->disks, faults, 1 / MISBEHAVE);
    (void)printf(
        "%zu recoveries: p50 %.2f s, p99 %.2f s (limit %.0f s, %.2fx), most %.2f s; after a full disk at most %.2f s\n",
        d->recoveries, disturb_quantile(d->recovery_s, d->recoveries, 0.5), p99, LIMIT_P99_S, p99 / LIMIT_P99_S,
        disturb_quantile(d->recovery_s, d->recoveries, 1), disturb_quantile(d->disk_recovery_s, d->disks, 1));
    for (long i = 0; i < chaos->jobs; i++)
        (void)printf("job %ld: held-out success %.3f; undisturbed %.3f %.3f %.3f, 95 %% interval %.3f to %.3f\n", i + 1,
                     chaos->success[i], chaos->undisturbed[0], chaos->undisturbed[1], chaos->undisturbed[2], chaos->low,
                     chaos->high);
    (void)printf("episodes redone %.0f, lost %.0f, doubled %.0f; verify: %.0f rows checked, %.0f broken; replay %s\n",
                 chaos->redone, chaos->lost, chaos->doubled, chaos->checked, chaos->broken,
                 chaos->replayed ? "bit for bit" : "FAILED");
}

/* ---- main ---- */

/* One job after another until there were enough kills. */
static void disturb(struct chaos *chaos, size_t wanted)
{
    struct disturb *d = &chaos->disturb;
    while (d->kills < wanted && chaos->jobs < JOBS && chaos->ended_well) {
        d->job = submit(&chaos->rig, chaos, chaos->seed + (unsigned long long)chaos->jobs, MISBEHAVE);
        chaos->id[chaos->jobs++] = d->job;
        rig_pause(5000);
        for (bool runs = true; runs && d->kills < wanted;) {
            size_t before = d->kills;
            runs = disturb_kill(d);
            rig_pause((long)(1e3 * (QUIET_LEAST_S + disturb_unit(d) * (QUIET_MOST_S - QUIET_LEAST_S))));
            if (runs && d->kills > before && d->kills % DISK_EVERY == DISK_EVERY / 2) runs = disturb_disk(d);
        }
        bool well = false;
        chaos->success[chaos->jobs - 1] = wait_for(&chaos->rig, d->job, &well);
        chaos->ended_well &= well;
    }
}

/* What the supervisor saw end by another signal than those of the kills. */
static void count_crashes(struct chaos *chaos)
{
    char path[700], line[512];
    (void)snprintf(path, sizeof path, "%s/logs/pal.log", chaos->rig.state);
    FILE *log = fopen(path, "re");
    if (!log) rig_die(path, "cannot be read");
    while (fgets(line, sizeof line, log)) {
        const char *at = strstr(line, "was ended by signal ");
        if (!at || strtol(at + strlen("was ended by signal "), NULL, 10) == SIGKILL) continue;
        chaos->crashes++;
        (void)printf("  CRASHED: %s", line);
    }
    (void)fclose(log);
}

static double count_faults(const struct chaos *chaos)
{
    json_t *status = rig_get(&chaos->rig, "/v1/status", NULL);
    double faults = rig_number(json_object_get(status, "data"), "bus_faults");
    json_decref(status);
    return faults;
}

static const struct rig_words options[] = {{"--kills N", "kills (50)"},
                                           {"--seed S", "of the moments (1)"},
                                           {"--updates N", "of each job (500)"},
                                           {"--undisturbed", "only measure the undisturbed jobs"},
                                           {"--json", "ends with one JSON object"},
                                           {NULL, NULL}};

int main(int argc, char **argv)
{
    rig_usage(argc, argv, options);
    static struct chaos chaos = {.ended_well = true, .replayed = true};
    char faults[128];
    size_t wanted = (size_t)strtoul(rig_option(argc, argv, "--kills", "50"), NULL, 10);
    chaos.seed = strtoull(rig_option(argc, argv, "--seed", "1"), NULL, 10);
    chaos.updates = strtol(rig_option(argc, argv, "--updates", "500"), NULL, 10);
    if (wanted < 1 || wanted > DISTURB_KILLS) rig_die("--kills", "must be 1 to 1000");
    if (chaos.updates < 10) rig_die("--updates", "must be at least 10");
    rig_open(&chaos.rig);
    know_undisturbed(&chaos, rig_flag(argc, argv, "--undisturbed"));
    if (rig_flag(argc, argv, "--undisturbed")) return rmdir(chaos.rig.state);
    chaos.disturb =
        (struct disturb){.rig = &chaos.rig, .random = chaos.seed, .has_disk = rig_mount(&chaos.rig, DISTURB_DISK_MIB)};
    if (!chaos.disturb.has_disk)
        (void)fprintf(stderr, "no disk is filled: mounting one is not permitted here (root is needed)\n");
    (void)snprintf(faults, sizeof faults, FAULTS, chaos.seed);
    (void)setenv("PAL_BUS_FAULTS", faults, 1);
    (void)rig_start(&chaos.rig);
    double begin = rig_now();
    disturb(&chaos, wanted);
    double seconds = rig_now() - begin;
    chaos.invariants = json_object();
    for (long i = 0; i < chaos.jobs; i++) verify(&chaos, chaos.id[i]);
    count_crashes(&chaos);
    bool good =
        chaos.broken == 0 && chaos.crashes == 0 && chaos.replayed && chaos.ended_well && chaos.disturb.kills >= wanted;
    for (long i = 0; i < chaos.jobs; i++) good &= chaos.success[i] >= chaos.low; /* better is no loss */
    print(&chaos, seconds, count_faults(&chaos));
    json_t *out = report(&chaos, seconds, good);
    if (rig_flag(argc, argv, "--json")) {
        (void)json_dumpf(out, stdout, JSON_COMPACT);
        (void)printf("\n");
    }
    json_decref(out);
    json_decref(chaos.invariants);
    rig_close(&chaos.rig);
    return good ? 0 : 1;
}
