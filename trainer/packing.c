#include "trainer/packing.h"

#include <stdlib.h>

/* what a packed context is made of */
struct size {
    uint32_t tokens, targets, live, turns, states;
};

struct bin {
    size_t sequences, tokens, targets, turns, states;
};

/* a lesson's targets one after the other */
struct walk {
    struct lesson *lesson;
    bool states;
    uint32_t seen; /* targets passed */
    uint32_t turn; /* of the last one */
};

/* a context on its way to its place */
struct piece {
    struct walk walk; /* before its first target */
    uint32_t order;
    uint32_t from;
    struct size size;
    uint32_t bin;
};

enum use { USE_none, USE_live, USE_state, USE_both };

/* How token `at` is used; walk moves past it when it is a target. */
static enum use use_of(struct walk *walk, uint32_t at)
{
    const struct episode *e = walk->lesson->episode;
    if (!e->target[at]) return USE_none;
    uint32_t turn = episode_turn(e, at);
    bool first = walk->seen == 0 || walk->turn != turn;
    walk->seen++;
    walk->turn = turn;
    bool live = walk->lesson->policy && !episode_drops(e, turn), state = walk->states && first;
    return live && state ? USE_both : live ? USE_live : state ? USE_state : USE_none;
}

static bool is_live(enum use use)
{
    return use == USE_live || use == USE_both;
}

/* A context's tokens up to its last used target; walk is past all of its targets then. */
static struct piece measure(struct walk *walk, struct episode_context context)
{
    struct piece piece = {.walk = *walk, .from = context.from};
    struct size size = {0};
    uint32_t last = UINT32_MAX;
    for (uint32_t i = context.from; i < context.to; i++) {
        enum use use = use_of(walk, i);
        if (use == USE_none) continue;
        size.tokens = i + 1 - context.from;
        size.targets++;
        size.states += use == USE_state || use == USE_both ? 1 : 0;
        if (!is_live(use)) continue;
        size.live++;
        size.turns += walk->turn != last ? 1 : 0;
        last = walk->turn;
    }
    piece.size = size;
    return piece;
}

static int longest_first(const void *left, const void *right)
{
    const struct piece *a = left, *b = right;
    if (a->size.tokens != b->size.tokens) return a->size.tokens < b->size.tokens ? 1 : -1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* All contexts with a target, longest first. */
static err_t cut(struct lesson *const *lessons, size_t count, const struct packing_options *options, struct arena *arena,
                 struct piece **ret, size_t *ret_count)
{
    size_t most = 0, n = 0;
    for (size_t i = 0; i < count; i++) most += episode_contexts(lessons[i]->episode);
    struct piece *pieces = arena_array(arena, struct piece, most + 1);
    if (!pieces) return ERR_memory;
    for (size_t i = 0; i < count; i++) {
        struct walk walk = {.lesson = lessons[i], .states = options->state_weight > 0};
        for (uint32_t c = 0; c < episode_contexts(lessons[i]->episode); c++) {
            struct piece piece = measure(&walk, episode_context(lessons[i]->episode, c, options->with_hint));
            piece.order = (uint32_t)n;
            if (piece.size.targets > 0) pieces[n++] = piece;
        }
    }
    qsort(pieces, n, sizeof *pieces, longest_first);
    *ret = pieces;
    *ret_count = n;
    return ERR_ok;
}

/* Returns the number of bins in use; bins has room for one per piece and one per worker. */
static size_t assign(struct piece *pieces, size_t count, const struct packing_options *options, struct bin *bins)
{
    size_t cap = options->tokens_per_microbatch, tokens = 0;
    for (size_t i = 0; i < count; i++) tokens += pieces[i].size.tokens;
    size_t used = (tokens + cap - 1) / cap;
    used = (used + options->workers - 1) / options->workers * options->workers;
    if (used > count) used = count;
    for (size_t i = 0; i < count; i++) {
        const struct size *size = &pieces[i].size;
        size_t best = 0;
        for (size_t b = 1; b < used; b++) {
            if (bins[b].tokens < bins[best].tokens) best = b;
        }
        if (bins[best].tokens > 0 && bins[best].tokens + size->tokens > cap) best = used++;
        pieces[i].bin = (uint32_t)best;
        bins[best].sequences++;
        bins[best].tokens += size->tokens;
        bins[best].targets += size->targets;
        bins[best].turns += size->turns;
        bins[best].states += size->states;
    }
    return used;
}

/* Arrays of one micro-batch, still empty. */
static err_t take_arrays(struct microbatch *m, const struct bin *bin, bool with_reference, struct arena *arena)
{
    float **const floats[] = {&m->weight, &m->advantage, &m->behave, &m->theta,   &m->entropy,
                              &m->dlogp,  &m->dentropy,  &m->prox,   &m->scratch, &m->reference};
    size_t many = sizeof floats / sizeof *floats;
    m->lesson = arena_array(arena, struct lesson *, bin->sequences);
    m->start = arena_array(arena, uint32_t, bin->sequences + 1);
    m->first = arena_array(arena, uint32_t, bin->sequences + 1);
    m->sequence = arena_array(arena, struct loss_sequence, bin->sequences);
    m->turn = arena_array(arena, struct loss_turn, bin->turns + 1);
    m->state = arena_array(arena, struct value_state, bin->states + 1);
    m->target = arena_array(arena, uint32_t, bin->targets);
    m->place = arena_array(arena, uint32_t, bin->targets);
    m->tokens = arena_array(arena, int32_t, bin->tokens);
    m->own = arena_array(arena, uint8_t, bin->targets);
    float *block = arena_array(arena, float, bin->targets *many);
    if (!m->lesson || !m->start || !m->first || !m->sequence || !m->turn || !m->state || !m->target || !m->place ||
        !m->tokens || !m->own || !block)
        return ERR_memory; /* arena_take has said why */
    for (size_t i = 0; i < many; i++) *floats[i] = block + i * bin->targets;
    if (!with_reference) m->reference = NULL;
    return ERR_ok;
}

/* Target `place` of the lesson, at token `at` of its episode, as the loss sees it. */
static void append_live(struct microbatch *m, const struct lesson *l, uint32_t at, uint32_t place,
                        const struct packing_options *options)
{
    const struct episode *e = l->episode;
    size_t t = m->batch.targets;
    uint32_t turn = episode_turn(e, at);
    m->weight[t] = l->weight[turn];
    m->advantage[t] = l->advantage[turn];
    m->behave[t] = lesson_recorded(l) ? e->logp[at] : LOSS_UNRECORDED;
    bool compared = e->version && options->version >= 0 && (l->prox || !options->moves);
    m->own[t] = compared && e->version[at] == options->version;
    if (l->prox) m->prox[t] = l->prox[place];
    if (m->reference && l->reference) m->reference[t] = l->reference[place];
}

/* One more target of the turn that is being appended, or the first of the next one. */
static void append_turn(struct microbatch *m, struct loss_sequence *sequence, bool first)
{
    if (first) {
        m->turn[m->loss.turns++] = (struct loss_turn){(uint32_t)m->batch.targets, 0};
        sequence->count++;
    }
    m->turn[m->loss.turns - 1].count++;
}

static void append(struct microbatch *m, const struct piece *piece, const struct packing_options *options)
{
    struct walk walk = piece->walk;
    struct lesson *l = walk.lesson;
    const struct episode *e = l->episode;
    uint32_t to = m->start[m->batch.sequences], last = UINT32_MAX;
    struct loss_sequence sequence = {.first = (uint32_t)m->loss.turns, .hinted = l->hinted};
    memcpy(m->tokens + to, e->token + piece->from, piece->size.tokens * sizeof *m->tokens);
    for (uint32_t i = 0; i < piece->size.tokens; i++) {
        uint32_t place = walk.seen;
        enum use use = use_of(&walk, piece->from + i);
        if (use == USE_none) continue;
        size_t t = m->batch.targets;
        m->target[t] = to + i;
        m->place[t] = place;
        m->behave[t] = LOSS_UNRECORDED;
        if (use != USE_live) m->state[m->states++] = (struct value_state){.target = (uint32_t)t, .turn = walk.turn};
        if (is_live(use)) {
            append_live(m, l, piece->from + i, place, options);
            append_turn(m, &sequence, walk.turn != last);
            last = walk.turn;
        }
        m->batch.targets++;
    }
    m->lesson[m->batch.sequences] = l;
    m->sequence[m->batch.sequences++] = sequence;
    m->start[m->batch.sequences] = to + piece->size.tokens;
    m->first[m->batch.sequences] = (uint32_t)m->batch.targets;
}

/* What each state is to become. */
static void fill_states(struct microbatch *m, float weight)
{
    size_t sequence = 0;
    for (size_t i = 0; i < m->states; i++) {
        struct value_state *state = &m->state[i];
        while (state->target >= m->first[sequence + 1]) sequence++;
        const struct lesson *l = m->lesson[sequence];
        state->outcome = l->outcome ? l->outcome[state->turn] : 0;
        state->weight = weight;
    }
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
                                  .reference = m->reference,
                                  .turns = m->loss.turns,
                                  .turn = m->turn,
                                  .sequences = m->batch.sequences,
                                  .sequence = m->sequence,
                                  .scratch = m->scratch};
}

err_t packing_make(struct lesson *const *lessons, size_t count, const struct packing_options *options, struct arena *arena,
                   struct packing *ret)
{
    BUG_IF(options->tokens_per_microbatch == 0 || options->workers == 0);
    struct packing packing = {0};
    struct piece *pieces = NULL;
    size_t many = 0;
    bool with_reference = false;
    for (size_t i = 0; i < count; i++) with_reference |= lessons[i]->reference != NULL;
    TRY(cut(lessons, count, options, arena, &pieces, &many));
    struct bin *bins = arena_array(arena, struct bin, many + options->workers);
    if (!bins) return ERR_memory;
    packing.count = assign(pieces, many, options, bins);
    packing.microbatches = arena_array(arena, struct microbatch, packing.count + 1);
    if (!packing.microbatches) return ERR_memory;
    for (size_t b = 0; b < packing.count; b++) TRY(take_arrays(&packing.microbatches[b], &bins[b], with_reference, arena));
    for (size_t i = 0; i < many; i++) {
        append(&packing.microbatches[pieces[i].bin], &pieces[i], options);
        packing.tokens += pieces[i].size.tokens;
        packing.targets += pieces[i].size.targets;
        packing.live += pieces[i].size.live;
        packing.states += pieces[i].size.states;
    }
    for (size_t b = 0; b < packing.count; b++) {
        fill_states(&packing.microbatches[b], options->state_weight);
        make_views(&packing.microbatches[b], options->temperature);
    }
    *ret = packing;
    return ERR_ok;
}
