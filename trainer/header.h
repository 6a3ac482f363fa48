/* Fixed-size little-endian headers: what policy files and checkpoints begin with.
 *
 * A writer and a reader walk the same fields in the same order. Sizes are constants of the formats and checked before
 * walking, so running past the end is a mistake of ours; values are checked by who reads them. */
#ifndef PAL_TRAINER_HEADER_H
#define PAL_TRAINER_HEADER_H

#include "services/common/base/digest.h"
#include "trainer/model/model.h"

#define HEADER_CONFIG_BYTES 68 /* of a model_config */
#define HEADER_FORMAT       2  /* of both kinds of files */

struct header_writer {
    uint8_t *bytes;
    size_t size;
    size_t at;
};

struct header_reader {
    const uint8_t *bytes;
    size_t size;
    size_t at;
};

void header_put(struct header_writer *writer, const void *bytes, size_t size);
void header_put_u32(struct header_writer *writer, uint32_t value);
void header_put_u64(struct header_writer *writer, uint64_t value);
void header_put_digest(struct header_writer *writer, const struct digest *digest); /* 64 hex digits */
void header_put_config(struct header_writer *writer, const struct model_config *config);

const uint8_t *header_get(struct header_reader *reader, size_t size);
uint32_t header_get_u32(struct header_reader *reader);
uint64_t header_get_u64(struct header_reader *reader);
/* ERR_malformed when it is not 64 lower-case hex digits. */
err_t header_get_digest(struct header_reader *reader, struct digest *ret) MUST_USE;
/* ERR_malformed, with the sentence of model_config_check, when the config is none. Files of format 1 know no rope scaling. */
err_t header_get_config(struct header_reader *reader, uint32_t format, struct model_config *ret) MUST_USE;
/* ERR_malformed when anything but zero bytes is left. */
err_t header_get_end(struct header_reader *reader) MUST_USE;

#endif
