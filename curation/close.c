#include "curation/close.h"

#include "services/common/base/err.h"

const char *close_name(enum close verdict)
{
    static const char *const names[] = {[CLOSE_OPEN] = "open", [CLOSE_CLOSED] = "closed", [CLOSE_VOID] = "void"};
    return names[verdict];
}

size_t close_needs(size_t size)
{
    if (size <= 1) return 1;
    size_t half = size / 2 + size % 2;
    return half > 2 ? half : 2;
}

enum close close_verdict(size_t size, size_t done, size_t voided)
{
    BUG_IF(size == 0 || done > size || voided > size - done);
    if (done + voided < size) return CLOSE_OPEN;
    return done >= close_needs(size) ? CLOSE_CLOSED : CLOSE_VOID;
}

bool close_quarantines(size_t voids_in_a_row)
{
    return voids_in_a_row >= CLOSE_VOIDS_TO_QUARANTINE;
}
