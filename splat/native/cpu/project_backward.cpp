// Gradients of projection: from the projected rows to every raw field and to the camera's pose.
#include <string.h>

#include "pool.h"
#include "rows.h"
#include "../shared/projection.h"

namespace splat {
namespace {

constexpr int64_t PIECE = 512;  // Gaussians whose pose gradient is summed in float before it joins the doubles

struct Inputs {
    const float *means, *quats, *log_scales, *logit_opacities, *sh;
    const int32_t* radii;
    const float *g_splats, *g_means2d;
};

struct Outputs {
    float *means, *quats, *log_scales, *logit_opacities, *sh;
};

template <int DEGREE>
void project_backward(const Pinhole& c, bool antialiased, int32_t k, int32_t g_k, const Inputs& in, int64_t begin,
                      int count, const Outputs& out, PoseGradient& pose) {
    constexpr int K = (DEGREE + 1) * (DEGREE + 1);
    float size[LANES];
    for (int i = 0; i < LANES; ++i) size[i] = i < count ? (float)in.radii[begin + i] : 0;
    vm drawn = gt(load(size), zero());
    if (!any(drawn)) {
        memset(out.means + 3 * begin, 0, sizeof(float) * 3 * count);
        memset(out.quats + 4 * begin, 0, sizeof(float) * 4 * count);
        memset(out.log_scales + 3 * begin, 0, sizeof(float) * 3 * count);
        memset(out.logit_opacities + begin, 0, sizeof(float) * count);
        memset(out.sh + 3 * g_k * begin, 0, sizeof(float) * 3 * g_k * count);
        return;
    }
    vf m[3], q[4], s[3], logit[1], coefficients[3 * K];
    load_rows(in.means, begin, count, m);
    load_rows(in.quats, begin, count, q);
    load_rows(in.log_scales, begin, count, s);
    load_rows(in.logit_opacities, begin, count, logit);
    load_sh<DEGREE>(in.sh, k, begin, count, coefficients);
    const Footprint f = footprint(c, m, q, s);

    vf g[SPLAT_FIELDS] = {}, centre[2] = {};
    if (in.g_splats) load_rows(in.g_splats, begin, count, g);
    if (in.g_means2d) load_rows(in.g_means2d, begin, count, centre);
    const auto by = projection_gradient<DEGREE>(c, antialiased, f, logit[0], coefficients, drawn, g, centre, pose);
    store_rows(out.logit_opacities, begin, count, {by.logit});
    store_rows(out.log_scales, begin, count, {by.log_scale.x, by.log_scale.y, by.log_scale.z});
    store_rows(out.quats, begin, count, by.quat);
    store_rows(out.means, begin, count, {by.mean.x, by.mean.y, by.mean.z});
    if (g_k == k) store_sh<DEGREE>(out.sh, k, begin, count, by.sh);
    else store_rows(out.sh, begin, count, {by.sh[0], by.sh[1], by.sh[2]});
}

// Fifteen doubles per piece: dL/dR by rows, dL/dt, and the sum of dL/d(mean - camera centre).
constexpr int POSE_SUMS = 15;

void to_doubles(const PoseGradient& p, double* out) {
    const vec3 parts[5] = {p.r[0], p.r[1], p.r[2], p.t, p.centre};
    for (int i = 0; i < 5; ++i) {
        const vf fields[3] = {parts[i].x, parts[i].y, parts[i].z};
        for (int j = 0; j < 3; ++j) {
            double s = 0;
            for (int l = 0; l < LANES; ++l) s += fields[j][l];
            out[3 * i + j] = s;
        }
    }
}

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int64_t splat_project_backward_workspace(int64_t n) {
    return ((n + PIECE - 1) / PIECE) * POSE_SUMS * (int64_t)sizeof(double);
}

SPLAT_API int splat_project_backward(int64_t n, int32_t k, int32_t degree, int32_t g_k, const float* means,
                                     const float* quats_wxyz, const float* log_scales, const float* logit_opacities,
                                     const float* sh, const float* cam_from_world, const float* intrinsics,
                                     int32_t width, int32_t height, int32_t antialiased, const int32_t* radii,
                                     const float* g_splats, const float* g_means2d, float* g_means,
                                     float* g_quats_wxyz, float* g_log_scales, float* g_logit_opacities, float* g_sh,
                                     double* g_cam_from_world, void* workspace, void*) {
    if (degree < 0 || degree > 3 || (degree + 1) * (degree + 1) > k)
        return fail("harmonics of degree %d cannot be read from %d coefficients: use 0 to 3.", degree, k);
    if (g_k != k && g_k != 1) return fail("gradients of %d or of 1 coefficients can be had, not of %d.", k, g_k);
    Pinhole c(cam_from_world, intrinsics, width, height);
    Inputs in{means, quats_wxyz, log_scales, logit_opacities, sh, radii, g_splats, g_means2d};
    Outputs out{g_means, g_quats_wxyz, g_log_scales, g_logit_opacities, g_sh};
    double* partial = (double*)workspace;
    with_degree(degree, [&](auto d) {
        parallel_ranges(n, PIECE, [&](int64_t begin, int64_t end) {
            PoseGradient pose;
            memset((void*)&pose, 0, sizeof pose);
            for (int64_t i = begin; i < end; i += LANES)
                project_backward<decltype(d)::value>(c, antialiased, k, g_k, in, i,
                                                     (int)std::min<int64_t>(LANES, end - i), out, pose);
            to_doubles(pose, partial + begin / PIECE * POSE_SUMS);
        });
    });
    double s[POSE_SUMS] = {};
    for (int64_t p = 0; p < (n + PIECE - 1) / PIECE; ++p)
        for (int i = 0; i < POSE_SUMS; ++i) s[i] += partial[p * POSE_SUMS + i];
    pose_gradient(c, s, g_cam_from_world);
    return 0;
}
