/* A checkpoint as a file: all that training needs to go on as if it had never stopped.
 *
 * 512 bytes of header (magic "PALCKPNT", format, names, positions, config, digest), then the sections weights, m, v and,
 * where the job has them, the reference's weights, the value head's weights, m and v, and the outcome reward model's weights:
 * fp32, each section beginning 64-byte aligned, zero bytes between. Saving, loading and going on gives the same bits as never
 * having stopped (same number of threads). Where the learning-rate schedule stands is `update`: the rate of update u depends
 * on u only. Format 2, which differs from 1 by rope scaling, value head, phase and outcome reward model; both are read.
 * Little-endian. */
#ifndef PAL_TRAINER_CHECKPOINT_H
#define PAL_TRAINER_CHECKPOINT_H

#include "trainer/model/model.h"

#define CHECKPOINT_HEADER_BYTES 512
#define CHECKPOINT_ALIGN        64
#define CHECKPOINT_SECTIONS     8
#define CHECKPOINT_SPANS        (2 * CHECKPOINT_SECTIONS) /* header, sections, what aligns them */

struct checkpoint {
    struct model_config config;
    uint64_t job;
    int64_t lineage;
    int64_t version;
    int64_t update; /* last update in it, >= version; also the position of the schedule */
    uint64_t seed;  /* the job's */
    uint64_t bad_updates;
    uint64_t optimizer_step; /* AdamW's t */
    struct rng rng;
    struct digest digest;   /* model_digest of the weights */
    size_t count;           /* parameters of a section */
    const float *weights;   /* [count] */
    const float *m;         /* [count] AdamW's first moment */
    const float *v;         /* [count] AdamW's second moment */
    const float *reference; /* [count], or NULL when there is none */
    size_t value_units;     /* 0: no value head */
    uint64_t value_step;    /* its AdamW's t */
    const float *value;     /* [value_head_parameters], and so are its moments; NULL when there is none */
    const float *value_m;
    const float *value_v;
    int64_t phase;       /* phases ended */
    int64_t orm_version; /* phases at whose end the outcome reward model learned */
    const float *orm;    /* [count], or NULL when there is none */
};

/* What a checkpoint holds beside weights, m and v. */
struct checkpoint_parts {
    bool reference;
    size_t value_units;
    bool orm;
};

/* Size of the whole file. */
size_t checkpoint_bytes(const struct model_config *config, const struct checkpoint_parts *parts);
struct checkpoint_parts checkpoint_parts(const struct checkpoint *checkpoint);

/* The file as spans to be written (and hashed) one after another: header holds CHECKPOINT_HEADER_BYTES and outlives them, as
 * do the sections. count follows from config. */
void checkpoint_encode(const struct checkpoint *checkpoint, uint8_t *header, struct span ret[CHECKPOINT_SPANS],
                       size_t *ret_count);

/* Reads and checks everything, the digest and that all numbers are finite included; sections stay in the span, which must be
 * 64-byte aligned. ERR_malformed says what is wrong. */
err_t checkpoint_open(struct span bytes, struct checkpoint *ret) MUST_USE;

#endif
