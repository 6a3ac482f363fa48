#include "services/common/run/payload.h"

#include <zstd.h>

#define LEVEL 1

err_t payload_pack(struct span raw, struct buf *out)
{
    size_t bound = ZSTD_compressBound(raw.size);
    TRY(buf_reserve(out, bound));
    size_t n = ZSTD_compress(out->data + out->size, bound, raw.data, raw.size, LEVEL);
    if (ZSTD_isError(n)) return err_set(ERR_io, "zstd: %s", ZSTD_getErrorName(n));
    out->size += n;
    return ERR_ok;
}

err_t payload_unpack(struct span packed, uint64_t raw_size, struct buf *out)
{
    if (raw_size == 0 || raw_size > PAYLOAD_RAW_MOST)
        return err_set(ERR_malformed, "a payload of %llu bytes; 1 to %llu are allowed", (unsigned long long)raw_size,
                       (unsigned long long)PAYLOAD_RAW_MOST);
    buf_clear(out);
    TRY(buf_reserve(out, raw_size));
    size_t n = ZSTD_decompress(out->data, raw_size, packed.data, packed.size);
    if (ZSTD_isError(n) || n != raw_size)
        return err_set(ERR_malformed, "the payload is not zstd of %llu bytes", (unsigned long long)raw_size);
    out->size = n;
    return ERR_ok;
}
