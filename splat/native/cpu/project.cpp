// Which Gaussians may be seen, and how they look: culling and forward projection with spherical harmonics.
#include <cmath>

#include "pool.h"
#include "rows.h"
#include "../shared/projection.h"

namespace splat {
namespace {

constexpr int64_t PIECE = 1024;  // Gaussians per job

template <int DEGREE>
void project(const Pinhole& c, float near_z, bool antialiased, int32_t k, const float* means, const float* quats,
             const float* log_scales, const float* logit_opacities, const float* sh, int64_t begin, int count,
             float* splats, float* means2d, int32_t* radii) {
    constexpr int K = (DEGREE + 1) * (DEGREE + 1);
    vf m[3], q[4], s[3], logit[1], coefficients[3 * K];
    load_rows(means, begin, count, m);
    load_rows(quats, begin, count, q);
    load_rows(log_scales, begin, count, s);
    load_rows(logit_opacities, begin, count, logit);
    const Footprint f = footprint(c, m, q, s);
    Drawing d = drawing(c, near_z, antialiased, f, logit[0]);
    load_sh<DEGREE>(sh, k, begin, count, coefficients);
    add_colour<DEGREE>(c, f, coefficients, d);
    d.drawn = both(d.drawn, first_lanes(count));
    for (auto& field : d.row) field = keep(d.drawn, field);
    store_rows(splats, begin, count, d.row);
    vf centre[2] = {d.row[SPLAT_X], d.row[SPLAT_Y]};
    store_rows(means2d, begin, count, centre);
    float pixels[LANES];
    store(pixels, keep(d.drawn, d.radius));
    uint32_t b = bits(d.drawn);
    for (int i = 0; i < count; ++i) radii[begin + i] = b >> i & 1 ? std::max(1, (int32_t)std::ceil(pixels[i])) : 0;
}

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int64_t splat_visible_workspace(int64_t n) { return n; }

SPLAT_API int splat_visible(int64_t n, const float* means, const float* log_scales, const float* logit_opacities,
                            const float* cam_from_world, const float* intrinsics, int32_t width, int32_t height,
                            float near_z, int64_t* ids, int64_t* count, void* workspace, void*) {
    Pinhole c(cam_from_world, intrinsics, width, height);
    uint8_t* kept = (uint8_t*)workspace;
    parallel_ranges(n, 4096, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i += LANES) {
            int lanes = (int)std::min<int64_t>(LANES, end - i);
            vf m[3], s[3], logit[1];
            load_rows(means, i, lanes, m);
            load_rows(log_scales, i, lanes, s);
            load_rows(logit_opacities, i, lanes, logit);
            uint32_t b = bits(may_be_seen(c, near_z, m, s, logit[0]));
            for (int j = 0; j < lanes; ++j) kept[i + j] = b >> j & 1;
        }
    });
    int64_t found = 0;
    for (int64_t i = 0; i < n; ++i) {
        ids[found] = i;  // found <= i: never past the end
        found += kept[i];
    }
    *count = found;
    return 0;
}

SPLAT_API int splat_project_forward(int64_t n, int32_t k, int32_t degree, const float* means, const float* quats_wxyz,
                                    const float* log_scales, const float* logit_opacities, const float* sh,
                                    const float* cam_from_world, const float* intrinsics, int32_t width,
                                    int32_t height, float near_z, int32_t antialiased, float* splats, float* means2d,
                                    int32_t* radii, void*) {
    if (degree < 0 || degree > 3 || (degree + 1) * (degree + 1) > k)
        return fail("harmonics of degree %d cannot be read from %d coefficients: use 0 to 3.", degree, k);
    Pinhole c(cam_from_world, intrinsics, width, height);
    with_degree(degree, [&](auto d) {
        parallel_ranges(n, PIECE, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i += LANES)
                project<decltype(d)::value>(c, near_z, antialiased, k, means, quats_wxyz, log_scales, logit_opacities,
                                            sh, i, (int)std::min<int64_t>(LANES, end - i), splats, means2d, radii);
        });
    });
    return 0;
}
