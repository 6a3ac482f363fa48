#include "curation/curriculum.h"

#include "services/common/base/rng.h"

#define ROUNDS 6

static const struct {
    const char *name;
    err_t (*draw)(const struct curriculum *curriculum, struct curriculum_draw *ret);
} kinds[] = {
#define CURRICULUM(name, doc) {#name, curriculum_##name},
#include "curation/curriculum.def"
#undef CURRICULUM
};

const char *curriculum_name(enum curriculum_kind kind)
{
    return kinds[kind].name;
}

err_t curriculum_draw(enum curriculum_kind kind, const struct curriculum *curriculum, struct curriculum_draw *ret)
{
    BUG_IF(curriculum->count > CURRICULUM_ENVIRONMENTS);
    return kinds[kind].draw(curriculum, ret);
}

/* A Feistel network over the smallest square 4^half >= n, walked until it lands below n (Black and Rogaway, Ciphers with
 * arbitrary finite domains, 2002): at most 4 steps on average, since 4^half < 4 n. */
uint64_t curriculum_permute(uint64_t seed, uint64_t n, uint64_t index)
{
    BUG_IF(index >= n);
    unsigned half = 1;
    while (half < 32 && (uint64_t)1 << (2 * half) < n) half++;
    uint64_t mask = ((uint64_t)1 << half) - 1;
    uint64_t place = index;
    do {
        uint64_t left = place >> half;
        uint64_t right = place & mask;
        for (uint64_t round = 0; round < ROUNDS; round++) {
            uint64_t next = left ^ (rng_mix(rng_mix(seed, round), right) & mask);
            left = right;
            right = next;
        }
        place = left << half | right;
    } while (place >= n);
    return place;
}
