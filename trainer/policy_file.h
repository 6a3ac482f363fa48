/* A published policy as a file: what the trainer writes to shared memory and rollout workers map.
 *
 * 256 bytes of header (magic "PALPOLCY", format, config, count, digest, job, lineage, version, role, the value head's units
 * and digest), then `count` fp32 weights in the order of tensors.def and, 64-byte aligned, those of the value head if there
 * is one. The weights begin 64-byte aligned when the file is mapped, so models may be wrapped around them without a copy. A
 * file is never changed after it has its name: it is written under another name and renamed. Format 2, which differs from 1
 * by rope scaling, role and value head; both are read. Little-endian. */
#ifndef PAL_TRAINER_POLICY_FILE_H
#define PAL_TRAINER_POLICY_FILE_H

#include "trainer/model/model.h"
#include "trainer/value_head.h"

#define POLICY_FILE_HEADER_BYTES 256
#define POLICY_FILE_ALIGN        64
#define POLICY_FILE_SPANS        4 /* header, weights, what aligns the value head, it */

enum policy_file_role {
    POLICY_FILE_policy,
    POLICY_FILE_orm /* the outcome reward model; its version is the phase it was trained at the end of, from 1 */
};

struct policy_file {
    struct model_config config;
    uint64_t job;
    int64_t lineage;
    int64_t version;
    enum policy_file_role role;
    struct digest digest; /* model_digest of these weights */
    size_t count;         /* parameters */
    const float *weights; /* [count], in the span that was opened */
    size_t value_units;   /* 0: no value head */
    struct digest value_digest;
    const float *value; /* its weights, in the span */
};

/* Size of the whole file for a config that passed model_config_check. */
size_t policy_file_bytes(const struct model_config *config, size_t value_units);

/* The file as spans to be written one after another: header and weights must outlive them. count is not read: it follows from
 * config. */
void policy_file_encode(const struct policy_file *file, uint8_t header[POLICY_FILE_HEADER_BYTES],
                        struct span ret[POLICY_FILE_SPANS], size_t *ret_count);

/* Reads and checks all but the digests: bytes must be 64-byte aligned and outlive the result. ERR_malformed says what is
 * wrong. */
err_t policy_file_open(struct span bytes, struct policy_file *ret) MUST_USE;

/* A model that borrows the opened file's weights (never write to it), after its digest was computed and compared:
 * ERR_malformed when it differs. */
err_t policy_file_model(const struct policy_file *file, struct model **ret) MUST_USE;
/* The value head likewise; ERR_not_found where there is none. */
err_t policy_file_value(const struct policy_file *file, struct value_head **ret) MUST_USE;

#endif
