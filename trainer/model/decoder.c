#include "trainer/model/decoder.h"

#include "trainer/model/decoder_impl.h"
#include "trainer/model/rope.h"

#include <stdlib.h>

#define MAX_SLOTS       4096
#define CHUNK_TOKENS    48 /* enough rows for the products to run at speed */
#define CHUNKS_A_THREAD 4
#define ROUND_UP(n)     (((n) + 15) / 16 * 16)

static struct packed_layout packed_layout_of(const struct model_config *c)
{
    size_t D = (size_t)c->width, E = (size_t)c->head_dim, A = (size_t)c->heads * E, F = (size_t)c->ff;
    struct packed_layout at = {0};
    at.o = gemm_packed_floats(A + 2 * (size_t)c->kv_heads * E, D);
    at.gu = at.o + gemm_packed_floats(D, A);
    at.down = at.gu + gemm_packed_floats(2 * F, D);
    at.layer_stride = at.down + gemm_packed_floats(D, F);
    at.head = at.layer_stride * (size_t)c->layers;
    at.count = at.head + gemm_packed_floats((size_t)c->vocab, D);
    return at;
}

/* Sets where a worker's arrays lie, given the block. Returns the floats of the block. */
static size_t place_arrays(const struct decoder *d, struct decoder_work *w)
{
    const struct model_config *c = &d->config;
    size_t D = (size_t)c->width, E = (size_t)c->head_dim, A = (size_t)c->heads * E, F = (size_t)c->ff;
    const struct {
        float **to;
        size_t floats;
    } parts[] = {
        {&w->x, DECODER_ROWS * D},
        {&w->n, DECODER_ROWS * D},
        {&w->qkv, DECODER_ROWS * (A + 2 * (size_t)c->kv_heads * E)},
        {&w->att, DECODER_ROWS * A},
        {&w->gu, DECODER_ROWS * 2 * F},
        {&w->act, DECODER_ROWS * F},
        {&w->logits, DECODER_ROWS * d->head_ids},
        {&w->scores, (size_t)(c->heads / c->kv_heads) * d->context},
    };
    size_t at = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].to = w->block ? w->block + at : NULL;
        at += ROUND_UP(parts[i].floats);
    }
    return at;
}

static err_t work_init(struct decoder *d, struct decoder_work *w)
{
    w->block = aligned_alloc(64, place_arrays(d, w) * sizeof(float));
    if (!w->block) return err_set(ERR_memory, "a decoder's worker");
    (void)place_arrays(d, w);
    return ERR_ok;
}

size_t decoder_token_bytes(const struct model_config *c, bool half_cache)
{
    size_t elements = (size_t)c->layers * (size_t)c->kv_heads * 2 * (size_t)c->head_dim;
    return elements * (half_cache ? sizeof(uint16_t) : sizeof(float));
}

static struct decoder decoder_of(const struct model_config *config, const struct decoder_options *options, size_t threads)
{
    return (struct decoder){
        .config = *config,
        .layout = layout_of(config),
        .packing = packed_layout_of(config),
        .kernels = kernels(),
        .threads = threads,
        .slots = options->slots,
        .max_context = options->max_context,
        .half_cache = options->half_cache,
        .head_ids = ROUND_UP((size_t)config->vocab) < DECODER_IDS ? ROUND_UP((size_t)config->vocab) : DECODER_IDS,
        .context = ((size_t)options->max_context + KV_PANEL - 1) / KV_PANEL * KV_PANEL,
    };
}

static size_t cache_bytes(const struct decoder *d)
{
    return d->slots * d->context * decoder_token_bytes(&d->config, d->half_cache);
}

size_t decoder_bytes_of(const struct model_config *config, const struct decoder_options *options, size_t threads,
                        size_t versions)
{
    const struct decoder d = decoder_of(config, options, threads);
    struct decoder_work w = {0};
    return sizeof d + cache_bytes(&d) + d.slots * (sizeof *d.used + sizeof *d.version + sizeof *d.seen) +
           versions * ROUND_UP(d.packing.count) * sizeof(float) +
           threads * (sizeof w + place_arrays(&d, &w) * sizeof(float)) +
           d.max_context * (size_t)config->head_dim * sizeof(float);
}

static err_t decoder_init(struct decoder *d)
{
    /* not touched here: the system gives a page when a position, or a version's weight, in it is first written */
    d->cache = aligned_alloc(64, (cache_bytes(d) + 63) / 64 * 64);
    d->used = calloc(d->slots, sizeof *d->used);
    d->version = calloc(d->slots, sizeof *d->version);
    d->seen = calloc(d->slots, sizeof *d->seen);
    d->cut = calloc(d->threads * CHUNKS_A_THREAD + 1, sizeof *d->cut);
    d->work = calloc(d->threads, sizeof *d->work);
    if (!d->cache || !d->used || !d->version || !d->seen || !d->cut || !d->work)
        return err_set(ERR_memory, "a decoder of %u slots of %u positions", d->slots, d->max_context);
    for (size_t i = 0; i < DECODER_VERSIONS; i++) {
        d->packed[i].floats = aligned_alloc(64, ROUND_UP(d->packing.count) * sizeof(float));
        if (!d->packed[i].floats) return err_set(ERR_memory, "a decoder's packed weights");
    }
    for (size_t i = 0; i < d->threads; i++) TRY(work_init(d, &d->work[i]));
    return rope_table(&d->rope, &d->config, d->max_context);
}

err_t decoder_new(struct decoder **ret, const struct model_config *config, const struct decoder_options *options,
                  struct pool *pool)
{
    TRY(model_config_check(config));
    uint32_t slots = options->slots, context = options->max_context;
    if (slots < 1 || slots > MAX_SLOTS)
        return err_set(ERR_invalid, "a decoder of %u slots; 1 to %d are allowed", slots, MAX_SLOTS);
    if (context < 1 || context > (uint32_t)config->max_positions)
        return err_set(ERR_invalid, "a decoder of %u positions; the model has 1 to %d", context, config->max_positions);
    struct decoder *d = calloc(1, sizeof *d);
    if (!d) return err_set(ERR_memory, "a decoder");
    *d = decoder_of(config, options, pool_threads(pool));
    d->pool = pool;
    err_t err = decoder_init(d);
    if (err != ERR_ok)
        decoder_free(&d);
    else
        *ret = d;
    return err;
}

void decoder_free(struct decoder **decoder)
{
    struct decoder *d = *decoder;
    *decoder = NULL;
    if (!d) return;
    for (size_t i = 0; d->work && i < d->threads; i++) free(d->work[i].block);
    for (size_t i = 0; i < DECODER_VERSIONS; i++) free(d->packed[i].floats);
    free(d->work);
    free(d->cut);
    free(d->seen);
    free(d->version);
    free(d->used);
    free(d->rope);
    free(d->cache);
    free(d);
}

size_t decoder_bytes(const struct decoder *decoder)
{
    const struct decoder_options options = {decoder->slots, decoder->max_context, decoder->half_cache};
    return decoder_bytes_of(&decoder->config, &options, decoder->threads, DECODER_VERSIONS);
}

void decoder_reset(struct decoder *decoder, uint32_t slot)
{
    BUG_IF(slot >= decoder->slots);
    decoder->used[slot] = 0;
}

void decoder_share(struct decoder *d, uint32_t to, uint32_t from, uint32_t count)
{
    BUG_IF(to >= d->slots || from >= d->slots || d->used[to] > 0 || count > d->used[from]);
    size_t half = d->context * (size_t)d->config.head_dim * (d->half_cache ? sizeof(uint16_t) : sizeof(float));
    size_t heads = (size_t)d->config.layers * (size_t)d->config.kv_heads, position = half / d->context;
    size_t panels = (count + KV_PANEL - 1) / KV_PANEL * KV_PANEL;
    for (size_t i = 0; i < heads; i++) {
        uint8_t *keys = d->cache + (to * heads + i) * 2 * half;
        const uint8_t *other = d->cache + (from * heads + i) * 2 * half;
        memcpy(keys, other, panels * position);
        memcpy(keys + half, other + half, count * position);
    }
    d->used[to] = count;
    d->version[to] = d->version[from];
}

void decoder_cut(struct decoder *decoder, uint32_t slot, uint32_t count)
{
    BUG_IF(slot >= decoder->slots || count > decoder->used[slot]);
    decoder->used[slot] = count;
}

uint32_t decoder_used(const struct decoder *decoder, uint32_t slot)
{
    BUG_IF(slot >= decoder->slots);
    return decoder->used[slot];
}

static err_t check_item(struct decoder *d, uint64_t version, const struct decoder_item *item)
{
    if (item->slot >= d->slots) return err_set(ERR_invalid, "slot %u of %u", item->slot, d->slots);
    if (d->seen[item->slot] == d->steps) return err_set(ERR_invalid, "slot %u stands twice in a step", item->slot);
    d->seen[item->slot] = d->steps;
    uint32_t used = d->used[item->slot];
    BUG_IF(used > 0 && d->version[item->slot] != version);
    if (item->count == 0) return err_set(ERR_invalid, "slot %u: no token to feed", item->slot);
    if (item->count > d->max_context - used)
        return err_set(ERR_too_large, "slot %u: %u tokens after %u pass the context of %u", item->slot, item->count, used,
                       d->max_context);
    for (uint32_t i = 0; i < item->count; i++) {
        if (item->tokens[i] < 0 || item->tokens[i] >= d->config.vocab)
            return err_set(ERR_invalid, "slot %u: token %d is not within the vocabulary of %d", item->slot, item->tokens[i],
                           d->config.vocab);
    }
    return ERR_ok;
}

static void pack(const struct decoder *d, const struct model *model, float *to)
{
    const struct model_config *c = &d->config;
    size_t D = (size_t)c->width, E = (size_t)c->head_dim, A = (size_t)c->heads * E, F = (size_t)c->ff;
    const struct packed_layout *at = &d->packing;
    void (*one)(float *, const float *, size_t, size_t) = d->kernels->gemm_pack;
    for (size_t l = 0; l < (size_t)c->layers; l++) {
        float *layer = to + l * at->layer_stride;
        one(layer + at->qkv, tensor_in(&d->layout, model->weights, TENSOR_q_proj, l), A + 2 * (size_t)c->kv_heads * E, D);
        one(layer + at->o, tensor_in(&d->layout, model->weights, TENSOR_o_proj, l), D, A);
        one(layer + at->gu, tensor_in(&d->layout, model->weights, TENSOR_gate_proj, l), 2 * F, D);
        one(layer + at->down, tensor_in(&d->layout, model->weights, TENSOR_down_proj, l), D, F);
    }
    one(to + at->head, tensor_in(&d->layout, model->weights, TENSOR_head, 0), (size_t)c->vocab, D);
}

/* this version's packed weights, made when they are new in place of the longest unused */
static const struct packed *packed_of(struct decoder *d, const struct model *model, uint64_t version)
{
    struct packed *oldest = &d->packed[0];
    for (size_t i = 0; i < DECODER_VERSIONS; i++) {
        struct packed *p = &d->packed[i];
        if (p->last_step > 0 && p->version == version) {
            p->last_step = d->steps;
            return p;
        }
        if (p->last_step < oldest->last_step) oldest = p;
    }
    oldest->version = version;
    oldest->last_step = d->steps;
    pack(d, model, oldest->floats);
    return oldest;
}

struct decoder_pass decoder_pass_of(struct decoder *d, struct decoder_work *w, const struct model *model,
                                    const struct packed *packed)
{
    const struct model_config *c = &d->config;
    size_t H = (size_t)c->heads, K = (size_t)c->kv_heads, E = (size_t)c->head_dim;
    return (struct decoder_pass){
        .d = d,
        .k = d->kernels,
        .w = w,
        .weights = model->weights,
        .packed = packed->floats,
        .D = (size_t)c->width,
        .H = H,
        .K = K,
        .E = E,
        .A = H * E,
        .S = (H + 2 * K) * E,
        .F = (size_t)c->ff,
        .eps = c->rms_eps,
    };
}

/* Cuts the items into chunks of about equal tokens; returns how many. Depends on the items and the threads only. */
static size_t cut_items(struct decoder *d, const struct decoder_item *items, size_t count)
{
    size_t tokens = 0, done = 0, chunk = 0;
    for (size_t i = 0; i < count; i++) tokens += items[i].count;
    size_t chunks = tokens / CHUNK_TOKENS;
    if (chunks < d->threads) chunks = d->threads;
    if (chunks > d->threads * CHUNKS_A_THREAD) chunks = d->threads * CHUNKS_A_THREAD;
    if (chunks > (tokens + 3) / 4) chunks = (tokens + 3) / 4;
    d->cut[0] = 0;
    for (size_t i = 0; i < count; i++) {
        done += items[i].count;
        while (chunk < chunks && done * chunks >= (chunk + 1) * tokens) d->cut[++chunk] = i + 1;
    }
    return chunk;
}

struct round {
    struct decoder *decoder;
    const struct model *model;
    const struct packed *packed;
    const struct decoder_item *items;
};

static void play_chunk(void *ctx, size_t index, size_t worker)
{
    const struct round *round = ctx;
    struct decoder *d = round->decoder;
    const struct decoder_pass pass = decoder_pass_of(d, &d->work[worker], round->model, round->packed);
    decoder_feed(&pass, round->items, d->cut[index], d->cut[index + 1]);
}

err_t decoder_step(struct decoder *decoder, const struct model *model, uint64_t version, const struct decoder_item *items,
                   size_t count)
{
    BUG_IF(model->count != decoder->layout.count);
    if (count == 0) return ERR_ok;
    decoder->steps++;
    for (size_t i = 0; i < count; i++) TRY(check_item(decoder, version, &items[i]));
    struct round round = {decoder, model, packed_of(decoder, model, version), items};
    if (decoder_may_split(decoder, items, count))
        decoder_feed_split(decoder, model, round.packed, items, count);
    else
        pool_run(decoder->pool, cut_items(decoder, items, count), false, play_chunk, &round);
    for (size_t i = 0; i < count; i++) {
        decoder->used[items[i].slot] += items[i].count;
        decoder->version[items[i].slot] = version;
    }
    return ERR_ok;
}
