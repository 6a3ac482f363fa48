/* SHA-256 (OpenSSL) as lower-case hex: the identity of weights, checkpoints, tasks and migrations. */
#ifndef PAL_BASE_DIGEST_H
#define PAL_BASE_DIGEST_H

#include "services/common/base/err.h"
#include "services/common/base/span.h"

#define DIGEST_HEX_BYTES 65 /* 64 hex digits and the terminator */

struct digest {
    char hex[DIGEST_HEX_BYTES];
};

err_t digest_bytes(struct span bytes, struct digest *ret) MUST_USE;
/* SHA-256 of the concatenation. */
err_t digest_spans(const struct span *spans, size_t count, struct digest *ret) MUST_USE;
err_t random_bytes(void *ret, size_t size) MUST_USE; /* cryptographic */

#endif
