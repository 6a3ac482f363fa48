/* The layers for x86-64-v4: AVX-512. Empty where the compiler cannot switch targets within a program (clang's pragma does
 * not define the feature macros) or the machine is another. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#pragma GCC target("arch=x86-64-v4")
#define TABLE kernels_v4
#define NAME  "x86-64-v4"
#include "trainer/model/kernels.inc"
#else
typedef int kernels_v4_is_empty;
#endif
