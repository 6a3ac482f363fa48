#include "trainer/model/bpe.h"

#include <stdlib.h>

#define QUEUE_SHARE 3 /* n - 1 pairs at the start, at most two more with each of n - 1 merges */

struct bpe_symbol {
    int32_t id;
    int32_t before, after; /* neighbours, -1 at the ends */
    bool gone;             /* merged into the one before */
};

/* a pair that may be merged: stale when its symbols have changed since */
struct bpe_pair {
    uint32_t rank;
    int32_t at; /* the left symbol */
    int32_t id; /* what it becomes */
};

void bpe_init(struct bpe *bpe)
{
    *bpe = (struct bpe){.unknown = -1};
    for (size_t i = 0; i < 256; i++) bpe->byte_id[i] = -1;
}

void bpe_fini(struct bpe *bpe)
{
    free(bpe->table);
    *bpe = (struct bpe){0};
}

static size_t place_of(const struct bpe *bpe, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    key *= 0x9e3779b97f4a7c15u;
    size_t mask = bpe->table_size - 1, at = (size_t)(key >> 32) & mask;
    while (bpe->table[at].left >= 0 && (bpe->table[at].left != left || bpe->table[at].right != right)) at = (at + 1) & mask;
    return at;
}

static const struct bpe_merge *find(const struct bpe *bpe, int32_t left, int32_t right)
{
    if (bpe->table_size == 0) return NULL;
    const struct bpe_merge *m = &bpe->table[place_of(bpe, left, right)];
    return m->left >= 0 ? m : NULL;
}

err_t bpe_reserve(struct bpe *bpe, size_t merges)
{
    size_t size = 16;
    while (size < 2 * merges) size *= 2;
    bpe->table = malloc(size * sizeof *bpe->table);
    if (!bpe->table) return err_set(ERR_memory, "%zu merges", merges);
    for (size_t i = 0; i < size; i++) bpe->table[i] = (struct bpe_merge){.left = -1};
    bpe->table_size = size;
    return ERR_ok;
}

err_t bpe_add(struct bpe *bpe, int32_t left, int32_t right, int32_t id)
{
    BUG_IF(2 * bpe->merges >= bpe->table_size || left < 0);
    struct bpe_merge *m = &bpe->table[place_of(bpe, left, right)];
    if (m->left >= 0) return err_set(ERR_malformed, "merge %zu is merge %u again", bpe->merges, m->rank);
    *m = (struct bpe_merge){left, right, id, (uint32_t)bpe->merges++};
    return ERR_ok;
}

/* ---- cutting ---- */

void bpe_scratch_fini(struct bpe_scratch *scratch)
{
    free(scratch->symbols);
    free(scratch->queue);
    *scratch = (struct bpe_scratch){0};
}

static err_t reserve(struct bpe_scratch *s, size_t symbols)
{
    if (symbols <= s->capacity) return ERR_ok;
    if (symbols > INT32_MAX / QUEUE_SHARE) return err_set(ERR_too_large, "a piece of %zu bytes", symbols);
    bpe_scratch_fini(s);
    size_t capacity = symbols < 64 ? 64 : symbols;
    s->symbols = malloc(capacity * sizeof *s->symbols);
    s->queue = malloc(QUEUE_SHARE * capacity * sizeof *s->queue);
    if (!s->symbols || !s->queue) return err_set(ERR_memory, "a piece of %zu bytes", symbols);
    s->capacity = capacity;
    return ERR_ok;
}

static bool earlier(const struct bpe_pair *a, const struct bpe_pair *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void push(struct bpe_pair *queue, size_t *count, struct bpe_pair pair)
{
    size_t at = (*count)++;
    for (; at > 0 && earlier(&pair, &queue[(at - 1) / 2]); at = (at - 1) / 2) queue[at] = queue[(at - 1) / 2];
    queue[at] = pair;
}

static struct bpe_pair pop(struct bpe_pair *queue, size_t *count)
{
    struct bpe_pair first = queue[0], last = queue[--*count];
    size_t at = 0;
    for (size_t child = 1; child < *count; child = 2 * at + 1) {
        if (child + 1 < *count && earlier(&queue[child + 1], &queue[child])) child++;
        if (!earlier(&queue[child], &last)) break;
        queue[at] = queue[child];
        at = child;
    }
    queue[at] = last;
    return first;
}

static void consider(const struct bpe *bpe, const struct bpe_scratch *s, int32_t at, size_t *count)
{
    int32_t after = s->symbols[at].after;
    if (after < 0) return;
    const struct bpe_merge *m = find(bpe, s->symbols[at].id, s->symbols[after].id);
    if (m) push(s->queue, count, (struct bpe_pair){m->rank, at, m->id});
}

/* the piece's bytes as linked symbols; returns how many there are */
static size_t begin(const struct bpe *bpe, struct bpe_symbol *symbols, struct span piece)
{
    size_t n = 0;
    bool unknown = false;
    for (size_t i = 0; i < piece.size; i++) {
        int32_t id = bpe->byte_id[piece.data[i]];
        bool fused = id < 0 && unknown && bpe->fuse_unknown;
        unknown = id < 0;
        if (unknown) id = bpe->unknown;
        if (id < 0 || fused) continue;
        symbols[n] = (struct bpe_symbol){.id = id, .before = (int32_t)n - 1, .after = (int32_t)n + 1};
        n++;
    }
    if (n > 0) symbols[n - 1].after = -1;
    return n;
}

static void merge(const struct bpe *bpe, const struct bpe_scratch *s, const struct bpe_pair *pair, size_t *count)
{
    struct bpe_symbol *left = &s->symbols[pair->at];
    if (left->gone || left->after < 0) return;
    struct bpe_symbol *right = &s->symbols[left->after];
    const struct bpe_merge *m = find(bpe, left->id, right->id);
    if (!m || m->id != pair->id) return; /* one of them is another symbol by now */
    left->id = m->id;
    left->after = right->after;
    right->gone = true;
    if (left->after >= 0) s->symbols[left->after].before = pair->at;
    if (left->before >= 0) consider(bpe, s, left->before, count);
    consider(bpe, s, pair->at, count);
}

err_t bpe_cut(const struct bpe *bpe, struct bpe_scratch *scratch, struct span piece, int32_t *ids, size_t *ret_count)
{
    size_t waiting = 0, out = 0;
    TRY(reserve(scratch, piece.size));
    size_t n = begin(bpe, scratch->symbols, piece);
    for (size_t i = 0; i + 1 < n; i++) consider(bpe, scratch, (int32_t)i, &waiting);
    while (waiting > 0) {
        struct bpe_pair pair = pop(scratch->queue, &waiting);
        merge(bpe, scratch, &pair, &waiting);
    }
    for (int32_t at = n > 0 ? 0 : -1; at >= 0; at = scratch->symbols[at].after) ids[out++] = scratch->symbols[at].id;
    *ret_count = out;
    return ERR_ok;
}
