#include "curation/dart.h"

#include "services/common/base/rng.h"

size_t dart_pick(size_t count, uint64_t seed, int64_t group)
{
    return (size_t)(rng_mix(rng_mix(seed, 0x706f6f6cu), (uint64_t)group) % count);
}
