// Sixteen lanes in two registers (AVX) or four (SSE, NEON): pairs, or pairs of pairs, of the compiler's native vectors.
// (Left to itself, GCC takes wider vectors than the CPU's apart lane by lane.) See simd.h for what each function means.
#pragma once
#include <stdint.h>
#include <string.h>

#include <type_traits>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace splat {

template <class T>
struct Pair {
    T low, high;

    // One lane, to read. Slow.
    auto operator[](int i) const {
        constexpr int HALF = sizeof(T) / 4;
        return i < HALF ? low[i] : high[i - HALF];
    }
};

#ifdef __AVX2__
typedef float part_f __attribute__((vector_size(32)));
typedef int32_t part_i __attribute__((vector_size(32)));
typedef Pair<part_f> vf;
typedef Pair<part_i> vi;
#else
typedef float part_f __attribute__((vector_size(16)));
typedef int32_t part_i __attribute__((vector_size(16)));
typedef Pair<Pair<part_f>> vf;
typedef Pair<Pair<part_i>> vi;
#endif
typedef vi vm;  // 0 or -1

template <class T>
constexpr bool is_scalar = std::is_arithmetic<T>::value;
template <class T>
using lane_of = std::decay_t<decltype(std::declval<T>()[0])>;

#define SPLAT_OPERATOR(op)                                                             \
    template <class T>                                                                 \
    SPLAT_INLINE Pair<T> operator op(Pair<T> a, Pair<T> b) {                           \
        return {a.low op b.low, a.high op b.high};                                     \
    }                                                                                  \
    template <class T, class S, class = std::enable_if_t<is_scalar<S>>>                \
    SPLAT_INLINE Pair<T> operator op(Pair<T> a, S b) {                                 \
        return {a.low op (lane_of<T>)b, a.high op (lane_of<T>)b};                      \
    }                                                                                  \
    template <class T, class S, class = std::enable_if_t<is_scalar<S>>>                \
    SPLAT_INLINE Pair<T> operator op(S a, Pair<T> b) {                                 \
        return {(lane_of<T>)a op b.low, (lane_of<T>)a op b.high};                      \
    }                                                                                  \
    template <class T, class B>                                                        \
    SPLAT_INLINE Pair<T>& operator op##=(Pair<T>& a, B b) {                            \
        return a = a op b;                                                             \
    }
SPLAT_OPERATOR(+)
SPLAT_OPERATOR(-)
SPLAT_OPERATOR(*)
SPLAT_OPERATOR(/)
SPLAT_OPERATOR(&)
SPLAT_OPERATOR(|)
SPLAT_OPERATOR(<<)
SPLAT_OPERATOR(>>)
#undef SPLAT_OPERATOR
template <class T>
SPLAT_INLINE Pair<T> operator-(Pair<T> a) {
    return {-a.low, -a.high};
}

// ------------------------------------------------------------------------------------------------------- of one register

SPLAT_INLINE part_f as_float(part_i a) { return (part_f)a; }
SPLAT_INLINE part_i as_int(part_f a) { return (part_i)a; }
SPLAT_INLINE part_f to_float(part_i a) { return __builtin_convertvector(a, part_f); }
SPLAT_INLINE part_i to_int(part_f a) { return __builtin_convertvector(a, part_i); }
SPLAT_INLINE part_i ge(part_f a, part_f b) { return a >= b; }
SPLAT_INLINE part_i gt(part_f a, part_f b) { return a > b; }
SPLAT_INLINE part_i gt(part_i a, part_i b) { return a > b; }
#if defined(__AVX2__)
SPLAT_INLINE part_f select(part_i m, part_f a, part_f b) {
    return (part_f)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)m);
}
SPLAT_INLINE part_f min(part_f a, part_f b) { return (part_f)_mm256_min_ps((__m256)a, (__m256)b); }
SPLAT_INLINE part_f max(part_f a, part_f b) { return (part_f)_mm256_max_ps((__m256)a, (__m256)b); }
SPLAT_INLINE part_f sqrt(part_f a) { return (part_f)_mm256_sqrt_ps((__m256)a); }
SPLAT_INLINE part_f rough_rsqrt(part_f a) {
    part_f r = (part_f)_mm256_rsqrt_ps((__m256)a);
    return r * (1.5f - 0.5f * a * r * r);
}
SPLAT_INLINE part_f rough_reciprocal(part_f a) { return (part_f)_mm256_rcp_ps((__m256)a); }
SPLAT_INLINE uint32_t bits(part_i m) { return (uint32_t)_mm256_movemask_ps((__m256)m); }
#elif defined(__SSE2__)
SPLAT_INLINE part_f select(part_i m, part_f a, part_f b) { return (part_f)((m & (part_i)a) | (~m & (part_i)b)); }
SPLAT_INLINE part_f min(part_f a, part_f b) { return (part_f)_mm_min_ps((__m128)a, (__m128)b); }
SPLAT_INLINE part_f max(part_f a, part_f b) { return (part_f)_mm_max_ps((__m128)a, (__m128)b); }
SPLAT_INLINE part_f sqrt(part_f a) { return (part_f)_mm_sqrt_ps((__m128)a); }
SPLAT_INLINE part_f rough_rsqrt(part_f a) {
    part_f r = (part_f)_mm_rsqrt_ps((__m128)a);
    return r * (1.5f - 0.5f * a * r * r);
}
SPLAT_INLINE part_f rough_reciprocal(part_f a) { return (part_f)_mm_rcp_ps((__m128)a); }
SPLAT_INLINE uint32_t bits(part_i m) { return (uint32_t)_mm_movemask_ps((__m128)m); }
#else
SPLAT_INLINE part_f select(part_i m, part_f a, part_f b) { return (part_f)((m & (part_i)a) | (~m & (part_i)b)); }
SPLAT_INLINE part_f min(part_f a, part_f b) { return select(a < b, a, b); }
SPLAT_INLINE part_f max(part_f a, part_f b) { return select(a > b, a, b); }
SPLAT_INLINE part_f sqrt(part_f a) {
    return part_f{__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]), __builtin_sqrtf(a[3])};
}
SPLAT_INLINE part_f rough_rsqrt(part_f a) { return 1 / sqrt(a); }
SPLAT_INLINE part_f rough_reciprocal(part_f a) { return 1 / a; }
SPLAT_INLINE uint32_t bits(part_i m) { return (m[0] & 1) | (m[1] & 2) | (m[2] & 4) | (m[3] & 8); }
#endif
SPLAT_INLINE part_f keep(part_i m, part_f a) { return (part_f)(m & (part_i)a); }
SPLAT_INLINE part_i keep(part_i m, part_i a) { return m & a; }

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SPLAT_PART(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef SPLAT_PART
#define SPLAT_PART(a, b, ...) __builtin_shuffle(a, b, part_i{__VA_ARGS__})
#endif
#ifdef __AVX2__
SPLAT_INLINE part_f low_ones(part_f x, part_f y) { return SPLAT_PART(x, y, 0, 8, 1, 9, 4, 12, 5, 13); }
SPLAT_INLINE part_f high_ones(part_f x, part_f y) { return SPLAT_PART(x, y, 2, 10, 3, 11, 6, 14, 7, 15); }
SPLAT_INLINE part_f low_pairs(part_f x, part_f y) { return SPLAT_PART(x, y, 0, 1, 8, 9, 4, 5, 12, 13); }
SPLAT_INLINE part_f high_pairs(part_f x, part_f y) { return SPLAT_PART(x, y, 2, 3, 10, 11, 6, 7, 14, 15); }
SPLAT_INLINE part_f low_fours(part_f x, part_f y) { return SPLAT_PART(x, y, 0, 1, 2, 3, 8, 9, 10, 11); }
SPLAT_INLINE part_f high_fours(part_f x, part_f y) { return SPLAT_PART(x, y, 4, 5, 6, 7, 12, 13, 14, 15); }
#else
SPLAT_INLINE part_f low_ones(part_f x, part_f y) { return SPLAT_PART(x, y, 0, 4, 1, 5); }
SPLAT_INLINE part_f high_ones(part_f x, part_f y) { return SPLAT_PART(x, y, 2, 6, 3, 7); }
SPLAT_INLINE part_f low_pairs(part_f x, part_f y) { return SPLAT_PART(x, y, 0, 1, 4, 5); }
SPLAT_INLINE part_f high_pairs(part_f x, part_f y) { return SPLAT_PART(x, y, 2, 3, 6, 7); }
SPLAT_INLINE Pair<part_f> low_fours(Pair<part_f> x, Pair<part_f> y) { return {x.low, y.low}; }
SPLAT_INLINE Pair<part_f> high_fours(Pair<part_f> x, Pair<part_f> y) { return {x.high, y.high}; }
#endif

// ------------------------------------------------------------------------------------------------- the same of all lanes

#define SPLAT_UNARY(name)                            \
    template <class T>                               \
    SPLAT_INLINE auto name(Pair<T> a) {              \
        using R = decltype(name(a.low));             \
        return Pair<R>{name(a.low), name(a.high)};   \
    }
#define SPLAT_BINARY(name)                                       \
    template <class T, class U>                                  \
    SPLAT_INLINE auto name(Pair<T> a, Pair<U> b) {               \
        using R = decltype(name(a.low, b.low));                  \
        return Pair<R>{name(a.low, b.low), name(a.high, b.high)}; \
    }
SPLAT_UNARY(as_float)
SPLAT_UNARY(as_int)
SPLAT_UNARY(to_float)
SPLAT_UNARY(to_int)
SPLAT_UNARY(sqrt)
SPLAT_UNARY(rough_rsqrt)
SPLAT_UNARY(rough_reciprocal)
SPLAT_BINARY(ge)
SPLAT_BINARY(gt)
SPLAT_BINARY(min)
SPLAT_BINARY(max)
SPLAT_BINARY(keep)
SPLAT_BINARY(low_ones)
SPLAT_BINARY(high_ones)
SPLAT_BINARY(low_pairs)
SPLAT_BINARY(high_pairs)
SPLAT_BINARY(low_fours)
SPLAT_BINARY(high_fours)
#undef SPLAT_UNARY
#undef SPLAT_BINARY
template <class M, class T>
SPLAT_INLINE Pair<T> select(Pair<M> m, Pair<T> a, Pair<T> b) {
    return {select(m.low, a.low, b.low), select(m.high, a.high, b.high)};
}
template <class T>
SPLAT_INLINE uint32_t bits(Pair<T> m) {
    return bits(m.low) | bits(m.high) << sizeof(T) / 4;
}

// Register by register: copied as one object, GCC moves it in other pieces than it is then read in, and the CPU stalls.
SPLAT_INLINE void copy(part_f& v, const float* p) { memcpy(&v, p, sizeof v); }
SPLAT_INLINE void copy(float* p, const part_f& v) { memcpy(p, &v, sizeof v); }
template <class T>
SPLAT_INLINE void copy(Pair<T>& v, const float* p) {
    copy(v.low, p);
    copy(v.high, p + sizeof(T) / 4);
}
template <class T>
SPLAT_INLINE void copy(float* p, const Pair<T>& v) {
    copy(p, v.low);
    copy(p + sizeof(T) / 4, v.high);
}
SPLAT_INLINE vf load(const float* p) {
    vf v;
    copy(v, p);
    return v;
}
SPLAT_INLINE void store(float* p, vf v) { copy(p, v); }

SPLAT_INLINE void fill(part_f& v, float a) { v = a - part_f{}; }
template <class T>
SPLAT_INLINE void fill(Pair<T>& v, float a) {
    fill(v.low, a);
    fill(v.high, a);
}
SPLAT_INLINE vf broadcast(float a) {
    vf v;
    fill(v, a);
    return v;
}
SPLAT_INLINE vi min(vi a, vi b) {
    vi first = gt(b, a);
    return (first & a) | (b - (first & b));
}
SPLAT_INLINE vi max(vi a, vi b) {
    vi first = gt(a, b);
    return (first & a) | (b - (first & b));
}
SPLAT_INLINE vm both(vm a, vm b) { return a & b; }
SPLAT_INLINE vm ge(vm m, vf a, vf b) { return m & ge(a, b); }
SPLAT_INLINE vf less_share(vm m, vf a, vf b) { return a - a * keep(m, b); }
SPLAT_INLINE bool any(vm m) { return bits(m.low | m.high) != 0; }
SPLAT_INLINE vm first_lanes(int count) {
    int32_t t[16];
    for (int i = 0; i < 16; ++i) t[i] = i < count ? -1 : 0;
    vm m;
    memcpy(&m, t, sizeof m);
    return m;
}
SPLAT_INLINE vf even_fours(vf x, vf y) { return {low_fours(x.low, x.high), low_fours(y.low, y.high)}; }
SPLAT_INLINE vf odd_fours(vf x, vf y) { return {high_fours(x.low, x.high), high_fours(y.low, y.high)}; }

template <int... I>
SPLAT_INLINE vf shuffled(vf x, vf y) {
    float t[32];
    store(t, x);
    store(t + 16, y);
    const float r[16] = {t[I]...};
    return load(r);
}
#define SPLAT_SHUFFLE(a, b, ...) shuffled<__VA_ARGS__>(a, b)

SPLAT_INLINE vf gather(const float* p, vi at) {
    float t[16];
    for (int i = 0; i < 16; ++i) t[i] = p[at[i]];
    return load(t);
}
SPLAT_INLINE vi gather(const int32_t* p, vi at) {
    int32_t t[16];
    for (int i = 0; i < 16; ++i) t[i] = p[at[i]];
    vi v;
    memcpy(&v, t, sizeof v);
    return v;
}

SPLAT_INLINE void compress(int32_t* p, vm m, vi a) {
    int32_t t[16];
    memcpy(t, &a, sizeof t);
    for (uint32_t b = bits(m); b; b &= b - 1) *p++ = t[__builtin_ctz(b)];
}
template <int COUNT>
SPLAT_INLINE vf load_some(const float* p) {
    float t[16] = {};
    memcpy(t, p, COUNT * sizeof(float));
    return load(t);
}
template <int COUNT>
SPLAT_INLINE void store_some(float* p, vf v) {
    float t[16];
    store(t, v);
    memcpy(p, t, COUNT * sizeof(float));
}
SPLAT_INLINE vf load_two_eights(const float* p, const float* q) {
    vf v;
    copy(v.low, p);
    copy(v.high, q);
    return v;
}

SPLAT_INLINE vf exp2_small(vf p) {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits; taking away a half first makes it the floor.
    vf t = (p - 0.5f) + 12582912.0f;
    vf f = p - (t - 12582912.0f);
    return as_float(as_int(exp2_fraction(f)) + (as_int(t) << 23));
}

}  // namespace splat
