// One Adam step of spherical harmonics from the gradient of the constant alone.
//
// A Gaussian's colour is a sum of coefficients times the basis at one direction, so the gradient of coefficient k is
// that of the constant times basis_k / basis_0. Three floats stand for forty-eight: neither is the gradient of the
// others written by projection, nor read here.
#include "pool.h"
#include "rows.h"
#include "../shared/adam.h"
#include "../shared/projection.h"

namespace splat {
namespace {

struct HarmonicsStep {
    const int64_t* ids;
    const int32_t* seen;
    const float *means, *g_constant;
    row3 seen_from;
    int32_t from;
    float *sh, *first, *second;
    Adam adam;
    float correct2, rate_constant, rate_rest;
};

// basis_k / basis_0 at the direction of rows [begin, begin + count), by row.
template <int DEGREE>
void basis_of_rows(const HarmonicsStep& s, int64_t begin, int count, float (&out)[LANES][LANES]) {
    float t[3][LANES];
    for (int i = 0; i < LANES; ++i) {
        const int64_t row = begin + (i < count ? i : 0);
        for (int j = 0; j < 3; ++j) t[j][i] = s.means[3 * (s.ids ? s.ids[row] : row) + j];
    }
    const vec3 ray = vec3{load(t[0]), load(t[1]), load(t[2])} - s.seen_from;
    const vec3 direction = (1 / max(sqrt(dot(ray, ray)), broadcast(1e-12f))) * ray;
    vf basis[(DEGREE + 1) * (DEGREE + 1)], v[LANES];
    sh_basis<DEGREE>(direction, basis);
    for (int i = 0; i < LANES; ++i) v[i] = zero();
    for (int i = 0; i < (DEGREE + 1) * (DEGREE + 1); ++i) v[i] = basis[i] * (1 / SH0);
    transpose(v);
    for (int i = 0; i < LANES; ++i) store(out[i], v[i]);
}

// COUNT numbers of a row from column `at` on, of which those before column `from` stay.
template <int COUNT>
SPLAT_INLINE void update(const HarmonicsStep& s, int64_t place, int at, vf g, vf rate) {
    const vf p0 = load_some<COUNT>(s.sh + place + at), m0 = load_some<COUNT>(s.first + place + at);
    const vf v0 = load_some<COUNT>(s.second + place + at);
    vf p = p0, m = m0, v = v0;
    adam_step(s.adam, s.correct2, rate, g, p, m, v);
    const vm touched = gt(lane_numbers() + at, lane_numbers() * 0 + (s.from - 1));
    store_some<COUNT>(s.sh + place + at, select(touched, p, p0));
    store_some<COUNT>(s.first + place + at, select(touched, m, m0));
    store_some<COUNT>(s.second + place + at, select(touched, v, v0));
}

template <int DEGREE>
void update_rows(const HarmonicsStep& s, int64_t begin, int count) {
    constexpr int FIELDS = 3 * (DEGREE + 1) * (DEGREE + 1);
    float basis[LANES][LANES];
    basis_of_rows<DEGREE>(s, begin, count, basis);
    const vf rest = broadcast(s.rate_rest);
    const vf constant = select(first_lanes(3), broadcast(s.rate_constant), rest);
    for (int i = 0; i < count; ++i) {
        if (s.seen && !s.seen[begin + i]) continue;
        const int64_t row = begin + i, place = (s.ids ? s.ids[row] : row) * FIELDS;
        const float *b = basis[i], *g = s.g_constant + 3 * row;
        // Column 3 k + j is basis_k g_j.
        const vf all = load(b), colour = load_some<3>(g);
        const vf g0 = SPLAT_SHUFFLE(colour, colour, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0);
        update<std::min(FIELDS, LANES)>(
            s, place, 0, g0 * SPLAT_SHUFFLE(all, all, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5), constant);
        if constexpr (FIELDS > LANES) {
            const vf g1 = SPLAT_SHUFFLE(colour, colour, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1);
            update<std::min(FIELDS - LANES, LANES)>(
                s, place, LANES, g1 * SPLAT_SHUFFLE(all, all, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10), rest);
        }
        if constexpr (FIELDS > 2 * LANES) {
            const vf g2 = SPLAT_SHUFFLE(colour, colour, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2);
            update<LANES>(s, place, 2 * LANES,
                          g2 * SPLAT_SHUFFLE(all, all, 10, 11, 11, 11, 12, 12, 12, 13, 13, 13, 14, 14, 14, 15, 15, 15),
                          rest);
        }
    }
}

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int splat_adam_harmonics(int64_t rows, const int64_t* ids, const int32_t* seen, int32_t k,
                                   const float* means, const float* seen_from, const float* g_constant, int32_t from,
                                   float* sh, float* first, float* second, const float* constants, double beta1,
                                   double beta2, double eps, void*) {
    if (rows < 0) return fail("%lld rows cannot be updated.", (long long)rows);
    if (k != 1 && k != 4 && k != 9 && k != 16) return fail("%d coefficients are no whole degree up to 3.", k);
    HarmonicsStep s{ids, seen, means, g_constant, {seen_from[0], seen_from[1], seen_from[2]}, from, sh, first, second,
                    Adam(beta1, beta2, eps), constants[0], constants[1], constants[2]};
    with_degree(k == 1 ? 0 : k == 4 ? 1 : k == 9 ? 2 : 3, [&](auto d) {
        parallel_ranges(rows, 1024, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i += LANES)
                update_rows<decltype(d)::value>(s, i, (int)std::min<int64_t>(LANES, end - i));
        });
    });
    return 0;
}
