/* Byte-pair encoding (Gage 1994; Sennrich et al. 2016) over bytes: the merges, and a piece of text cut by them.
 *
 * A piece starts as its bytes' ids; the neighbouring pair of lowest rank becomes its merged id, the leftmost first where
 * ranks are equal, until no pair is left that has a merge. O(n log n) in the piece's bytes. */
#ifndef PAL_TRAINER_MODEL_BPE_H
#define PAL_TRAINER_MODEL_BPE_H

#include "services/common/base/err.h"
#include "services/common/base/span.h"

struct bpe_merge {
    int32_t left, right; /* left -1: an empty place of the table */
    int32_t id;          /* what the pair becomes */
    uint32_t rank;
};

struct bpe {
    int32_t byte_id[256];    /* of each single byte, or -1 */
    int32_t unknown;         /* what stands for a byte without an id, or -1: it is left out */
    bool fuse_unknown;       /* one for a run of them */
    struct bpe_merge *table; /* open addressing */
    size_t table_size;       /* a power of two */
    size_t merges;
};

void bpe_init(struct bpe *bpe); /* no bytes, no merges */
void bpe_fini(struct bpe *bpe);
err_t bpe_reserve(struct bpe *bpe, size_t merges) MUST_USE; /* before the first bpe_add */
/* The next merge, one rank below the one before. ERR_malformed when the pair has one. */
err_t bpe_add(struct bpe *bpe, int32_t left, int32_t right, int32_t id) MUST_USE;

/* Memory for cutting; grows and is used again. */
struct bpe_scratch {
    struct bpe_symbol *symbols;
    struct bpe_pair *queue;
    size_t capacity; /* symbols */
};

void bpe_scratch_fini(struct bpe_scratch *scratch);
/* The ids of a piece of n bytes go to ids [n]; *ret_count <= n. */
err_t bpe_cut(const struct bpe *bpe, struct bpe_scratch *scratch, struct span piece, int32_t *ids,
              size_t *ret_count) MUST_USE;

#endif
