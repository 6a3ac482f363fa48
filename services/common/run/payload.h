/* Payloads: an encoded sequence as it travels and lies in the ledger, compressed with zstd.
 *
 * The size before compression travels beside it and is checked before memory is taken. */
#ifndef PAL_RUN_PAYLOAD_H
#define PAL_RUN_PAYLOAD_H

#include "services/common/base/buf.h"

#include <stdint.h>

#define PAYLOAD_RAW_MOST ((uint64_t)64 << 20) /* bytes before compression */

/* Appends the compressed bytes. */
err_t payload_pack(struct span raw, struct buf *out) MUST_USE;
/* Replaces out by the raw bytes: ERR_malformed when they are not zstd of exactly raw_size (1 to PAYLOAD_RAW_MOST) bytes. */
err_t payload_unpack(struct span packed, uint64_t raw_size, struct buf *out) MUST_USE;

#endif
