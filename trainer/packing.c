#include "trainer/packing.h"

#include <stdlib.h>

/* an episode on its way to its place */
struct piece {
    uint32_t index;
    uint32_t tokens;
    uint32_t targets;
    uint32_t bin;
};

struct bin {
    size_t sequences, tokens, targets;
};

static int longest_first(const void *left, const void *right)
{
    const struct piece *a = left, *b = right;
    if (a->tokens != b->tokens) return a->tokens < b->tokens ? 1 : -1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static size_t measure(const struct packing_episode *episodes, size_t count, struct piece *pieces)
{
    size_t tokens = 0;
    for (size_t i = 0; i < count; i++) {
        pieces[i] = (struct piece){(uint32_t)i, episode_trimmed(episodes[i].episode), episodes[i].episode->action_tokens, 0};
        tokens += pieces[i].tokens;
    }
    qsort(pieces, count, sizeof *pieces, longest_first);
    return tokens;
}

/* Returns the number of bins in use; bins has room for one per piece and one per worker. */
static size_t assign(struct piece *pieces, size_t count, size_t tokens, const struct packing_options *options,
                     struct bin *bins)
{
    size_t cap = options->tokens_per_microbatch, used = (tokens + cap - 1) / cap;
    used = (used + options->workers - 1) / options->workers * options->workers;
    if (used > count) used = count;
    for (size_t i = 0; i < count; i++) {
        size_t best = 0;
        for (size_t b = 1; b < used; b++) {
            if (bins[b].tokens < bins[best].tokens) best = b;
        }
        if (bins[best].tokens > 0 && bins[best].tokens + pieces[i].tokens > cap) best = used++;
        pieces[i].bin = (uint32_t)best;
        bins[best].sequences++;
        bins[best].tokens += pieces[i].tokens;
        bins[best].targets += pieces[i].targets;
    }
    return used;
}

/* Arrays of one micro-batch, still empty. */
static err_t take_arrays(struct microbatch *m, const struct bin *bin, const struct packing_episode *first,
                         struct arena *arena)
{
    float **const floats[] = {&m->weight, &m->advantage, &m->behave, &m->theta,    &m->entropy,
                              &m->dlogp,  &m->dentropy,  &m->prox,   &m->reference};
    size_t many = sizeof floats / sizeof *floats;
    m->index = arena_array(arena, uint32_t, bin->sequences);
    m->start = arena_array(arena, uint32_t, bin->sequences + 1);
    m->target = arena_array(arena, uint32_t, bin->targets);
    m->tokens = arena_array(arena, int32_t, bin->tokens);
    m->own = arena_array(arena, uint8_t, bin->targets);
    float *block = arena_array(arena, float, bin->targets *many);
    if (!m->index || !m->start || !m->target || !m->tokens || !m->own || !block)
        return ERR_memory; /* arena_take has said why */
    for (size_t i = 0; i < many; i++) *floats[i] = block + i * bin->targets;
    if (!first->prox) m->prox = NULL;
    if (!first->reference) m->reference = NULL;
    return ERR_ok;
}

static void append(struct microbatch *m, uint32_t index, const struct packing_episode *from, uint32_t tokens, int64_t version)
{
    const struct episode *e = from->episode;
    uint32_t at = m->start[m->batch.sequences], own = 0;
    memcpy(m->tokens + at, e->token, tokens * sizeof *m->tokens);
    for (uint32_t i = 0; i < tokens; i++) {
        if (!e->target[i]) continue;
        size_t t = m->batch.targets++;
        m->target[t] = at + i;
        m->weight[t] = (float)from->weight;
        m->advantage[t] = (float)e->advantage;
        m->behave[t] = e->sampled ? e->logp[i] : LOSS_UNRECORDED;
        m->own[t] = e->sampled && e->version && version >= 0 && e->version[i] == version;
        if (from->prox) m->prox[t] = from->prox[own];
        if (from->reference) m->reference[t] = from->reference[own];
        own++;
    }
    m->index[m->batch.sequences++] = index;
    m->start[m->batch.sequences] = at + tokens;
}

static void make_views(struct microbatch *m, float temperature)
{
    m->batch.start = m->start;
    m->batch.tokens = m->tokens;
    m->batch.target = m->target;
    m->batch.temperature = temperature;
    m->loss = (struct loss_batch){.targets = m->batch.targets,
                                  .weight = m->weight,
                                  .advantage = m->advantage,
                                  .theta = m->theta,
                                  .entropy = m->entropy,
                                  .prox = m->prox,
                                  .behave = m->behave,
                                  .own = m->own,
                                  .reference = m->reference};
}

err_t packing_make(const struct packing_episode *episodes, size_t count, const struct packing_options *options,
                   struct arena *arena, struct packing *ret)
{
    BUG_IF(count == 0 || options->tokens_per_microbatch == 0 || options->workers == 0);
    struct piece *pieces = arena_array(arena, struct piece, count);
    struct bin *bins = arena_array(arena, struct bin, count + options->workers);
    if (!pieces || !bins) return ERR_memory;
    struct packing packing = {.tokens = measure(episodes, count, pieces)};
    packing.count = assign(pieces, count, packing.tokens, options, bins);
    packing.microbatches = arena_array(arena, struct microbatch, packing.count);
    if (!packing.microbatches) return ERR_memory;
    for (size_t b = 0; b < packing.count; b++) TRY(take_arrays(&packing.microbatches[b], &bins[b], &episodes[0], arena));
    for (size_t i = 0; i < count; i++) {
        const struct piece *p = &pieces[i];
        append(&packing.microbatches[p->bin], p->index, &episodes[p->index], p->tokens, options->version);
        packing.targets += p->targets;
    }
    for (size_t b = 0; b < packing.count; b++) make_views(&packing.microbatches[b], options->temperature);
    *ret = packing;
    return ERR_ok;
}
