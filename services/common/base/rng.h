/* Randomness that is passed in: PCG32 (O'Neill 2014, XSH-RR 64/32), 16 bytes of state, the same numbers on every machine.
 * Streams made from different (seed, stream) pairs are independent for our purposes; the whole state may be stored. */
#ifndef PAL_BASE_RNG_H
#define PAL_BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t state;
    uint64_t increment; /* odd */
};

void rng_init(struct rng *rng, uint64_t seed, uint64_t stream);
uint32_t rng_u32(struct rng *rng);
uint64_t rng_u64(struct rng *rng);
double rng_unit(struct rng *rng);                    /* uniform in [0, 1), 53 bits */
uint32_t rng_below(struct rng *rng, uint32_t bound); /* uniform in [0, bound), unbiased; bound >= 1 */
double rng_normal(struct rng *rng);                  /* standard normal, Box-Muller, two draws a call */
uint64_t rng_mix(uint64_t a, uint64_t b);            /* splitmix64 of the pair: derives seeds */

#endif
