/* bench_ledger: episodes/s and MB/s through the real data manager with simulated rollouts, beside raw inserts of the same
 * bytes. Also leases/s, the time from episode_done to its ack, row writes and CPU per episode, and the same with a million
 * episodes in the ledger. --seconds N of each measurement, --no-fill leaves the million out; ends with one JSON object under
 * --json. */
#include "bench/ledger/crew.h"
#include "bench/ledger/filled.h"
#include "bench/ledger/place.h"
#include "bench/ledger/raw.h"
#include "bench/support/rig.h"

#include <stdio.h>
#include <stdlib.h>

#define GROUPS     FILLED_GROUPS
#define STALENESS  8
#define WARM_S     1.0
#define PACED      1000 /* episodes a second: what a stack makes on two cores */
#define LEASES     16384
#define LIMIT_RAW  0.75
#define LIMIT_FULL 1.2

struct figures {
    double episodes, megabytes;           /* a second */
    double data_ms, postgres_ms, crew_ms; /* CPU of an episode */
    double rows;                          /* written for an episode */
    double p50_ms, p99_ms;                /* at full speed */
    double paced_p50_ms, paced_p99_ms;
    double raw, raw_ms; /* episodes a second, CPU of PostgreSQL for one */
};

struct bench {
    struct place place;
    struct crew crew;
    char conninfo[PLACE_TEXT];
    double seconds;
    json_t *out;
};

static double rows_written(const struct bench *bench)
{
    char text[64];
    raw_ask(bench->conninfo, "SELECT sum(n_tup_ins + n_tup_upd) FROM pg_stat_user_tables", text, sizeof text);
    return strtod(text, NULL);
}

static void measure(struct bench *bench, struct figures *f)
{
    struct crew *crew = &bench->crew;
    crew_run(crew, WARM_S);
    uint64_t acked = crew->acked;
    double rows = rows_written(bench), begin = rig_now();
    struct place_cpu before = place_cpu(&bench->place);
    crew->took_count = 0;
    crew_run(crew, bench->seconds);
    struct place_cpu after = place_cpu(&bench->place);
    double seconds = rig_now() - begin, n = (double)(crew->acked - acked);
    if (n < 1) rig_die("the data manager", "acknowledged nothing");
    f->rows = (rows_written(bench) - rows) / n;
    f->episodes = n / seconds;
    f->megabytes = f->episodes * (double)crew->payload / 1e6;
    f->data_ms = 1e3 * (after.data - before.data) / n;
    f->postgres_ms = 1e3 * (after.postgres - before.postgres) / n;
    f->crew_ms = 1e3 * (after.self - before.self) / n;
    f->p50_ms = crew_took_ms(crew, 0.5);
    f->p99_ms = crew_took_ms(crew, 0.99);
    crew->rate = PACED;
    crew_run(crew, WARM_S); /* what was queued is gone */
    crew->took_count = 0;
    crew_run(crew, bench->seconds);
    f->paced_p50_ms = crew_took_ms(crew, 0.5);
    f->paced_p99_ms = crew_took_ms(crew, 0.99);
    crew->rate = 0;
}

static void measure_raw(struct bench *bench, struct figures *f)
{
    double seconds = 0, before = place_cpu(&bench->place).postgres;
    uint64_t count = raw_run(bench->conninfo, bench->crew.payload, bench->seconds, &seconds);
    f->raw = (double)count / seconds;
    f->raw_ms = 1e3 * (place_cpu(&bench->place).postgres - before) / (double)count;
}

static void print_head(void)
{
    (void)printf("\n  %-22s %10s %8s %10s %7s | %9s %9s %6s | %15s %15s\n", "payload", "episodes/s", "MB/s", "raw inserts",
                 "ratio", "data ms", "PG ms", "rows", "ack p50/p99 ms", "at 1000/s");
}

static void print(struct bench *bench, const char *name, const struct figures *f)
{
    (void)printf("  %-22s %10.0f %8.1f %10.0f %7.2f | %9.4f %9.4f %6.2f | %7.1f %7.1f %7.1f %7.1f\n", name, f->episodes,
                 f->megabytes, f->raw, f->raw > 0 ? f->episodes / f->raw : 0, f->data_ms, f->postgres_ms, f->rows, f->p50_ms,
                 f->p99_ms, f->paced_p50_ms, f->paced_p99_ms);
    (void)fflush(stdout);
    (void)json_object_set_new(bench->out, name,
                              json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "episodes_per_s",
                                        f->episodes, "mb_per_s", f->megabytes, "raw_episodes_per_s", f->raw, "ratio_to_raw",
                                        f->raw > 0 ? f->episodes / f->raw : 0, "data_cpu_ms", f->data_ms, "postgres_cpu_ms",
                                        f->postgres_ms, "raw_postgres_cpu_ms", f->raw_ms, "crew_cpu_ms", f->crew_ms,
                                        "rows_per_episode", f->rows, "ack_p50_ms", f->p50_ms, "ack_p99_ms", f->p99_ms,
                                        "paced_ack_p50_ms", f->paced_p50_ms, "paced_ack_p99_ms", f->paced_p99_ms));
}

static void lease(struct bench *bench)
{
    crew_begin(&bench->crew, GROUPS, 1024);
    double rate = LEASES / crew_lease(&bench->crew, LEASES);
    crew_cancel(&bench->crew);
    (void)printf("\n  %d leases at once: %.0f leases/s\n", LEASES, rate);
    (void)json_object_set_new(bench->out, "leases_per_s", json_real(rate));
}

static double whole_ms(const struct figures *f)
{
    return f->data_ms + f->postgres_ms;
}

/* The same job at the same payload, empty and with a million episodes behind it. */
static void fill(struct bench *bench, const struct figures *empty)
{
    struct figures f = {.raw = empty->raw};
    bench->crew.payload = 4096;
    crew_begin(&bench->crew, GROUPS, STALENESS);
    uint64_t job = bench->crew.job;
    crew_close(&bench->crew);
    place_halt(&bench->place);
    (void)fprintf(stderr, "writing %d episodes\n", FILLED_EPISODES);
    double took = filled_make(&bench->place, job), begin = rig_now();
    place_data(&bench->place);
    crew_open(&bench->crew, bench->place.run_dir);
    bench->crew.payload = 4096;
    crew_resume(&bench->crew, job);
    double again = rig_now() - begin;
    measure(bench, &f);
    print(bench, "4096 B, million behind", &f);
    double ratio = whole_ms(&f) / whole_ms(empty), slower = empty->episodes / f.episodes;
    (void)printf("\n  a million episodes were written in %.0f s; pal-data starts on them in %.2f s\n", took, again);
    (void)printf("  cost of an episode behind them: %.2fx the CPU (limit %.1fx), %.2fx the time\n", ratio, LIMIT_FULL,
                 slower);
    (void)json_object_set_new(bench->out, "filled_cpu_ratio", json_real(ratio));
    (void)json_object_set_new(bench->out, "filled_time_ratio", json_real(slower));
    (void)json_object_set_new(bench->out, "filled_start_s", json_real(again));
}

static const struct rig_words options[] = {{"--payload BYTES", "only this size"},
                                           {"--seconds N", "of each measurement (5)"},
                                           {"--no-fill", "not behind a million episodes"},
                                           {"--json", "ends with one JSON object"},
                                           {NULL, NULL}};

int main(int argc, char **argv)
{
    rig_usage(argc, argv, options);
    static const size_t payloads[] = {400, 4096, 65536};
    static struct bench bench; /* its rings are large */
    struct figures kept = {0};
    size_t only = (size_t)strtoull(rig_option(argc, argv, "--payload", "0"), NULL, 10);
    bench.seconds = strtod(rig_option(argc, argv, "--seconds", "5"), NULL);
    if (bench.seconds <= 0) bench.seconds = 5;
    bench.out = json_pack("{s:s, s:f}", "bench", "ledger", "limit_ratio_to_raw", LIMIT_RAW);
    place_open(&bench.place);
    place_conninfo(&bench.place, "pal", bench.conninfo, sizeof bench.conninfo);
    place_data(&bench.place);
    crew_open(&bench.crew, bench.place.run_dir);
    lease(&bench);
    print_head();
    for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
        struct figures f = {0};
        char name[32];
        if (only && payloads[i] != only) continue;
        bench.crew.payload = payloads[i];
        crew_begin(&bench.crew, GROUPS, STALENESS);
        measure(&bench, &f);
        crew_cancel(&bench.crew);
        measure_raw(&bench, &f);
        (void)snprintf(name, sizeof name, "%zu B", payloads[i]);
        print(&bench, name, &f);
        if (payloads[i] == 4096) kept = f;
    }
    if (kept.episodes > 0 && !rig_flag(argc, argv, "--no-fill")) fill(&bench, &kept);
    (void)printf("  limit: at least %.2f of the raw inserts\n", LIMIT_RAW);
    crew_close(&bench.crew);
    place_close(&bench.place);
    if (rig_flag(argc, argv, "--json")) {
        (void)json_dumpf(bench.out, stdout, JSON_COMPACT);
        (void)printf("\n");
    }
    json_decref(bench.out);
    return 0;
}
