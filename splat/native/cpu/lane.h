// What shared/*.h is written in, one number at a time: for loops over stretches of memory that the compiler vectorizes.
// Not together with simd.h, whose vf is sixteen numbers.
#pragma once
#include <math.h>
#include <stdint.h>

#define SPLAT_INLINE inline __attribute__((always_inline))

namespace splat {
namespace {

typedef float vf;
typedef bool vm;

SPLAT_INLINE vm finite(vf a) { return fabsf(a) <= 3.4028234663852886e38f; }
SPLAT_INLINE vf keep(vm m, vf a) { return m ? a : 0.0f; }
SPLAT_INLINE vf sqrt(vf a) { return sqrtf(a); }

}  // namespace
}  // namespace splat
