/* The peer: the same shape with the same weights in PyTorch (bench/peer), measured right after ours, and compared with it. */
#include "bench/engine/engine.h"
#include "bench/support/rig.h"
#include "trainer/model/layout.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE 600

void peer_open(struct engine_bench *bench, const char *peer)
{
    char command[LINE];
    if (strcmp(peer, "torch") != 0) rig_die("--peer", "the only one is torch");
    (void)snprintf(command, sizeof command, "sh '%s/peer/venv.sh' '%s/../peer'", PAL_BENCH_DIR, PAL_BUILD_DIR);
    FILE *pipe = popen(command, "r");
    if (!pipe || !fgets(bench->python, sizeof bench->python, pipe) || pclose(pipe) != 0)
        rig_die("--peer torch", "no Python with PyTorch (its words are above)");
    bench->python[strcspn(bench->python, "\n")] = 0;
}

static void write_weights(const struct model *model, const char *path)
{
    FILE *file = fopen(path, "wb");
    bool good = file && fwrite(model->weights, sizeof(float), model->count, file) == model->count;
    if (!file || fclose(file) != 0 || !good) rig_die(path, "cannot be written");
}

static json_t *describe(const struct engine_bench *bench, const struct engine_shape *shape, const char *weights)
{
    const struct model_config *c = &shape->config;
    json_t *tensors = json_array();
    struct tensor t;
    for (struct tensor_iter iter = {0}; tensor_next(c, &iter, &t);)
        (void)json_array_append_new(tensors, json_pack("[s, I, I]", t.name, (json_int_t)t.rows, (json_int_t)t.cols));
    json_t *config = json_pack("{s:i s:i s:i s:i s:i s:i s:i s:f s:f}", "vocab", c->vocab, "layers", c->layers, "width",
                               c->width, "heads", c->heads, "kv_heads", c->kv_heads, "head_dim", c->head_dim, "ff", c->ff,
                               "rope_theta", (double)c->rope_theta, "rms_eps", (double)c->rms_eps);
    return json_pack("{s:o s:o s:s s:I s:i s:i s:i s:b s:f}", "config", config, "tensors", tensors, "weights", weights,
                     "count", (json_int_t)model_parameters(c), "ids", ENGINE_VOCAB, "positions", c->max_positions, "threads",
                     (int)bench->threads, "cpu", (int)bench->cpu, "seconds", bench->quick ? 0.5 : 1.2);
}

static json_t *ask(const struct engine_bench *bench, json_t *job, const char *path)
{
    char command[2 * LINE];
    if (json_dump_file(job, path, 0) != 0) rig_die(path, "cannot be written");
    (void)snprintf(command, sizeof command, "'%s' '%s/peer/torch_peer.py' '%s'", bench->python, PAL_BENCH_DIR, path);
    FILE *pipe = popen(command, "r");
    json_t *answer = pipe ? json_loadf(pipe, 0, NULL) : NULL;
    if (!pipe || pclose(pipe) != 0 || !answer) rig_die("the peer", "failed");
    return answer;
}

static void compare(struct engine_bench *bench, const struct engine_shape *shape, const char *what, const json_t *theirs,
                    const char *length, double ours)
{
    double rate = rig_number(theirs, "tokens_per_s"), batch = rig_number(theirs, "batch"), n = rig_number(theirs, length);
    (void)printf("peer      %-5s %s %2.0f x %4.0f, torch %24.0f tokens/s   ours %.0f, %.1fx\n", shape->name, what, batch, n,
                 rate, ours, ours / rate);
    engine_row(bench,
               json_pack("{s:s s:s s:s s:f s:f s:f s:f s:f}", "what", "peer", "shape", shape->name, "of", what, "batch",
                         batch, length, n, "torch_tokens_per_s", rate, "tokens_per_s", ours, "ratio", ours / rate));
}

/* Is it the same mathematics? Mean log-prob and entropy over the batch. */
static void agree(const struct engine_shape *shape, const json_t *theirs, const struct train_check *ours)
{
    double gap = fabs(rig_number(theirs, "logp") - ours->logp), spread = fabs(rig_number(theirs, "entropy") - ours->entropy);
    double norm = fabs(rig_number(theirs, "norm") / ours->norm - 1);
    if (gap < 1e-3 && spread < 1e-3 && norm < 1e-2) return;
    (void)fprintf(
        stderr,
        "bench_engine: %s: ours and the peer's differ by %.2g in log-prob, %.2g in entropy, %.2g in the gradient's norm\n",
        shape->name, gap, spread, norm);
    exit(1);
}

void peer_bench(struct engine_bench *bench, const struct engine_shape *shape)
{
    if (!bench->python[0]) return;
    char weights[64] = "/tmp/pal-bench-peer-XXXXXX", path[80];
    int fd = mkstemp(weights);
    if (fd < 0) rig_die(weights, "cannot be made");
    (void)close(fd);
    (void)snprintf(path, sizeof path, "%s.json", weights);
    struct model *model = shape_model(shape, 1);
    write_weights(model, weights);
    model_free(&model);
    bool large = shape->config.layers > 10;
    size_t sequences = 2, length = 256, times = large ? 1 : 4;
    uint32_t batches[] = {1, 16, 64}, context = 256;
    json_t *job = describe(bench, shape, weights);
    (void)json_object_set_new(job, "train", json_pack("[[i, i]]", (int)(sequences * times * bench->threads), (int)length));
    (void)json_object_set_new(job, "unique", json_integer((json_int_t)sequences));
    (void)json_object_set_new(job, "decode",
                              json_pack("[[i, i], [i, i], [i, i]]", (int)batches[0], (int)context, (int)batches[1],
                                        (int)context, (int)batches[2], (int)context));
    struct train_check check;
    double products, ours = train_rate(bench, shape, sequences, length, times, &products, &check);
    json_t *theirs = ask(bench, job, path), *row = NULL;
    const json_t *trained = json_array_get(json_object_get(theirs, "train"), 0);
    agree(shape, trained, &check);
    compare(bench, shape, "train ", trained, "length", ours);
    size_t i = 0;
    json_array_foreach(json_object_get(theirs, "decode"), i, row)
        compare(bench, shape, "decode", row, "context", decode_rate(bench, shape, batches[i], context, &products));
    json_decref(theirs);
    json_decref(job);
    (void)unlink(weights);
    (void)unlink(path);
}
