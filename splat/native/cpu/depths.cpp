// Depth maps against each other and against points, sixteen pixels or points at a time. See shared/depths.h.
#include <string.h>

#include "pool.h"
#include "simd.h"
#include "../shared/depths.h"

namespace splat {
namespace {

constexpr int64_t GRAIN = 4096;

// body(first, count, lanes) for up to LANES numbers of [0, total) at a time; lanes beyond the count repeat the last.
template <class Body>
void each_lanes(int64_t total, Body&& body) {
    parallel_ranges(total, GRAIN, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i += LANES) {
            const int count = (int)std::min<int64_t>(LANES, end - i);
            const vi lane = lane_numbers();
            body(i, count, min(lane, lane * 0 + (count - 1)) + (int32_t)i);
        }
    });
}

// Rows and columns of pixels side by side in an image.
void split_rows(vi at, int32_t width, vi& row, vi& column) {
    int32_t t[LANES], r[LANES];
    memcpy(t, &at, sizeof t);
    for (int i = 0; i < LANES; ++i) r[i] = t[i] / width;
    memcpy(&row, r, sizeof row);
    column = at - row * width;
}

}  // namespace
}  // namespace splat

SPLAT_API int splat_agreement(int32_t height, int32_t width, const float* depth, float fx, float fy, float cx, float cy,
                              int32_t other_height, int32_t other_width, const float* other_depth, const double* maps,
                              float max_shift, float max_difference, float min_tangent, float* pixels, int32_t* at,
                              uint8_t* agrees, void*) {
    using namespace splat;
    if (too_many_pixels(height, width) || too_many_pixels(other_height, other_width))
        return fail("an image of more than %d pixels is too large.", INT32_MAX / 4);
    const AgreementJob j = agreement_job(height, width, depth, fx, fy, cx, cy, other_height, other_width, other_depth, maps,
                                         max_shift, max_difference, min_tangent, pixels, at, agrees);
    each_lanes((int64_t)height * width, [&](int64_t i, int count, vi lanes) {
        vi row, column;
        split_rows(lanes, width, row, column);
        const Match m = match_pixel(j, column, row);
        const uint32_t yes = bits(m.agrees);
        float u[LANES], v[LANES];
        store(u, m.u), store(v, m.v);
        memcpy(j.at + i, &m.at, count * sizeof(int32_t));
        for (int k = 0; k < count; ++k) j.agrees[i + k] = (uint8_t)(yes >> k & 1);
        if (j.pixels)
            for (int k = 0; k < count; ++k) j.pixels[2 * (i + k)] = u[k], j.pixels[2 * (i + k) + 1] = v[k];
    });
    return 0;
}

SPLAT_API int splat_count_support(int64_t count, const float* points, int32_t height, int32_t width, const float* depth,
                                  const double* map, float max_difference, float max_free_space, int32_t* support,
                                  int32_t* violations, void*) {
    using namespace splat;
    if (too_many_pixels(height, width)) return fail("an image of %d x %d pixels is too large.", width, height);
    if (count > INT32_MAX / 3) return fail("%lld points are too many.", (long long)count);
    const SupportJob j = support_job(points, height, width, depth, map, max_difference, max_free_space, support, violations);
    each_lanes(count, [&](int64_t i, int some, vi lanes) {
        vm supports, violates;
        classify_point(j, lanes, supports, violates);
        const uint32_t yes = bits(supports), no = bits(violates);
        for (int k = 0; k < some; ++k) {
            j.support[i + k] += (int32_t)(yes >> k & 1);
            j.violations[i + k] += (int32_t)(no >> k & 1);
        }
    });
    return 0;
}

SPLAT_API int splat_smooth_normals(int32_t height, int32_t width, const float* normals, const float* depth,
                                   int32_t reach, float max_difference, float* out, void*) {
    using namespace splat;
    if (too_many_pixels(height, width)) return fail("an image of %d x %d pixels is too large.", width, height);
    const NormalsJob j{height, width, normals, depth, reach, max_difference, out};
    each_lanes((int64_t)height * width, [&](int64_t i, int count, vi lanes) {
        vi row, column;
        split_rows(lanes, width, row, column);
        const Normal n = smooth_normal(j, column, row);
        float x[LANES], y[LANES], z[LANES];
        store(x, n.x), store(y, n.y), store(z, n.z);
        for (int k = 0; k < count; ++k) j.out[3 * (i + k)] = x[k], j.out[3 * (i + k) + 1] = y[k], j.out[3 * (i + k) + 2] = z[k];
    });
    return 0;
}
