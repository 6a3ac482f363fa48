/* bench_chaos: the demo's job while its processes are killed with SIGKILL at seeded moments, then `pal verify` and a replay.
 * --kills N (default 30), --seed S, --updates N; ends with one JSON object under --json; exit 1 when something was lost. */
#include "bench/support/rig.h"

#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS       20
#define KILLS_MOST    1000
#define RECOVER_S     60.0 /* a stage that is not back by then is lost */
#define LIMIT_P99_S   5.0
#define PIDS          256
#define QUIET_LEAST_S 0.6 /* between a recovery and the next kill */
#define QUIET_MOST_S  1.8

/* What dies, and by what it is seen to work again: a counter of the status document that grows past what it was. */
static const struct victim {
    const char *comm, *name;
    enum { SIGN_EPISODES, SIGN_UPDATES, SIGN_ANSWER } sign;
} victims[] = {{"pal-env", "env", SIGN_EPISODES},       {"pal-rollout", "rollout", SIGN_EPISODES},
               {"pal-data", "data", SIGN_EPISODES},     {"pal-trainer", "trainer", SIGN_UPDATES},
               {"pal-gateway", "gateway", SIGN_ANSWER}, {"postgres", "postgres", SIGN_EPISODES}};
enum { VICTIMS = sizeof victims / sizeof *victims };

struct chaos {
    struct rig rig;
    uint64_t random;
    size_t kills, killed[VICTIMS], recoveries;
    double recovery_s[KILLS_MOST];
};

/* splitmix64 */
static uint64_t draw(struct chaos *chaos)
{
    uint64_t z = chaos->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double unit(struct chaos *chaos)
{
    return (double)(draw(chaos) >> 11) * 0x1p-53;
}

/* PostgreSQL's postmaster: its backends go with it. */
static long pid_of(const struct chaos *chaos, const struct victim *victim)
{
    struct rig_process all[PIDS];
    size_t count = rig_processes(&chaos->rig, all, PIDS);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(all[i].comm, victim->comm) == 0 && all[i].parent == chaos->rig.supervisor) return all[i].pid;
    }
    return 0;
}

struct sight {
    bool answers, runs, ended;
    double episodes, updates, lineage, epoch;
    double forked_at; /* update at which the lineage after a trainer's death was first seen; -1: not yet */
};

/* The ledger's own counts, as far as the stack can say them now. */
static struct sight look(const struct chaos *chaos)
{
    struct sight s = {0};
    json_t *status = rig_ask(&chaos->rig, "/v1/status", NULL), *job = json_object_get(status, "job");
    const json_t *data = json_object_get(status, "data");
    s.answers = json_is_object(data);
    s.runs = json_is_object(job);
    s.episodes = rig_number(data, "written_episodes");
    s.epoch = rig_number(data, "epoch");
    s.updates = rig_number(job, "update");
    s.lineage = rig_number(job, "lineage");
    json_decref(status);
    if (s.answers && !s.runs) { /* is it over, or not read again yet? */
        json_t *row = rig_ask(&chaos->rig, "/v1/jobs/1", NULL);
        const char *state = json_string_value(json_object_get(row, "state"));
        s.ended = state && (strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0);
        json_decref(row);
    }
    return s;
}

/* Has the stage written a row since `before`, which was seen just before the kill? */
static bool works(const struct victim *victim, const struct sight *before, const struct sight *now)
{
    if (victim->sign == SIGN_ANSWER) return now->answers;
    if (!now->runs) return false;
    if (victim->sign == SIGN_UPDATES) return before->forked_at >= 0 && now->updates > before->forked_at;
    return now->epoch != before->epoch ? now->episodes > 0 : now->episodes > before->episodes + 256;
}

/* One kill, and the wait until the stage works again. False when the job ended first. */
static bool strike(struct chaos *chaos)
{
    size_t v = (size_t)(draw(chaos) % VICTIMS);
    struct sight before = look(chaos), now = before;
    before.forked_at = -1;
    long pid = pid_of(chaos, &victims[v]);
    if (before.ended) return false;
    if (!before.runs || pid == 0) return true; /* it is still coming back: another moment */
    (void)kill((pid_t)pid, SIGKILL);
    double begin = rig_now();
    chaos->kills++;
    chaos->killed[v]++;
    do {
        rig_pause(POLL_MS);
        now = look(chaos);
        if (now.ended) return false;
        if (before.forked_at < 0 && now.runs && now.lineage > before.lineage) before.forked_at = now.updates;
        if (rig_now() - begin > RECOVER_S) rig_die(victims[v].name, "did not come back within 60 s");
    } while (!works(&victims[v], &before, &now));
    chaos->recovery_s[chaos->recoveries++] = rig_now() - begin;
    (void)fprintf(stderr, "kill %zu: %s, back after %.2f s (update %.0f, lineage %.0f)\n", chaos->kills, victims[v].name,
                  rig_now() - begin, now.updates, now.lineage);
    return true;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double quantile(struct chaos *chaos, double share)
{
    qsort(chaos->recovery_s, chaos->recoveries, sizeof(double), by_value);
    return chaos->recoveries ? chaos->recovery_s[(size_t)ceil(share * (double)(chaos->recoveries - 1))] : 0;
}

static double wait_for_end(struct chaos *chaos, char *ret_state, size_t size)
{
    for (;; rig_pause(200)) {
        json_t *row = rig_ask(&chaos->rig, "/v1/jobs/1", NULL);
        const char *state = json_string_value(json_object_get(row, "state"));
        bool over = state && (strcmp(state, "succeeded") == 0 || strcmp(state, "failed") == 0);
        const json_t *list = json_object_get(row, "evaluations");
        const json_t *last = json_array_get(list, json_array_size(list) ? json_array_size(list) - 1 : 0);
        double success = last ? rig_number(last, "successes") / rig_number(last, "done") : 0;
        if (over) (void)snprintf(ret_state, size, "%s", state);
        json_decref(row);
        if (over) return success;
    }
}

/* Sums over the invariants of `pal verify`. */
static void verify(const struct chaos *chaos, double *ret_checked, double *ret_broken, json_t *out)
{
    char path[700];
    (void)snprintf(path, sizeof path, "'%s/pal' --state '%s' verify 1 --json", chaos->rig.bin, chaos->rig.state);
    FILE *pipe = popen(path, "r");
    json_t *rows = pipe ? json_loadf(pipe, 0, NULL) : NULL, *row = NULL;
    size_t i = 0;
    if (!rows) rig_die("pal verify", "failed");
    (void)pclose(pipe);
    json_array_foreach(rows, i, row)
    {
        *ret_checked += rig_number(row, "checked");
        *ret_broken += rig_number(row, "broken");
        if (rig_number(row, "broken") > 0) (void)printf("  BROKEN %s\n", json_string_value(json_object_get(row, "name")));
        (void)json_object_set(out, json_string_value(json_object_get(row, "name")), json_object_get(row, "broken"));
    }
    json_decref(rows);
}

int main(int argc, char **argv)
{
    struct chaos chaos = {0};
    char words[600], state[32] = "";
    size_t wanted = (size_t)strtoul(rig_option(argc, argv, "--kills", "30"), NULL, 10);
    const char *updates = rig_option(argc, argv, "--updates", "600");
    chaos.random = strtoull(rig_option(argc, argv, "--seed", "1"), NULL, 10);
    if (wanted > KILLS_MOST) wanted = KILLS_MOST;
    rig_open(&chaos.rig);
    (void)rig_start(&chaos.rig);
    (void)snprintf(words, sizeof words,
                   "submit '%s/adventure.json' --set seed=%llu --set trainer.updates=%ld --set trainer.checkpoint_every=10",
                   PAL_EXAMPLES_DIR, (unsigned long long)chaos.random, strtol(updates, NULL, 10));
    if (!rig_pal(&chaos.rig, words, NULL, 0)) rig_die("pal submit", "failed");
    rig_pause(4000);
    double begin = rig_now();
    while (chaos.kills < wanted && strike(&chaos))
        rig_pause((long)(1e3 * (QUIET_LEAST_S + unit(&chaos) * (QUIET_MOST_S - QUIET_LEAST_S))));
    double success = wait_for_end(&chaos, state, sizeof state), checked = 0, broken = 0;
    json_t *invariants = json_object();
    verify(&chaos, &checked, &broken, invariants);
    (void)snprintf(words, sizeof words, "replay 1 --update %ld", strtol(updates, NULL, 10) - 3);
    bool replayed = rig_pal(&chaos.rig, words, NULL, 0);
    (void)printf("%zu kills in %.0f s:", chaos.kills, rig_now() - begin);
    json_t *kills = json_object();
    for (size_t v = 0; v < VICTIMS; v++) {
        (void)printf(" %s %zu", victims[v].name, chaos.killed[v]);
        (void)json_object_set_new(kills, victims[v].name, json_integer((json_int_t)chaos.killed[v]));
    }
    double p50 = quantile(&chaos, 0.5), p99 = quantile(&chaos, 0.99);
    (void)printf("\n%zu recoveries: p50 %.2f s, p99 %.2f s (limit %.0f s, %.2fx)\n", chaos.recoveries, p50, p99, LIMIT_P99_S,
                 p99 / LIMIT_P99_S);
    (void)printf("job %s, held-out success %.3f; verify: %.0f rows checked, %.0f broken; replay of update %ld %s\n", state,
                 success, checked, broken, strtol(updates, NULL, 10) - 3, replayed ? "bit for bit" : "FAILED");
    bool good = broken == 0 && replayed && strcmp(state, "succeeded") == 0;
    if (rig_flag(argc, argv, "--json")) {
        json_t *out = json_pack("{s:s, s:I, s:o, s:I, s:f, s:f, s:s, s:f, s:f, s:f, s:b, s:o}", "bench", "chaos", "kills",
                                (json_int_t)chaos.kills, "killed", kills, "recoveries", (json_int_t)chaos.recoveries,
                                "recovery_p50_s", p50, "recovery_p99_s", p99, "state", state, "success", success, "checked",
                                checked, "broken", broken, "replayed", (int)replayed, "invariants", invariants);
        (void)json_dumpf(out, stdout, JSON_COMPACT);
        (void)printf("\n");
        json_decref(out);
    }
    rig_close(&chaos.rig);
    return good ? 0 : 1;
}
