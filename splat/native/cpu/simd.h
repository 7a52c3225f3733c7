// Sixteen floats at a time: vf, with arithmetic operators, sixteen int32: vi, and a mask of lanes: vm.
//
// simd_whole.h holds them in one register (AVX-512), simd_parts.h in two or four (AVX2; SSE, NEON). Both have
//   load, store, broadcast, as_float / as_int (same bits), to_float / to_int (same number, towards zero), v[i] to read a lane
//   ge, gt (a mask; ge(m, a, b): lanes of m where a >= b), both, bits, any, first_lanes(count)
//   select(m, a, b), keep(m, a) (0 elsewhere), less_share(m, a, b): a - a * b in the lanes of m, a elsewhere
//   min, max (the second argument where either is NaN), sqrt, rough_rsqrt (relative error below 1e-4), rough_reciprocal
//   gather(p, i): p[i[0]], p[i[1]], ...
//   compress(p, m, v): the lanes of m side by side at p, and anything up to p + 16
//   load_some<COUNT>, store_some<COUNT>: the first COUNT lanes; load_two_eights(p, q)
//   low_ones, ..., odd_fours, SPLAT_SHUFFLE: rearranged lanes of two vectors, see below
//   exp2_small: 2^p for p in [-126, 126]; anything else gives something, without harm. Relative error below 3e-7.
#pragma once
#include <stdint.h>
#include <string.h>

#define SPLAT_INLINE inline __attribute__((always_inline))

namespace splat {

constexpr int LANES = 16;

// 2^f for f in [0, 1): minimax, relative error 1.5e-7 with rounding.
template <class V>
SPLAT_INLINE V exp2_fraction(V f) {
    V y = f * 1.8775633e-3f + 8.9893760e-3f;
    y = y * f + 5.5826284e-2f;
    y = y * f + 2.4015363e-1f;
    y = y * f + 6.9315308e-1f;
    return y * f + 9.9999994e-1f;
}

}  // namespace splat

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include "simd_whole.h"
#else
#include "simd_parts.h"
#endif

namespace splat {

SPLAT_INLINE vf zero() { return vf{}; }
SPLAT_INLINE vi lane_numbers() {
    const int32_t t[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    vi v;
    memcpy(&v, t, sizeof v);
    return v;
}

SPLAT_INLINE vf clamp(vf a, vf low, vf high) { return min(max(a, low), high); }
SPLAT_INLINE vf abs(vf a) { return as_float(as_int(a) & 0x7fffffff); }
// Neither infinite nor NaN. (NaN compares false; -ffinite-math-only would break this, another reason against -ffast-math.)
SPLAT_INLINE vm finite(vf a) { return ge(broadcast(3.4028234663852886e38f), abs(a)); }
// 1 / a to the last bit or two, for a of ordinary size.
SPLAT_INLINE vf reciprocal(vf a) {
    vf r = rough_reciprocal(a);
    return r * (2 - a * r);
}

// ------------------------------------------------------------------------------------------------------- rows to lanes
//
// Within every four lanes, low_ones is x0 y0 x1 y1, high_ones x2 y2 x3 y3, low_pairs x0 x1 y0 y1, high_pairs x2 x3 y2 y3.
// With fours of lanes, low_fours is x0 y0 x2 y2, high_fours x1 y1 x3 y3, even_fours x0 x2 y0 y2, odd_fours x1 x3 y1 y3.

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
        v[i] = load_two_eights(row(i), row(i + 8));
    }
    for (int i = 0; i < 8; i += 4) {
        vf a = low_ones(v[i], v[i + 1]), b = high_ones(v[i], v[i + 1]);
        vf c = low_ones(v[i + 2], v[i + 3]), d = high_ones(v[i + 2], v[i + 3]);
        t[i] = low_pairs(a, c), t[i + 1] = high_pairs(a, c), t[i + 2] = low_pairs(b, d), t[i + 3] = high_pairs(b, d);
    }
    for (int i = 0; i < 4; ++i) {
        out[i] = low_fours(t[i], t[i + 4]);
        out[i + 4] = high_fours(t[i], t[i + 4]);
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

// The sum of all lanes, in a fixed order.
SPLAT_INLINE float sum(vf a) {
    float t[LANES];
    store(t, a);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) t[i] += t[i + half];
    return t[0];
}

// --------------------------------------------------------------------------------------------------------- exp and log

// 2^p for every p: 0 below the denormals, infinity above the floats, NaN for NaN.
SPLAT_INLINE vf exp2(vf p) {
    vf q = clamp(p, broadcast(-200), broadcast(200));
    vf half = exp2_small(q * 0.5f);
    return select(ge(p, p), half * half, p);
}

// e^x for every x, like exp2; relative error 3e-7 + 3e-8 |x|.
SPLAT_INLINE vf exp(vf x) { return exp2(x * 1.44269504f); }

// log2(x) for positive normal x, relative error about 1e-7.
SPLAT_INLINE vf log2(vf x) {
    vi e = (as_int(x) - 0x3f3504f3) >> 23;
    vf m = as_float(as_int(x) - (e << 23));  // in [sqrt(1/2), sqrt(2))
    vf s = (m - 1) / (m + 1), s2 = s * s;
    vf series = 1 + s2 * (0.333333333f + s2 * (0.2f + s2 * (0.142857143f + s2 * 0.111111111f)));
    return to_float(e) + 2.88539008f * s * series;
}

}  // namespace splat
