// Sixteen floats at a time. Arithmetic is the compiler's vector extension, lowered to whatever the CPU has (AVX-512,
// AVX2, SSE, NEON); the few things it has no word for are named here, with AVX-512 instructions where they exist.
#pragma once
#include <stdint.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#define SPLAT_INLINE inline __attribute__((always_inline))

namespace splat {

constexpr int LANES = 16;
typedef float vf __attribute__((vector_size(64)));
typedef int32_t vi __attribute__((vector_size(64)));

// A mask of lanes: sixteen bits on AVX-512, sixteen words of 0 or -1 elsewhere.
#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__)
#define SPLAT_AVX512 1
typedef __mmask16 vm;
#else
typedef vi vm;
#endif

SPLAT_INLINE vf broadcast(float a) {
    return vf{a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a};
}
SPLAT_INLINE vf load(const float* p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
SPLAT_INLINE void store(float* p, vf v) { memcpy(p, &v, sizeof v); }
SPLAT_INLINE vf zero() { return vf{}; }

#ifdef SPLAT_AVX512

SPLAT_INLINE vm ge(vf a, vf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ); }
SPLAT_INLINE vm gt(vf a, vf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ); }
// Lanes of `m` where a >= b.
SPLAT_INLINE vm ge(vm m, vf a, vf b) { return _mm512_mask_cmp_ps_mask(m, (__m512)a, (__m512)b, _CMP_GE_OQ); }
SPLAT_INLINE vm both(vm a, vm b) { return (vm)(a & b); }
SPLAT_INLINE vf select(vm m, vf a, vf b) { return (vf)_mm512_mask_blend_ps(m, (__m512)b, (__m512)a); }
SPLAT_INLINE vf keep(vm m, vf a) { return (vf)_mm512_maskz_mov_ps(m, (__m512)a); }
// a - a * b in the lanes of `m`, a elsewhere.
SPLAT_INLINE vf less_share(vm m, vf a, vf b) {
    return (vf)_mm512_mask_fnmadd_ps((__m512)a, m, (__m512)b, (__m512)a);
}
SPLAT_INLINE uint32_t bits(vm m) { return m; }
SPLAT_INLINE bool any(vm m) { return m != 0; }
SPLAT_INLINE vm first_lanes(int count) { return (vm)(count >= LANES ? 0xffff : (1 << count) - 1); }
SPLAT_INLINE vf min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }  // b where either is NaN
SPLAT_INLINE vf max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }  // b where either is NaN
SPLAT_INLINE vf sqrt(vf a) { return (vf)_mm512_sqrt_ps((__m512)a); }
// 1 / sqrt(a), relative error below 1e-4.
SPLAT_INLINE vf rough_rsqrt(vf a) { return (vf)_mm512_rsqrt14_ps((__m512)a); }
// 1 / a to the last bit or two, for a of ordinary size.
SPLAT_INLINE vf reciprocal(vf a) {
    vf r = (vf)_mm512_rcp14_ps((__m512)a);
    return r * (2 - a * r);
}
// Writes the lanes of `m` side by side at p (and anything up to p + 16) and says how many.
SPLAT_INLINE void compress(float* p, vm m, vf a) { _mm512_storeu_ps(p, _mm512_maskz_compress_ps(m, (__m512)a)); }
SPLAT_INLINE void compress(int32_t* p, vm m, vi a) {
    _mm512_storeu_si512(p, _mm512_maskz_compress_epi32(m, (__m512i)a));
}

#else

SPLAT_INLINE vm ge(vf a, vf b) { return a >= b; }
SPLAT_INLINE vm gt(vf a, vf b) { return a > b; }
SPLAT_INLINE vm ge(vm m, vf a, vf b) { return m & (a >= b); }
SPLAT_INLINE vm both(vm a, vm b) { return a & b; }
SPLAT_INLINE vf select(vm m, vf a, vf b) { return (vf)((m & (vi)a) | (~m & (vi)b)); }
SPLAT_INLINE vf keep(vm m, vf a) { return (vf)(m & (vi)a); }
SPLAT_INLINE vf less_share(vm m, vf a, vf b) { return select(m, a - a * b, a); }
SPLAT_INLINE uint32_t bits(vm m) {
#ifdef __AVX2__
    __m256 h[2];
    memcpy(h, &m, sizeof h);
    return (uint32_t)_mm256_movemask_ps(h[0]) | (uint32_t)_mm256_movemask_ps(h[1]) << 8;
#else
    uint32_t b = 0;
    for (int i = 0; i < LANES; ++i) b |= (uint32_t)(m[i] & 1) << i;
    return b;
#endif
}
SPLAT_INLINE bool any(vm m) { return bits(m) != 0; }
SPLAT_INLINE vm first_lanes(int count) {
    const vi lane{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return lane < count;
}
SPLAT_INLINE vf min(vf a, vf b) { return select(a < b, a, b); }
SPLAT_INLINE vf max(vf a, vf b) { return select(a > b, a, b); }
SPLAT_INLINE vf sqrt(vf a) {
    vf r;
    for (int i = 0; i < LANES; ++i) r[i] = __builtin_sqrtf(a[i]);
    return r;
}
SPLAT_INLINE vf rough_rsqrt(vf a) {
    vf r = (vf)(0x5f3759df - ((vi)a >> 1));
    r = r * (1.5f - 0.5f * a * r * r);
    r = r * (1.5f - 0.5f * a * r * r);
    return r * (1.5f - 0.5f * a * r * r);
}
SPLAT_INLINE vf reciprocal(vf a) { return 1 / a; }
template <class T, class V>
SPLAT_INLINE void compress(T* p, vm m, V a) {
    for (uint32_t b = bits(m); b; b &= b - 1) *p++ = a[__builtin_ctz(b)];
}

#endif

SPLAT_INLINE vf clamp(vf a, vf low, vf high) { return min(max(a, low), high); }
SPLAT_INLINE vf abs(vf a) { return (vf)((vi)a & 0x7fffffff); }
// Neither infinite nor NaN. (NaN compares false; -ffinite-math-only would break this, another reason against -ffast-math.)
SPLAT_INLINE vm finite(vf a) { return ge(broadcast(3.4028234663852886e38f), abs(a)); }

// The sum of all lanes, in a fixed order.
SPLAT_INLINE float sum(vf a) {
    float t[LANES];
    store(t, a);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) t[i] += t[i + half];
    return t[0];
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SPLAT_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef SPLAT_SHUFFLE
#define SPLAT_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, vi{__VA_ARGS__})
#endif

// Lane i of the result is the sum of all lanes of a[i], in a fixed order; lanes 12 to 15 mean nothing. Four rounds of
// adding halves while interleaving neighbours: three operations per vector instead of eight.
SPLAT_INLINE vf sums_of_twelve(const vf (&a)[12]) {
    vf pair[6], four[3];
    for (int i = 0; i < 6; ++i) {
        vf x = a[2 * i], y = a[2 * i + 1];
        pair[i] = SPLAT_SHUFFLE(x, y, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
                  SPLAT_SHUFFLE(x, y, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    }
    for (int i = 0; i < 3; ++i) {
        vf x = pair[2 * i], y = pair[2 * i + 1];
        four[i] = SPLAT_SHUFFLE(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
                  SPLAT_SHUFFLE(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
    auto halves = [](vf x, vf y) {
        return SPLAT_SHUFFLE(x, y, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
               SPLAT_SHUFFLE(x, y, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
    };
    return halves(halves(four[0], four[1]), halves(four[2], four[2]));
}

// 2^f for f in [0, 1): minimax, relative error 1.5e-7 with rounding.
SPLAT_INLINE vf exp2_fraction(vf f) {
    vf y = f * 1.8775633e-3f + 8.9893760e-3f;
    y = y * f + 5.5826284e-2f;
    y = y * f + 2.4015363e-1f;
    y = y * f + 6.9315308e-1f;
    return y * f + 9.9999994e-1f;
}

// 2^p for p in [-126, 126]; anything else gives something, without harm. Relative error below 3e-7.
SPLAT_INLINE vf exp2_small(vf p) {
#ifdef SPLAT_AVX512
    vf f = (vf)_mm512_reduce_ps((__m512)p, 1);  // p - floor(p)
    return (vf)_mm512_scalef_ps((__m512)exp2_fraction(f), (__m512)p);
#else
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits; the half makes it the floor.
    vf t = (p - 0.5f) + 12582912.0f;
    vf n = t - 12582912.0f;
    vf f = p - n;
    return (vf)((vi)exp2_fraction(f) + ((vi)t << 23));
#endif
}

// 2^p for every p: 0 below the denormals, infinity above the floats, NaN for NaN.
SPLAT_INLINE vf exp2(vf p) {
    vf q = select(gt(broadcast(-200), p), broadcast(-200), p);
    q = select(gt(q, broadcast(200)), broadcast(200), q);
#ifdef SPLAT_AVX512
    return exp2_small(q);
#else
    vf half = exp2_small(q * 0.5f);
    return select(ge(p, p), half * half, p);
#endif
}

// e^x for every x, like exp2; relative error 1e-7 + 3e-8 |x|.
SPLAT_INLINE vf exp(vf x) { return exp2(x * 1.44269504f); }

// log2(x) for positive normal x, relative error about 1e-7.
SPLAT_INLINE vf log2(vf x) {
    vi e = ((vi)x - 0x3f3504f3) >> 23;
    vf m = (vf)((vi)x - (e << 23));  // in [sqrt(1/2), sqrt(2))
    vf s = (m - 1) / (m + 1), s2 = s * s;
    vf series = 1 + s2 * (0.333333333f + s2 * (0.2f + s2 * (0.142857143f + s2 * 0.111111111f)));
    return __builtin_convertvector(e, vf) + 2.88539008f * s * series;
}

}  // namespace splat
