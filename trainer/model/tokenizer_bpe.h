/* A byte-level BPE tokenizer's inside, shared by tokenizer_bpe.c (its work) and tokenizer_json.c (its file). */
#ifndef PAL_TRAINER_MODEL_TOKENIZER_BPE_H
#define PAL_TRAINER_MODEL_TOKENIZER_BPE_H

#include "services/common/base/arena.h"
#include "trainer/model/added.h"
#include "trainer/model/bpe.h"
#include "trainer/model/split.h"
#include "trainer/model/tokenizer_impl.h"

struct tokenizer_bpe {
    struct tokenizer base;
    struct arena texts; /* bytes of all tokens */
    struct span *text;  /* [vocab] what a token decodes to; size 0: no such token */
    struct bpe bpe;
    struct trie whole; /* ignore_merges: pieces that are tokens as they stand */
    bool ignore_merges;
    bool compose; /* normal form C first */
    struct split *splits[SPLIT_MOST];
    size_t split_count;
    struct added added;
};

/* Allocated, empty. */
err_t tokenizer_bpe_new(struct tokenizer_bpe **ret) MUST_USE;

#endif
