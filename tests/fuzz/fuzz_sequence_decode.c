/* sequence_decode on arbitrary bytes: any answer but a crash; what it accepts encodes again. */
#include "rollout/sequence.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(arena) arena = {0};
    arena_init(&arena, 64 << 20);
    struct sequence sequence;
    if (sequence_decode(span_of(data, size), &arena, &sequence) != ERR_ok) return 0;
    AUTO(buf) out = {0};
    BUG_IF(sequence_encode(&sequence, &out) != ERR_ok);
    return 0;
}
