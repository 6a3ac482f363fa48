/* The layers for whatever the compiler targets by default. */
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#define TABLE kernels_base
#define NAME  "base"
#include "trainer/model/kernels.inc"
