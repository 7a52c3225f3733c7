// Which Gaussians may be seen, and how they look: culling and forward projection with spherical harmonics.
#include <cmath>

#include "pool.h"
#include "projection.h"

namespace splat {
namespace {

constexpr int64_t PIECE = 1024;  // Gaussians per job

template <int DEGREE>
void project(const Pinhole& c, float near_z, bool antialiased, int32_t k, const float* means, const float* quats,
             const float* log_scales, const float* logit_opacities, const float* sh, int64_t begin, int count,
             float* splats, float* means2d, int32_t* radii) {
    constexpr int K = (DEGREE + 1) * (DEGREE + 1);
    Footprint f = footprint(c, means, quats, log_scales, begin, count);

    vf logit[1];
    load_rows(logit_opacities, begin, count, logit);
    vf log2_opacity = -log2(1 + exp(-logit[0]));
    if (antialiased) log2_opacity += 0.5f * log2(max(f.sharp / f.det, broadcast(MIN_COMPENSATION)));
    vf octaves = log2_opacity - LOG2_MIN_ALPHA;          // down to the faintest that is drawn
    vf q = octaves * (1 / HALF_LOG2E);                   // the same as a squared Mahalanobis distance
    vf reach = max(q, zero());
    vf half_width = sqrt(reach * f.xx), half_height = sqrt(reach * f.yy);

    vf coefficients[3 * K], basis[K];
    load_sh<DEGREE>(sh, k, begin, count, coefficients);
    vec3 ray = f.mean - c.centre;
    vec3 direction = (1 / max(sqrt(dot(ray, ray)), broadcast(1e-12f))) * ray;
    sh_basis<DEGREE>(direction, basis);
    vf rgb[3] = {broadcast(0.5f), broadcast(0.5f), broadcast(0.5f)};
    vf sizes = zero();  // infinite or NaN when a coefficient is
    for (int i = 0; i < K; ++i) {
        for (int j = 0; j < 3; ++j) {
            rgb[j] += basis[i] * coefficients[3 * i + j];
            sizes += coefficients[3 * i + j] * 0;
        }
    }

    vm drawn = both(first_lanes(count), ge(q, zero()));
    drawn = both(drawn, both(gt(f.cam.z, zero()), ge(f.cam.z, broadcast(near_z))));
    drawn = both(drawn, both(gt(f.px + half_width, zero()), gt(broadcast((float)c.width), f.px - half_width)));
    drawn = both(drawn, both(gt(f.py + half_height, zero()), gt(broadcast((float)c.height), f.py - half_height)));
    drawn = both(drawn, both(gt(f.norm2, zero()), finite(f.norm2)));
    drawn = both(drawn, both(finite(f.mean), both(finite(f.log_scale), finite(logit[0]))));
    drawn = both(drawn, both(finite(f.px), both(finite(f.py), finite(f.cam.z))));
    drawn = both(drawn, both(finite(f.xx), both(finite(f.xy), finite(f.yy))));
    drawn = both(drawn, both(finite(f.det), finite(1 / f.det)));
    drawn = both(drawn, both(finite(rgb[0]), both(finite(rgb[1]), finite(rgb[2]))));
    drawn = both(drawn, finite(sizes));

    vf largest = (f.xx + f.yy) * 0.5f;
    vf gap = (f.xx - f.yy) * 0.5f;
    vf radius = sqrt(reach * (largest + sqrt(gap * gap + f.xy * f.xy)));
    radius = select(gt(radius, broadcast(1e9f)), broadcast(1e9f), radius);

    vf a = sqrt(HALF_LOG2E * f.yy / f.det);
    vf row[SPLAT_FIELDS];
    row[SPLAT_X] = f.px;
    row[SPLAT_Y] = f.py;
    row[SPLAT_A] = a;
    row[SPLAT_B] = -a * f.xy / f.yy;
    row[SPLAT_C] = sqrt(HALF_LOG2E / f.yy);
    row[SPLAT_LOG2_OPACITY] = log2_opacity;
    row[SPLAT_DEPTH] = f.cam.z;
    row[SPLAT_RED] = max(rgb[0], zero());
    row[SPLAT_GREEN] = max(rgb[1], zero());
    row[SPLAT_BLUE] = max(rgb[2], zero());
    // The square root is zero where the opacity is just the faintest; the row is drawn all the same.
    row[SPLAT_HALF_WIDTH] = max(half_width, broadcast(1e-6f));
    row[SPLAT_HALF_HEIGHT] = max(half_height, broadcast(1e-6f));
    for (auto& field : row) field = keep(drawn, field);
    store_rows(splats, begin, count, row);
    vf centre[2] = {row[SPLAT_X], row[SPLAT_Y]};
    store_rows(means2d, begin, count, centre);
    float pixels[LANES];
    store(pixels, keep(drawn, radius));
    uint32_t b = bits(drawn);
    for (int i = 0; i < count; ++i) radii[begin + i] = b >> i & 1 ? std::max(1, (int32_t)std::ceil(pixels[i])) : 0;
}

// A bound that needs neither rotation nor harmonics: with J the row of the Jacobian, the variance on the image is at most
// |J|^2 times the largest scale squared, blurred.
vm may_be_seen(const Pinhole& c, float near_z, const float* means, const float* log_scales,
               const float* logit_opacities, int64_t begin, int count) {
    constexpr float SLACK = 1e-3f;
    vf m[3], s[3], logit[1];
    load_rows(means, begin, count, m);
    load_rows(log_scales, begin, count, s);
    load_rows(logit_opacities, begin, count, logit);
    vec3 mean{m[0], m[1], m[2]};
    vec3 cam{dot(mean, c.r[0]) + c.t[0], dot(mean, c.r[1]) + c.t[1], dot(mean, c.r[2]) + c.t[2]};
    vf inverse_z = 1 / cam.z;
    vf x = cam.x * inverse_z, y = cam.y * inverse_z;
    vf u = clamp(x, broadcast(c.low_u), broadcast(c.high_u)), v = clamp(y, broadcast(c.low_v), broadcast(c.high_v));
    vf scale = exp(max(s[0], max(s[1], s[2])));
    vf size = scale * inverse_z * (1 + SLACK);
    vf q = (SLACK - log2(1 + exp(-logit[0])) - LOG2_MIN_ALPHA) * (1 / HALF_LOG2E);
    vf reach = max(q, zero());
    vf half_width = sqrt(reach * (c.fx * c.fx * size * size * (1 + u * u) + BLUR)) + SLACK;
    vf half_height = sqrt(reach * (c.fy * c.fy * size * size * (1 + v * v) + BLUR)) + SLACK;
    vf px = x * c.fx + c.cx, py = y * c.fy + c.cy;
    vf slip_x = SLACK * abs(px) + half_width, slip_y = SLACK * abs(py) + half_height;
    vm kept = both(first_lanes(count), ge(q, zero()));
    kept = both(kept, both(gt(cam.z, zero()), ge(cam.z, broadcast(near_z * (1 - SLACK)))));
    kept = both(kept, both(gt(px + slip_x, zero()), gt(broadcast((float)c.width), px - slip_x)));
    return both(kept, both(gt(py + slip_y, zero()), gt(broadcast((float)c.height), py - slip_y)));
}

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int splat_visible(int64_t n, const float* means, const float* log_scales, const float* logit_opacities,
                            const float* cam_from_world, float fx, float fy, float cx, float cy, int32_t width,
                            int32_t height, float near_z, uint8_t* kept, int64_t* ids, int64_t* count, void*) {
    Pinhole c(cam_from_world, fx, fy, cx, cy, width, height);
    parallel_ranges(n, 4096, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i += LANES) {
            int lanes = (int)std::min<int64_t>(LANES, end - i);
            uint32_t b = bits(may_be_seen(c, near_z, means, log_scales, logit_opacities, i, lanes));
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
                                    const float* cam_from_world, float fx, float fy, float cx, float cy, int32_t width,
                                    int32_t height, float near_z, int32_t antialiased, float* splats, float* means2d,
                                    int32_t* radii, void*) {
    if (degree < 0 || degree > 3 || (degree + 1) * (degree + 1) > k)
        return fail("harmonics of degree %d cannot be read from %d coefficients: use 0 to 3.", degree, k);
    Pinhole c(cam_from_world, fx, fy, cx, cy, width, height);
    with_degree(degree, [&](auto d) {
        parallel_ranges(n, PIECE, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i += LANES)
                project<decltype(d)::value>(c, near_z, antialiased, k, means, quats_wxyz, log_scales, logit_opacities,
                                            sh, i, (int)std::min<int64_t>(LANES, end - i), splats, means2d, radii);
        });
    });
    return 0;
}
