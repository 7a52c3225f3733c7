// What splat/native/shared/*.h is written in, on a GPU: every thread is a lane, so vf is a float, vi an int32 and vm a bool.
// cpu/simd.h says what each function means.
#pragma once
#include <cuda_runtime.h>
#include <stdint.h>

#define SPLAT_INLINE __host__ __device__ __forceinline__

namespace splat {

typedef float vf;
typedef int32_t vi;
typedef bool vm;

SPLAT_INLINE vf broadcast(float a) { return a; }
SPLAT_INLINE vf zero() { return 0; }
SPLAT_INLINE vf to_float(vi a) { return (float)a; }
SPLAT_INLINE vi to_int(vf a) { return (int32_t)a; }

SPLAT_INLINE bool any(vm a) { return a; }
SPLAT_INLINE vf gather(const float* p, vi at) { return p[at]; }
SPLAT_INLINE vi gather(const int32_t* p, vi at) { return p[at]; }

SPLAT_INLINE vm ge(vf a, vf b) { return a >= b; }
SPLAT_INLINE vm gt(vf a, vf b) { return a > b; }
SPLAT_INLINE vm gt(vi a, vi b) { return a > b; }
SPLAT_INLINE vm ge(vm m, vf a, vf b) { return m && a >= b; }
SPLAT_INLINE vm both(vm a, vm b) { return a && b; }
SPLAT_INLINE vf select(vm m, vf a, vf b) { return m ? a : b; }
SPLAT_INLINE vf keep(vm m, vf a) { return m ? a : 0.0f; }
SPLAT_INLINE vi keep(vm m, vi a) { return m ? a : 0; }
SPLAT_INLINE vf less_share(vm m, vf a, vf b) { return m ? a - a * b : a; }

// The second argument where either is NaN.
SPLAT_INLINE vf min(vf a, vf b) { return a < b ? a : b; }
SPLAT_INLINE vf max(vf a, vf b) { return a > b ? a : b; }
SPLAT_INLINE vi min(vi a, vi b) { return a < b ? a : b; }
SPLAT_INLINE vi max(vi a, vi b) { return a > b ? a : b; }
SPLAT_INLINE int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
SPLAT_INLINE vf clamp(vf a, vf low, vf high) { return min(max(a, low), high); }
SPLAT_INLINE vf abs(vf a) { return ::fabsf(a); }
SPLAT_INLINE vf sqrt(vf a) { return ::sqrtf(a); }
SPLAT_INLINE vm finite(vf a) { return abs(a) <= 3.4028234663852886e38f; }

SPLAT_INLINE vf exp(vf a) { return ::expf(a); }
SPLAT_INLINE vf log2(vf a) { return ::log2f(a); }

// 2^p by the hardware's unit: relative error 2e-7, denormals are zero.
SPLAT_INLINE vf exp2_small(vf p) {
#ifdef __CUDA_ARCH__
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(p));
    return result;
#else
    return ::exp2f(p);
#endif
}

// 1 / a to the last bit or two.
SPLAT_INLINE vf reciprocal(vf a) {
#ifdef __CUDA_ARCH__
    return __frcp_rn(a);
#else
    return 1 / a;
#endif
}

}  // namespace splat
