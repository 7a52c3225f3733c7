// Rows of tensors in memory to fields of sixteen lanes, and back.
#pragma once
#include <string.h>

#include "simd.h"

namespace splat {

// Rows [begin, begin + count) of a tensor [n fields], turned to fields of sixteen lanes; lanes past count repeat row
// begin, so that they are as harmless as it is.
template <int FIELDS>
SPLAT_INLINE void load_rows(const float* rows, int64_t begin, int count, vf (&out)[FIELDS]) {
    const float* p = rows + begin * FIELDS;
    if (count != LANES) {
        float t[FIELDS][LANES];
        for (int i = 0; i < LANES; ++i)
            for (int j = 0; j < FIELDS; ++j) t[j][i] = p[(i < count ? i : 0) * FIELDS + j];
        for (int j = 0; j < FIELDS; ++j) out[j] = load(t[j]);
    } else if constexpr (FIELDS == 1) {
        out[0] = load(p);
    } else if constexpr (FIELDS == 2) {
        split_pairs(load(p), load(p + 16), out[0], out[1]);
    } else if constexpr (FIELDS == 3) {
        split_triples(load(p), load(p + 16), load(p + 32), out[0], out[1], out[2]);
    } else if constexpr (FIELDS == 4) {
        vf v[4] = {load(p), load(p + 16), load(p + 32), load(p + 48)};
        split_fours(v, out);
    } else {
        vf v[LANES];
        for (int i = 0; i < LANES; ++i) v[i] = load_some<FIELDS>(p + i * FIELDS);
        transpose(v);
        for (int j = 0; j < FIELDS; ++j) out[j] = v[j];
    }
}

template <int FIELDS>
SPLAT_INLINE void store_rows(float* rows, int64_t begin, int count, const vf (&in)[FIELDS]) {
    float* p = rows + begin * FIELDS;
    vf v[LANES];
    if (count != LANES) {
        float t[FIELDS][LANES];
        for (int j = 0; j < FIELDS; ++j) store(t[j], in[j]);
        for (int i = 0; i < count; ++i)
            for (int j = 0; j < FIELDS; ++j) p[i * FIELDS + j] = t[j][i];
        return;
    } else if constexpr (FIELDS == 1) {
        v[0] = in[0];
    } else if constexpr (FIELDS == 2) {
        join_pairs(in[0], in[1], v[0], v[1]);
    } else if constexpr (FIELDS == 3) {
        join_triples(in[0], in[1], in[2], v[0], v[1], v[2]);
    } else if constexpr (FIELDS == 4) {
        vf w[4];
        join_fours(in, w);
        for (int i = 0; i < 4; ++i) v[i] = w[i];
    } else {
        for (int j = 0; j < LANES; ++j) v[j] = j < FIELDS ? in[j < FIELDS ? j : 0] : zero();
        transpose(v);
        for (int i = 0; i < LANES; ++i) store_some<FIELDS>(p + i * FIELDS, v[i]);
        return;
    }
    for (int i = 0; i < FIELDS; ++i) store(p + LANES * i, v[i]);
}

// COUNT <= 16 columns from sixteen rows `stride` apart, and back.
template <int COUNT>
SPLAT_INLINE void load_columns(const float* p, int64_t stride, int count, vf* out) {
    vf v[LANES];
    for (int i = 0; i < LANES; ++i) v[i] = load_some<COUNT>(p + (i < count ? i : 0) * stride);
    transpose(v);
    for (int j = 0; j < COUNT; ++j) out[j] = v[j];
}
template <int COUNT>
SPLAT_INLINE void store_columns(float* p, int64_t stride, int count, const vf* in) {
    vf v[LANES];
    for (int j = 0; j < LANES; ++j) v[j] = j < COUNT ? in[j < COUNT ? j : 0] : zero();
    transpose(v);
    for (int i = 0; i < count; ++i) store_some<COUNT>(p + i * stride, v[i]);
}

// The used harmonics of sixteen rows of sh [n k 3], by coefficient and channel; and their gradients, those of unused
// ones 0.
template <int DEGREE>
SPLAT_INLINE void load_sh(const float* sh, int32_t k, int64_t begin, int count,
                          vf (&out)[(DEGREE + 1) * (DEGREE + 1) * 3]) {
    constexpr int FIELDS = (DEGREE + 1) * (DEGREE + 1) * 3, WHOLE = FIELDS / LANES, REST = FIELDS % LANES;
    const float* p = sh + begin * k * 3;
    for (int c = 0; c < WHOLE; ++c) load_columns<LANES>(p + LANES * c, 3 * k, count, out + LANES * c);
    if constexpr (REST) load_columns<REST>(p + LANES * WHOLE, 3 * k, count, out + LANES * WHOLE);
}
template <int DEGREE>
SPLAT_INLINE void store_sh(float* sh, int32_t k, int64_t begin, int count,
                           const vf (&in)[(DEGREE + 1) * (DEGREE + 1) * 3]) {
    constexpr int FIELDS = (DEGREE + 1) * (DEGREE + 1) * 3, WHOLE = FIELDS / LANES, REST = FIELDS % LANES;
    float* p = sh + begin * k * 3;
    for (int c = 0; c < WHOLE; ++c) store_columns<LANES>(p + LANES * c, 3 * k, count, in + LANES * c);
    if constexpr (REST) store_columns<REST>(p + LANES * WHOLE, 3 * k, count, in + LANES * WHOLE);
    if (3 * k > FIELDS)
        for (int i = 0; i < count; ++i) memset(p + 3 * k * i + FIELDS, 0, sizeof(float) * (3 * k - FIELDS));
}

}  // namespace splat
