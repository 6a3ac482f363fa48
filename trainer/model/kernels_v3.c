/* The layers for x86-64-v3: AVX2 and FMA. Empty where the compiler cannot switch targets within a program (clang's pragma
 * does not define the feature macros) or the machine is another. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#pragma GCC target("arch=x86-64-v3")
#define TABLE kernels_v3
#define NAME  "x86-64-v3"
#include "trainer/model/kernels.inc"
#else
typedef int kernels_v3_is_empty;
#endif
