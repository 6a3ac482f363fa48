/* 16-bit floats to fp32 and back: bf16 (the upper half of an fp32) and IEEE fp16. To 16 bits rounds to nearest even; a NaN
 * stays one, what is too large becomes an infinity. */
#ifndef PAL_TRAINER_MODEL_HALF_H
#define PAL_TRAINER_MODEL_HALF_H

#include <stdint.h>
#include <string.h>

static inline float half_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t half_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float half_from_bf16(uint16_t h)
{
    return half_from_bits((uint32_t)h << 16);
}

static inline uint16_t half_to_bf16(float value)
{
    uint32_t bits = half_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u); /* quiet */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static inline float half_from_fp16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 0x3ffu;
    if (exponent == 31) return half_from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent > 0) return half_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    float tiny = (float)fraction * 0x1p-24f;
    return half_from_bits(sign | half_bits(tiny));
}

static inline uint16_t half_to_fp16(float value)
{
    uint32_t bits = half_bits(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* past 65504 by half a step */
    if (magnitude < 0x38800000u) {
        /* below 2^-14: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits */
        return (uint16_t)(sign | (half_bits(half_from_bits(magnitude) + 0.5f) - 0x3f000000u));
    }
    return (uint16_t)(sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}

#endif
