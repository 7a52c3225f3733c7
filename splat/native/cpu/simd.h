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

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SPLAT_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef SPLAT_SHUFFLE
#define SPLAT_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, vi{__VA_ARGS__})
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

// ------------------------------------------------------------------------------------------------------- rows to lanes

// The first COUNT floats at p; the other lanes are 0.
template <int COUNT>
SPLAT_INLINE vf load_some(const float* p) {
#ifdef SPLAT_AVX512
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1 << COUNT) - 1), p);
#else
    vf v = zero();
    memcpy(&v, p, COUNT * sizeof(float));
    return v;
#endif
}
template <int COUNT>
SPLAT_INLINE void store_some(float* p, vf v) {
#ifdef SPLAT_AVX512
    _mm512_mask_storeu_ps(p, (__mmask16)((1 << COUNT) - 1), (__m512)v);
#else
    memcpy(p, &v, COUNT * sizeof(float));
#endif
}

// Within every four lanes: x0 y0 x1 y1 and x2 y2 x3 y3; then the same with pairs.
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
// Fours of lanes 0 and 2, 1 and 3 of x, then of y.
SPLAT_INLINE vf even_fours(vf x, vf y) {
    return SPLAT_SHUFFLE(x, y, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
}
SPLAT_INLINE vf odd_fours(vf x, vf y) {
    return SPLAT_SHUFFLE(x, y, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}

// v[i] lane j becomes v[j] lane i.
SPLAT_INLINE void transpose(vf (&v)[16]) {
    vf t[16];
    for (int i = 0; i < 16; i += 4) {  // within fours
        vf a = low_ones(v[i], v[i + 1]), b = high_ones(v[i], v[i + 1]);
        vf c = low_ones(v[i + 2], v[i + 3]), d = high_ones(v[i + 2], v[i + 3]);
        t[i] = low_pairs(a, c), t[i + 1] = high_pairs(a, c), t[i + 2] = low_pairs(b, d), t[i + 3] = high_pairs(b, d);
    }
    for (int i = 0; i < 4; ++i) {  // of fours
        vf a = even_fours(t[i], t[i + 4]), b = odd_fours(t[i], t[i + 4]);
        vf c = even_fours(t[i + 8], t[i + 12]), d = odd_fours(t[i + 8], t[i + 12]);
        v[i] = even_fours(a, c), v[i + 4] = even_fours(b, d), v[i + 8] = odd_fours(a, c), v[i + 12] = odd_fours(b, d);
    }
}

// The first eight floats of sixteen rows: lane j of out[i] is row(j)[i].
template <class Row>
SPLAT_INLINE void load_eight(Row&& row, vf (&out)[8]) {
    vf v[8], t[8];
    for (int i = 0; i < 8; ++i) {
#ifdef SPLAT_AVX512
        v[i] = (vf)_mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(row(i))), _mm256_loadu_ps(row(i + 8)), 1);
#else
        memcpy(&v[i], row(i), 32);
        memcpy((char*)&v[i] + 32, row(i + 8), 32);
#endif
    }
    for (int i = 0; i < 8; i += 4) {
        vf a = low_ones(v[i], v[i + 1]), b = high_ones(v[i], v[i + 1]);
        vf c = low_ones(v[i + 2], v[i + 3]), d = high_ones(v[i + 2], v[i + 3]);
        t[i] = low_pairs(a, c), t[i + 1] = high_pairs(a, c), t[i + 2] = low_pairs(b, d), t[i + 3] = high_pairs(b, d);
    }
    for (int i = 0; i < 4; ++i) {
        out[i] = SPLAT_SHUFFLE(t[i], t[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
        out[i + 4] = SPLAT_SHUFFLE(t[i], t[i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    }
}

// Sixteen pairs or fours side by side to lanes, and back.
SPLAT_INLINE void split_pairs(vf a, vf b, vf& x, vf& y) {
    x = SPLAT_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    y = SPLAT_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}
SPLAT_INLINE void join_pairs(vf x, vf y, vf& a, vf& b) {
    a = SPLAT_SHUFFLE(x, y, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    b = SPLAT_SHUFFLE(x, y, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
SPLAT_INLINE void split_fours(const vf (&v)[4], vf (&out)[4]) {
    vf x, z, y, w, a, b, c, d;
    split_pairs(v[0], v[1], a, b);  // x0 z0 x1 z1 ..., y0 w0 y1 w1 ...
    split_pairs(v[2], v[3], c, d);
    split_pairs(a, c, x, z);
    split_pairs(b, d, y, w);
    out[0] = x, out[1] = y, out[2] = z, out[3] = w;
}
SPLAT_INLINE void join_fours(const vf (&in)[4], vf (&v)[4]) {
    vf a, b, c, d;
    join_pairs(in[0], in[2], a, c);
    join_pairs(in[1], in[3], b, d);
    join_pairs(a, b, v[0], v[1]);
    join_pairs(c, d, v[2], v[3]);
}
// Sixteen triples side by side, x0 y0 z0 x1 ..., to x, y, z and back.
SPLAT_INLINE void split_triples(vf a, vf b, vf c, vf& x, vf& y, vf& z) {
    vf t = SPLAT_SHUFFLE(a, b, 0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0, 0, 0, 0, 0);
    x = SPLAT_SHUFFLE(t, c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 20, 23, 26, 29);
    t = SPLAT_SHUFFLE(a, b, 1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 0, 0, 0, 0, 0);
    y = SPLAT_SHUFFLE(t, c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 18, 21, 24, 27, 30);
    t = SPLAT_SHUFFLE(a, b, 2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 0, 0, 0, 0, 0, 0);
    z = SPLAT_SHUFFLE(t, c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 19, 22, 25, 28, 31);
}
SPLAT_INLINE void join_triples(vf x, vf y, vf z, vf& a, vf& b, vf& c) {
    vf t = SPLAT_SHUFFLE(x, y, 0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5);
    a = SPLAT_SHUFFLE(t, z, 0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20, 15);
    t = SPLAT_SHUFFLE(x, y, 21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26);
    b = SPLAT_SHUFFLE(t, z, 0, 21, 2, 3, 22, 5, 6, 23, 8, 9, 24, 11, 12, 25, 14, 15);
    t = SPLAT_SHUFFLE(x, y, 0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0);
    c = SPLAT_SHUFFLE(t, z, 26, 1, 2, 27, 4, 5, 28, 7, 8, 29, 10, 11, 30, 13, 14, 31);
}

// Lane i of the result is the sum of all lanes of a[i], in a fixed order; lanes 12 to 15 mean nothing. Four rounds of
// adding halves while interleaving neighbours: three operations per vector instead of eight.
SPLAT_INLINE vf sums_of_twelve(const vf (&a)[12]) {
    vf pair[6], four[3];
    for (int i = 0; i < 6; ++i) pair[i] = low_ones(a[2 * i], a[2 * i + 1]) + high_ones(a[2 * i], a[2 * i + 1]);
    for (int i = 0; i < 3; ++i)
        four[i] = low_pairs(pair[2 * i], pair[2 * i + 1]) + high_pairs(pair[2 * i], pair[2 * i + 1]);
    vf eight = even_fours(four[0], four[1]) + odd_fours(four[0], four[1]);
    vf last = even_fours(four[2], four[2]) + odd_fours(four[2], four[2]);
    return even_fours(eight, last) + odd_fours(eight, last);
}

// ------------------------------------------------------------------------------------------------------- exp and log

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
