/* bench_engine: how fast the embedded engine trains and plays, beside what this machine's products and memory allow.
 * --quick fewer figures, --fp16 a cache of halves, --tokens N of a micro-batch, --cpu for a busy machine
 * (bench/engine/engine.h), --only SHAPE (0.5M, 3M, 10M, 135M), --section train|decode|memory|peer, --peer torch, --threads N;
 * one JSON object at the end under --json. */
#include "bench/engine/engine.h"
#include "bench/support/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    void (*run)(struct engine_bench *bench, const struct engine_shape *shape);
} sections[] = {{"train", train_bench}, {"decode", decode_bench}, {"memory", memory_bench}, {"peer", peer_bench}};

static const struct rig_words options[] = {{"--quick", "fewer rounds"},
                                           {"--cpu", "CPU time, for a busy machine"},
                                           {"--fp16", "a KV cache of halves"},
                                           {"--only SHAPE", "this shape"},
                                           {"--section NAME", "this part"},
                                           {"--tokens N", "of a micro-batch"},
                                           {"--threads N", "of the engine (2)"},
                                           {"--peer torch", "beside PyTorch"},
                                           {"--json", "ends with one JSON object"},
                                           {NULL, NULL}};

int main(int argc, char **argv)
{
    rig_usage(argc, argv, options);
    struct engine_bench bench = {.quick = rig_flag(argc, argv, "--quick"),
                                 .cpu = rig_flag(argc, argv, "--cpu"),
                                 .half = rig_flag(argc, argv, "--fp16"),
                                 .rows = json_array()};
    const char *only = rig_option(argc, argv, "--only", NULL), *section = rig_option(argc, argv, "--section", NULL);
    bench.tokens = (size_t)strtoul(rig_option(argc, argv, "--tokens", "0"), NULL, 10);
    bench.threads = (size_t)strtoul(rig_option(argc, argv, "--threads", "2"), NULL, 10);
    if (bench.threads < 1 || bench.threads > 64) rig_die("--threads", "1 to 64");
    engine_must(pool_new(&bench.pool, bench.threads));
    if (rig_option(argc, argv, "--peer", NULL)) peer_open(&bench, rig_option(argc, argv, "--peer", NULL));
    rates_open(&bench);
    struct engine_shape shape;
    for (size_t i = 0; shape_at(i, &shape); i++) {
        if (only && strcmp(only, shape.name) != 0) continue;
        for (size_t s = 0; s < sizeof sections / sizeof *sections; s++) {
            if (!section || strcmp(section, sections[s].name) == 0) sections[s].run(&bench, &shape);
        }
    }
    if (rig_flag(argc, argv, "--json")) {
        json_t *all = json_pack("{s:s s:O}", "bench", "engine", "rows", bench.rows);
        (void)json_dumpf(all, stdout, JSON_COMPACT);
        (void)printf("\n");
        json_decref(all);
    }
    json_decref(bench.rows);
    rates_close(&bench);
    pool_free(&bench.pool);
    return 0;
}
