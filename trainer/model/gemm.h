/* Matrix products of the engine, the one seam to whatever computes them.
 *
 * Row-major fp32, no threads of its own, no allocation: the caller passes GEMM_PACK_FLOATS floats of scratch, so any number
 * of threads may multiply at once. Not OpenBLAS: Debian's serial build has no lock around its scratch buffers, and calls
 * from two threads give wrong numbers (2.5 % of small products in a stress test); the threaded build locks on every call.
 * These products are as fast (bench_engine measures both). A row's result has the same bits whatever rows it is multiplied
 * together with: batching never changes what is played.
 * The products are members of struct kernels (kernels.h), one build of gemm.inc per instruction set. */
#ifndef PAL_TRAINER_MODEL_GEMM_H
#define PAL_TRAINER_MODEL_GEMM_H

#include <stddef.h>

#define GEMM_KC           384 /* most depth of a packed block */
#define GEMM_MC           96  /* rows of a transposed A that are packed together; a multiple of every tile height */
#define GEMM_BLOCK_FLOATS ((size_t)1 << 17) /* of a packed block of B: half of a second cache of 1 MB */
#define GEMM_PACK_FLOATS  (GEMM_BLOCK_FLOATS + (size_t)GEMM_KC * GEMM_MC)
#define GEMM_NR_MAX       32 /* widest tile */

/* How the operands are stored: C[M, N] = op(A)[M, K] op(B)[K, N]. */
enum gemm_op {
    GEMM_nt, /* A [M, K], B [N, K]: activations times weights */
    GEMM_nn, /* A [M, K], B [K, N]: gradients back through weights */
    GEMM_tn  /* A [K, M], B [K, N]: gradients of weights */
};

struct gemm {
    enum gemm_op op;
    size_t M, N, K;
    const float *a;
    size_t lda; /* floats from row to row, here and below */
    const float *b;
    size_t ldb;
    float *c;
    size_t ldc;
    const float *plus; /* C = plus + A B, rows ldc apart: C itself, another matrix, or NULL for C = A B */
};

/* Floats that pack() writes for B [N, K]. */
static inline size_t gemm_packed_floats(size_t N, size_t K)
{
    return (N + GEMM_NR_MAX - 1) / GEMM_NR_MAX * GEMM_NR_MAX * K;
}

#endif
