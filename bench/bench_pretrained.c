/* bench_pretrained: a GRPO job on a Hugging Face directory through the real processes: memory of each, tokens/s of both
 * sides.
 * --model DIR (bench/make_smollm.py makes one of SmolLM2-135M's shape), --updates N; one JSON object at the end with --json.
 */
#include "bench/support/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS 250
#define PIDS    256

static const char *const PARTS[] = {"pal-rollout", "pal-trainer", "pal-env", "pal-data", "pal-gateway"};
#define PART_COUNT (sizeof PARTS / sizeof *PARTS)

struct figures {
    double rss_mib[PART_COUNT];    /* peak, shared pages included */
    double shared_mib[PART_COUNT]; /* of the newest look: mapped policies and files */
    double played, generated, shared, engine_ms, gap, checks;
    double trained, busy_ms, update;
};

static void look_at_processes(const struct rig *rig, struct figures *f)
{
    struct rig_process all[PIDS];
    size_t count = rig_processes(rig, all, PIDS);
    for (size_t i = 0; i < count; i++) {
        for (size_t p = 0; p < PART_COUNT; p++) {
            if (strcmp(all[i].comm, PARTS[p]) != 0) continue;
            f->rss_mib[p] = rig_memory_mib(all[i].pid, "VmHWM");
            f->shared_mib[p] = rig_memory_mib(all[i].pid, "RssFile") + rig_memory_mib(all[i].pid, "RssShmem");
        }
    }
}

/* counters of the newest status in which the job still ran */
static void follow(const struct rig *rig, struct figures *f)
{
    double told = 0, begun = rig_now();
    for (bool seen = false;;) {
        json_t *status = rig_ask(rig, "/v1/status", NULL), *job = json_object_get(status, "job");
        const json_t *rollout = rig_counters(status, "rollout"), *trainer = rig_counters(status, "trainer");
        bool runs = json_is_object(job);
        if (runs && rollout && trainer) {
            f->played = rig_number(rollout, "prompt_tokens") + rig_number(rollout, "action_tokens");
            f->generated = rig_number(rollout, "action_tokens");
            f->shared = rig_number(rollout, "shared_tokens");
            f->engine_ms = rig_number(rollout, "engine_ms");
            f->gap = rig_number(rollout, "logp_gap_max");
            f->checks = rig_number(rollout, "logp_checks");
            f->trained = rig_number(trainer, "tokens_trained");
            f->busy_ms = rig_number(trainer, "busy_ms");
            f->update = rig_number(job, "update");
            look_at_processes(rig, f);
        }
        if (runs && rig_now() > told + 5) {
            (void)fprintf(stderr, "update %.0f of %.0f, %.0f tokens played\n", f->update, rig_number(job, "updates"),
                          f->played);
            told = rig_now();
        }
        seen = seen || runs;
        bool over = status && !runs && seen;
        if (status && !runs && !seen && rig_now() > begun + 60) rig_die("the job", "did not start within 60 s");
        json_decref(status);
        if (over) return;
        rig_pause(POLL_MS);
    }
}

static void put(json_t *out, const char *name, double value, const char *unit)
{
    (void)printf("  %-34s %12.4g %s\n", name, value, unit);
    (void)json_object_set_new(out, name, json_real(value));
}

static void report(const struct rig *rig, const struct figures *f, double seconds, json_t *out)
{
    json_t *job = rig_get(rig, "/v1/jobs/1", NULL);
    if (strcmp(json_string_value(json_object_get(job, "state")), "succeeded") != 0)
        rig_die("the job did not succeed", json_string_value(json_object_get(job, "reason")));
    json_decref(job);
    (void)printf("\n  %-34s %12s %12s\n", "process", "peak MiB", "shared MiB");
    for (size_t p = 0; p < PART_COUNT; p++) {
        (void)printf("  %-34s %12.0f %12.0f\n", PARTS[p], f->rss_mib[p], f->shared_mib[p]);
        (void)json_object_set_new(out, PARTS[p],
                                  json_pack("{s:f, s:f}", "peak_mib", f->rss_mib[p], "shared_mib", f->shared_mib[p]));
    }
    (void)printf("\n");
    put(out, "seconds", seconds, "s");
    put(out, "updates", f->update, "");
    put(out, "rollout_tokens", f->played, "(prompts, actions; prefixes shared within groups are computed once)");
    put(out, "rollout_tokens_per_engine_s", 1e3 * f->played / f->engine_ms, "/s");
    put(out, "generated_tokens_per_engine_s", 1e3 * f->generated / f->engine_ms, "/s");
    put(out, "training_tokens_per_busy_s", 1e3 * f->trained / f->busy_ms, "/s");
    put(out, "sampler_learner_gap", f->gap, "largest difference of log-probs");
    put(out, "comparisons", f->checks, "");
}

static const struct rig_words options[] = {{"--model DIR", "a Hugging Face directory"},
                                           {"--updates N", "to make (4)"},
                                           {"--json", "ends with one JSON object"},
                                           {NULL, NULL}};

int main(int argc, char **argv)
{
    rig_usage(argc, argv, options);
    struct rig rig = {0};
    struct figures figures = {.update = 0};
    const char *model = rig_option(argc, argv, "--model", NULL);
    char words[1400];
    if (!model) rig_die("--model DIR is wanted", "bench/make_smollm.py makes a directory of SmolLM2-135M's shape");
    rig_open(&rig);
    (void)rig_start(&rig);
    (void)snprintf(words, sizeof words,
                   "submit '%s/../bench/pretrained.json' --set policy.init.path='%s' --set trainer.updates=%ld",
                   PAL_EXAMPLES_DIR, model, strtol(rig_option(argc, argv, "--updates", "4"), NULL, 10));
    double submitted = rig_now();
    if (!rig_pal(&rig, words, NULL, 0)) rig_die("pal submit", "failed");
    follow(&rig, &figures);
    json_t *out = json_pack("{s:s}", "bench", "pretrained");
    report(&rig, &figures, rig_now() - submitted, out);
    rig_close(&rig);
    if (rig_flag(argc, argv, "--json")) {
        (void)json_dumpf(out, stdout, JSON_COMPACT);
        (void)printf("\n");
    }
    json_decref(out);
    return 0;
}
