/* bench_methods: the ablations of the methods: each arm over some seeds through the real stack, a table and a plot for each.
 * --only NAME[,NAME], --seeds 1,2,3, --quick (a quarter of the tokens, the first seed), --list; a run that is known (by the
 * digest of its resolved job) is not run again: results lie in the build folder. --json ends with one JSON object. */
#include "bench/support/methods.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEDS 16

struct bench {
    const char *only; /* NULL: all */
    int64_t seeds[SEEDS];
    size_t seed_count;
    double share; /* of the tokens */
    json_t *out;
};

static const struct experiment experiments[] = {
#define EXPERIMENT(name, title, file, tokens, threshold) {#name, title, file, NULL, tokens, threshold},
#define ARM(label, sets)                                 {NULL, NULL, label, sets, 0, 0},
#include "bench/methods/experiments.def"
#undef EXPERIMENT
#undef ARM
};
enum { ROWS = sizeof experiments / sizeof *experiments };

static bool is_wanted(const struct bench *bench, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = bench->only; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        if (strncmp(at, name, length) == 0 && (at[length] == 0 || at[length] == ',')) return true;
    }
    return !bench->only;
}

static void read_seeds(struct bench *bench, const char *list)
{
    for (const char *at = list; at && bench->seed_count < SEEDS; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        bench->seeds[bench->seed_count++] = strtoll(at, NULL, 10);
}

static void print_spread(const double *values, size_t count)
{
    double mean = 0, deviation = 0;
    curve_spread(values, count, &mean, &deviation);
    (void)printf("  %5.3f ± %5.3f", mean, deviation);
}

/* One row: start, end and area with their spread, tokens to the threshold (mean of those that reached it), what was counted.
 */
static json_t *print_arm(const struct experiment *e, const char *label, const struct result *runs, size_t count,
                         double budget)
{
    double start[SEEDS], final[SEEDS], area[SEEDS], reached[SEEDS], hinted = 0, before = 0, after = 0, updates = 0,
                                                                    episodes = 0;
    size_t hits = 0;
    json_t *seeds = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct curve *c = &runs[i].curve;
        start[i] = c->count ? c->success[0] : 0;
        final[i] = c->count ? c->success[c->count - 1] : 0;
        area[i] = curve_area(c, budget);
        double at = curve_reaches(c, e->threshold);
        if (at >= 0) reached[hits++] = at / 1e6;
        updates += runs[i].updates / (double)count;
        episodes += rig_number(runs[i].means, "episodes") / (double)count;
        hinted += runs[i].hinted / (double)count;
        before += runs[i].hinted_before / (double)count;
        after += runs[i].hinted_after / (double)count;
        (void)json_array_append_new(seeds, json_pack("{s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:O, s:f, s:O*}", "seed",
                                                     (json_int_t)runs[i].seed, "start", start[i], "final", final[i], "area",
                                                     area[i], "tokens", at, "seconds", runs[i].seconds, "hinted_before",
                                                     runs[i].hinted_before, "hinted_after", runs[i].hinted_after, "levels",
                                                     runs[i].levels, "updates", runs[i].updates, "means", runs[i].means));
    }
    (void)printf("  %-30s", label);
    print_spread(start, count);
    print_spread(final, count);
    print_spread(area, count);
    double mean = 0, deviation = 0;
    if (hits) curve_spread(reached, hits, &mean, &deviation);
    if (hits)
        (void)printf("  %5.2fM (%zu/%zu)", mean, hits, count);
    else
        (void)printf("  never  (0/%zu)", count);
    for (size_t i = 0; i < count; i++) (void)printf("%s%.2f", i ? " " : "  | ", final[i]);
    (void)printf("  %.0f updates", updates);
    if (episodes > 0) (void)printf(" of %.0f episodes", episodes);
    if (hinted > 0) (void)printf("  hinted %.0f %%, their success %.2f to %.2f", 100 * hinted, before, after);
    (void)printf("\n");
    return json_pack("{s:s, s:o}", "arm", label, "runs", seeds);
}

static void run_experiment(struct bench *bench, size_t row)
{
    const struct experiment *e = &experiments[row];
    double budget = e->tokens * bench->share;
    static struct result results[PLOT_ARMS][SEEDS];
    static struct plot plot;
    plot = (struct plot){.title = e->title, .tokens = budget};
    json_t *arms = json_array();
    for (size_t a = row + 1; a < ROWS && !experiments[a].name && plot.count < PLOT_ARMS; a++) {
        struct plot_arm *arm = &plot.arms[plot.count];
        arm->label = experiments[a].file;
        for (size_t s = 0; s < bench->seed_count; s++) {
            struct result *result = &results[plot.count][s];
            methods_run(e, experiments[a].file, experiments[a].sets, bench->seeds[s], budget, result);
            arm->runs[arm->count++] = &result->curve;
        }
        plot.count++;
    }
    (void)printf("\n%s (%s): %s, %.1fM tokens, seeds", e->name, e->file, e->title, budget / 1e6);
    for (size_t s = 0; s < bench->seed_count; s++) (void)printf(" %lld", (long long)bench->seeds[s]);
    (void)printf("\n  %-30s  %-13s  %-13s  %-13s  %s\n", "arm", "start", "end", "area", "tokens to");
    for (size_t i = 0; i < plot.count; i++)
        (void)json_array_append_new(arms, print_arm(e, plot.arms[i].label, results[i], bench->seed_count, budget));
    for (size_t i = 0; i < plot.count; i++) {
        for (size_t s = 0; s < bench->seed_count; s++) json_decref(results[i][s].levels), json_decref(results[i][s].means);
    }
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s.svg", PAL_RESULTS_DIR, e->name);
    if (!plot_write(&plot, path)) rig_die(path, "cannot be written");
    (void)printf("  plot: %s\n", path);
    (void)fflush(stdout);
    (void)json_object_set_new(
        bench->out, e->name,
        json_pack("{s:s, s:f, s:f, s:o}", "title", e->title, "tokens", budget, "threshold", e->threshold, "arms", arms));
}

static const struct rig_words options[] = {{"--only A,B", "these experiments"},
                                           {"--seeds 1,2,3", "of each arm"},
                                           {"--quick", "a quarter of the tokens, the first seed"},
                                           {"--list", "the experiments"},
                                           {"--json", "ends with one JSON object"},
                                           {NULL, NULL}};

int main(int argc, char **argv)
{
    rig_usage(argc, argv, options);
    struct bench bench = {.only = rig_option(argc, argv, "--only", NULL), .share = 1, .out = json_object()};
    bool known = !bench.only;
    read_seeds(&bench, rig_option(argc, argv, "--seeds", "1,2,3"));
    if (rig_flag(argc, argv, "--quick")) {
        bench.share = 0.25;
        bench.seed_count = 1;
    }
    for (size_t i = 0; i < ROWS; i++) {
        if (!experiments[i].name) continue;
        if (rig_flag(argc, argv, "--list")) (void)printf("  %-14s %s\n", experiments[i].name, experiments[i].title);
        known |= is_wanted(&bench, experiments[i].name);
    }
    if (rig_flag(argc, argv, "--list")) return 0;
    if (!known) rig_die(bench.only, "is no experiment; --list says which there are");
    methods_folder();
    for (size_t i = 0; i < ROWS; i++) {
        if (experiments[i].name && is_wanted(&bench, experiments[i].name)) run_experiment(&bench, i);
    }
    if (rig_flag(argc, argv, "--json")) {
        (void)json_dumpf(bench.out, stdout, JSON_COMPACT);
        (void)printf("\n");
    }
    json_decref(bench.out);
    return 0;
}
