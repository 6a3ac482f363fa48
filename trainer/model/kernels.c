#include "trainer/model/kernels.h"

#include <stdbool.h>

extern const struct kernels kernels_base;

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
extern const struct kernels kernels_v3;
extern const struct kernels kernels_v4;

static bool has_v3(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

static bool has_v4(void)
{
    return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

const struct kernels *kernels_at(size_t index)
{
    if (has_v4() && index-- == 0) return &kernels_v4;
    if (has_v3() && index-- == 0) return &kernels_v3;
    return index == 0 ? &kernels_base : NULL;
}
#else
const struct kernels *kernels_at(size_t index)
{
    return index == 0 ? &kernels_base : NULL;
}
#endif

const struct kernels *kernels(void)
{
    return kernels_at(0);
}

size_t attention_scratch_floats(size_t heads, size_t kv_heads, size_t head_dim, size_t max_tokens)
{
    size_t rows = ATTENTION_BLOCK * (heads / kv_heads);
    size_t panels = (max_tokens + GEMM_NR_MAX - 1) / GEMM_NR_MAX * GEMM_NR_MAX;
    return 3 * rows * head_dim + 2 * panels * head_dim + 2 * rows * panels;
}
