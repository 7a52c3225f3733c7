// Sixteen lanes in one register: AVX-512. See simd.h for what each function means.
#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace splat {

typedef float vf __attribute__((vector_size(64)));
typedef int32_t vi __attribute__((vector_size(64)));
typedef __mmask16 vm;

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SPLAT_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef SPLAT_SHUFFLE
#define SPLAT_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, vi{__VA_ARGS__})
#endif

SPLAT_INLINE vf load(const float* p) { return (vf)_mm512_loadu_ps(p); }
SPLAT_INLINE void store(float* p, vf v) { _mm512_storeu_ps(p, (__m512)v); }
SPLAT_INLINE vf broadcast(float a) { return (vf)_mm512_set1_ps(a); }
SPLAT_INLINE vf as_float(vi a) { return (vf)a; }
SPLAT_INLINE vi as_int(vf a) { return (vi)a; }
SPLAT_INLINE vf to_float(vi a) { return __builtin_convertvector(a, vf); }
SPLAT_INLINE vi to_int(vf a) { return __builtin_convertvector(a, vi); }

SPLAT_INLINE vm ge(vf a, vf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ); }
SPLAT_INLINE vm gt(vf a, vf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ); }
SPLAT_INLINE vm gt(vi a, vi b) { return _mm512_cmpgt_epi32_mask((__m512i)a, (__m512i)b); }
SPLAT_INLINE vm ge(vm m, vf a, vf b) { return _mm512_mask_cmp_ps_mask(m, (__m512)a, (__m512)b, _CMP_GE_OQ); }
SPLAT_INLINE vm both(vm a, vm b) { return (vm)(a & b); }
SPLAT_INLINE vf select(vm m, vf a, vf b) { return (vf)_mm512_mask_blend_ps(m, (__m512)b, (__m512)a); }
SPLAT_INLINE vf keep(vm m, vf a) { return (vf)_mm512_maskz_mov_ps(m, (__m512)a); }
SPLAT_INLINE vi keep(vm m, vi a) { return (vi)_mm512_maskz_mov_epi32(m, (__m512i)a); }
SPLAT_INLINE vf less_share(vm m, vf a, vf b) {
    return (vf)_mm512_mask_fnmadd_ps((__m512)a, m, (__m512)b, (__m512)a);
}
SPLAT_INLINE uint32_t bits(vm m) { return m; }
SPLAT_INLINE bool any(vm m) { return m != 0; }
SPLAT_INLINE vm first_lanes(int count) { return (vm)(count >= 16 ? 0xffff : (1 << count) - 1); }

SPLAT_INLINE vf min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
SPLAT_INLINE vf max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
SPLAT_INLINE vi min(vi a, vi b) { return (vi)_mm512_min_epi32((__m512i)a, (__m512i)b); }
SPLAT_INLINE vi max(vi a, vi b) { return (vi)_mm512_max_epi32((__m512i)a, (__m512i)b); }
SPLAT_INLINE vf sqrt(vf a) { return (vf)_mm512_sqrt_ps((__m512)a); }
SPLAT_INLINE vf rough_rsqrt(vf a) { return (vf)_mm512_rsqrt14_ps((__m512)a); }
SPLAT_INLINE vf rough_reciprocal(vf a) { return (vf)_mm512_rcp14_ps((__m512)a); }

SPLAT_INLINE vf gather(const float* p, vi at) { return (vf)_mm512_i32gather_ps((__m512i)at, p, 4); }
SPLAT_INLINE vi gather(const int32_t* p, vi at) { return (vi)_mm512_i32gather_epi32((__m512i)at, p, 4); }

SPLAT_INLINE void compress(int32_t* p, vm m, vi a) {
    _mm512_storeu_si512(p, _mm512_maskz_compress_epi32(m, (__m512i)a));
}
template <int COUNT>
SPLAT_INLINE vf load_some(const float* p) {
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1 << COUNT) - 1), p);
}
template <int COUNT>
SPLAT_INLINE void store_some(float* p, vf v) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1 << COUNT) - 1), (__m512)v);
}
SPLAT_INLINE vf load_two_eights(const float* p, const float* q) {
    return (vf)_mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(p)), _mm256_loadu_ps(q), 1);
}

SPLAT_INLINE vf low_ones(vf x, vf y) {
    return SPLAT_SHUFFLE(x, y, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
}
SPLAT_INLINE vf high_ones(vf x, vf y) {
    return SPLAT_SHUFFLE(x, y, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
}
SPLAT_INLINE vf low_pairs(vf x, vf y) {
    return SPLAT_SHUFFLE(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
}
SPLAT_INLINE vf high_pairs(vf x, vf y) {
    return SPLAT_SHUFFLE(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
}
SPLAT_INLINE vf low_fours(vf x, vf y) {
    return SPLAT_SHUFFLE(x, y, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
}
SPLAT_INLINE vf high_fours(vf x, vf y) {
    return SPLAT_SHUFFLE(x, y, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
}
SPLAT_INLINE vf even_fours(vf x, vf y) {
    return SPLAT_SHUFFLE(x, y, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
}
SPLAT_INLINE vf odd_fours(vf x, vf y) {
    return SPLAT_SHUFFLE(x, y, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}

SPLAT_INLINE vf exp2_small(vf p) {
    vf f = (vf)_mm512_reduce_ps((__m512)p, 1);  // p - floor(p)
    return (vf)_mm512_scalef_ps((__m512)exp2_fraction(f), (__m512)p);
}

}  // namespace splat
