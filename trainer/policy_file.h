/* A published policy as a file: what the trainer writes to shared memory and rollout workers map.
 *
 * 256 bytes of header (magic "PALPOLCY", format, config, count, digest, job, lineage, version), then `count` fp32 weights in
 * the order of tensors.def, nothing after. The weights begin 64-byte aligned when the file is mapped, so a model may be
 * wrapped around them without a copy. A file is never changed after it has its name: it is written under another name and
 * renamed. Format 2; little-endian. */
#ifndef PAL_TRAINER_POLICY_FILE_H
#define PAL_TRAINER_POLICY_FILE_H

#include "trainer/model/model.h"

#define POLICY_FILE_FORMAT       2
#define POLICY_FILE_HEADER_BYTES 256
#define POLICY_FILE_ALIGN        64

struct policy_file {
    struct model_config config;
    uint64_t job;
    int64_t lineage;
    int64_t version;
    struct digest digest; /* model_digest of these weights */
    size_t count;         /* parameters */
    const float *weights; /* [count], in the span that was opened */
};

/* Size of the whole file for a config that passed model_config_check. */
size_t policy_file_bytes(const struct model_config *config);

/* Writes the header; the caller puts the weights right behind it. count and weights are not read: count follows from config.
 */
void policy_file_header(const struct policy_file *file, uint8_t ret[POLICY_FILE_HEADER_BYTES]);

/* Reads and checks all but the digest: bytes must be 64-byte aligned and outlive the result. ERR_malformed says what is
 * wrong. */
err_t policy_file_open(struct span bytes, struct policy_file *ret) MUST_USE;

/* A model that borrows the opened file's weights (never write to it), after its digest was computed and compared:
 * ERR_malformed when it differs. */
err_t policy_file_model(const struct policy_file *file, struct model **ret) MUST_USE;

#endif
