// Gradients of projection: from the projected rows to every raw field and to the camera's pose.
#include <string.h>

#include "pool.h"
#include "projection.h"

namespace splat {
namespace {

constexpr int64_t PIECE = 512;  // Gaussians whose pose gradient is summed in float before it joins the doubles

// Sums over Gaussians, sixteen at a time.
struct PoseGradient {
    vec3 r[3], t, centre;
};

SPLAT_INLINE void store_keep(float* rows, int64_t begin, int count, vm drawn, vec3 v) {
    vf out[3] = {keep(drawn, v.x), keep(drawn, v.y), keep(drawn, v.z)};
    store_rows(rows, begin, count, out);
}

struct Inputs {
    const float *means, *quats, *log_scales, *logit_opacities, *sh;
    const int32_t* radii;
    const float *g_splats, *g_means2d;
};

struct Outputs {
    float *means, *quats, *log_scales, *logit_opacities, *sh;
};

template <int DEGREE>
void project_backward(const Pinhole& c, bool antialiased, int32_t k, int32_t g_k, const Inputs& in, int64_t begin, int count,
                      const Outputs& out, PoseGradient& pose) {
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
    Footprint f = footprint(c, in.means, in.quats, in.log_scales, begin, count);

    vf g[SPLAT_FIELDS], centre[2] = {zero(), zero()};
    for (auto& field : g) field = zero();
    if (in.g_splats) load_rows(in.g_splats, begin, count, g);
    if (in.g_means2d) load_rows(in.g_means2d, begin, count, centre);
    vf g_px = g[SPLAT_X] + centre[0], g_py = g[SPLAT_Y] + centre[1];

    // Opacity: log2(sigmoid(logit)) and, antialiased, log2(sqrt(sharp / det)).
    vf logit[1];
    load_rows(in.logit_opacities, begin, count, logit);
    vf e = exp(logit[0]);
    vf g_logit[1] = {keep(drawn, LOG2E * g[SPLAT_LOG2_OPACITY] / (1 + e))};
    store_rows(out.logit_opacities, begin, count, g_logit);

    // The factor (a, b, c) of the conic: a = sqrt(h yy / det), b = -a xy / yy, c = sqrt(h / yy).
    vf inverse_det = 1 / f.det, inverse_yy = 1 / f.yy;
    vf a = sqrt(HALF_LOG2E * f.yy * inverse_det), slope = f.xy * inverse_yy, cc = sqrt(HALF_LOG2E * inverse_yy);
    vf g_a = g[SPLAT_A] - slope * g[SPLAT_B];
    vf g_det = -0.5f * a * g_a * inverse_det;
    vf g_xy = -a * inverse_yy * g[SPLAT_B];
    vf g_yy = inverse_yy * (0.5f * a * g_a + a * slope * g[SPLAT_B] - 0.5f * cc * g[SPLAT_C]);
    vf g_sharp = zero();
    if (antialiased) {
        vf ratio = f.sharp * inverse_det;
        vf g_log = keep(ge(ratio, broadcast(MIN_COMPENSATION)), 0.5f * LOG2E * g[SPLAT_LOG2_OPACITY]);
        g_sharp = select(gt(f.sharp, zero()), g_log / f.sharp, zero());
        g_det -= g_log * inverse_det;
    }
    g_sharp += g_det;
    vf g_xx = BLUR * g_det;
    g_yy += BLUR * g_det;

    // M = J R_cam_from_world R(q) S, rows a and b.
    vec3 area = cross(f.a, f.b);
    vec3 g_row_a = 2 * g_xx * f.a + g_xy * f.b + 2 * g_sharp * cross(f.b, area);
    vec3 g_row_b = 2 * g_yy * f.b + g_xy * f.a + 2 * g_sharp * cross(area, f.a);
    store_keep(out.log_scales, begin, count, drawn, g_row_a * f.a + g_row_b * f.b);
    vec3 g_u0 = g_row_a * f.scale, g_u1 = g_row_b * f.scale;
    vec3 g_v0{dot(g_u0, f.rotation[0]), dot(g_u0, f.rotation[1]), dot(g_u0, f.rotation[2])};
    vec3 g_v1{dot(g_u1, f.rotation[0]), dot(g_u1, f.rotation[1]), dot(g_u1, f.rotation[2])};

    // R(q), by rows; then the unit quaternion, then the raw one.
    vec3 m0 = f.v0.x * g_u0 + f.v1.x * g_u1, m1 = f.v0.y * g_u0 + f.v1.y * g_u1, m2 = f.v0.z * g_u0 + f.v1.z * g_u1;
    vf gw = 2 * (f.x * (m2.y - m1.z) + f.y * (m0.z - m2.x) + f.z * (m1.x - m0.y));
    vf gx = 2 * (f.w * (m2.y - m1.z) + f.y * (m0.y + m1.x) + f.z * (m0.z + m2.x) - 2 * f.x * (m1.y + m2.z));
    vf gy = 2 * (f.w * (m0.z - m2.x) + f.x * (m0.y + m1.x) + f.z * (m1.z + m2.y) - 2 * f.y * (m0.x + m2.z));
    vf gz = 2 * (f.w * (m1.x - m0.y) + f.x * (m0.z + m2.x) + f.y * (m1.z + m2.y) - 2 * f.z * (m0.x + m1.y));
    vf along = gw * f.w + gx * f.x + gy * f.y + gz * f.z;
    vf g_quat[4] = {gw - along * f.w, gx - along * f.x, gy - along * f.y, gz - along * f.z};
    for (auto& field : g_quat) field = keep(drawn, field * f.inverse_norm);
    store_rows(out.quats, begin, count, g_quat);

    // J = [[fx/z, 0, -fx u/z], [0, fy/z, -fy v/z]].
    vf g_j00 = dot(g_v0, c.r[0]), g_j02 = dot(g_v0, c.r[2]), g_j11 = dot(g_v1, c.r[1]), g_j12 = dot(g_v1, c.r[2]);
    vf inverse_z = f.inverse_z;
    vf g_u = keep(f.free_u, -f.j00 * g_j02), g_v = keep(f.free_v, -f.j11 * g_j12);
    g_u += c.fx * g_px;
    g_v += c.fy * g_py;
    vf x = f.cam.x * inverse_z, y = f.cam.y * inverse_z;
    vec3 g_cam{g_u * inverse_z, g_v * inverse_z,
               g[SPLAT_DEPTH] -
                   inverse_z * (g_u * x + g_v * y + g_j00 * f.j00 + g_j02 * f.j02 + g_j11 * f.j11 + g_j12 * f.j12)};

    // Colour: the coefficients, and the direction from the camera's centre.
    vf coefficients[3 * K], basis[K], g_basis[K];
    load_sh<DEGREE>(in.sh, k, begin, count, coefficients);
    vec3 ray = f.mean - c.centre;
    vf inverse_length = 1 / max(sqrt(dot(ray, ray)), broadcast(1e-12f));
    vec3 direction = inverse_length * ray;
    sh_basis<DEGREE>(direction, basis);
    vf rgb[3] = {broadcast(0.5f), broadcast(0.5f), broadcast(0.5f)};
    for (int i = 0; i < K; ++i)
        for (int j = 0; j < 3; ++j) rgb[j] += basis[i] * coefficients[3 * i + j];
    vf g_rgb[3];
    for (int j = 0; j < 3; ++j) g_rgb[j] = keep(both(drawn, gt(rgb[j], zero())), g[SPLAT_RED + j]);
    for (int i = 0; i < K; ++i) {
        g_basis[i] = g_rgb[0] * coefficients[3 * i] + g_rgb[1] * coefficients[3 * i + 1] +
                     g_rgb[2] * coefficients[3 * i + 2];
        for (int j = 0; j < 3; ++j) coefficients[3 * i + j] = keep(drawn, basis[i] * g_rgb[j]);
    }
    if (g_k == k) store_sh<DEGREE>(out.sh, k, begin, count, coefficients);
    else store_rows(out.sh, begin, count, {coefficients[0], coefficients[1], coefficients[2]});
    vec3 g_direction = sh_basis_gradient<DEGREE>(direction, g_basis);
    vec3 g_ray = inverse_length * (g_direction - dot(g_direction, direction) * direction);

    vec3 g_mean = g_cam.x * c.r[0] + g_cam.y * c.r[1] + g_cam.z * c.r[2] + g_ray;
    store_keep(out.means, begin, count, drawn, g_mean);

    auto add = [&](vec3& total, vec3 part) {
        total = total + vec3{keep(drawn, part.x), keep(drawn, part.y), keep(drawn, part.z)};
    };
    add(pose.r[0], g_cam.x * f.mean + f.j00 * g_v0);
    add(pose.r[1], g_cam.y * f.mean + f.j11 * g_v1);
    add(pose.r[2], g_cam.z * f.mean + f.j02 * g_v0 + f.j12 * g_v1);
    add(pose.t, g_cam);
    add(pose.centre, g_ray);
}

// Fifteen doubles per piece: dL/dR by rows, dL/dt, and the sum of dL/d(mean - camera centre).
constexpr int SUMS = 15;

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
    return ((n + PIECE - 1) / PIECE) * SUMS * (int64_t)sizeof(double);
}

SPLAT_API int splat_project_backward(int64_t n, int32_t k, int32_t degree, int32_t g_k, const float* means,
                                     const float* quats_wxyz,
                                     const float* log_scales, const float* logit_opacities, const float* sh,
                                     const float* cam_from_world, float fx, float fy, float cx, float cy, int32_t width,
                                     int32_t height, int32_t antialiased, const int32_t* radii, const float* g_splats,
                                     const float* g_means2d, float* g_means, float* g_quats_wxyz, float* g_log_scales,
                                     float* g_logit_opacities, float* g_sh, double* g_cam_from_world, void* workspace,
                                     void*) {
    if (degree < 0 || degree > 3 || (degree + 1) * (degree + 1) > k)
        return fail("harmonics of degree %d cannot be read from %d coefficients: use 0 to 3.", degree, k);
    if (g_k != k && g_k != 1) return fail("gradients of %d or of 1 coefficients can be had, not of %d.", k, g_k);
    Pinhole c(cam_from_world, fx, fy, cx, cy, width, height);
    Inputs in{means, quats_wxyz, log_scales, logit_opacities, sh, radii, g_splats, g_means2d};
    Outputs out{g_means, g_quats_wxyz, g_log_scales, g_logit_opacities, g_sh};
    double* partial = (double*)workspace;
    with_degree(degree, [&](auto d) {
        parallel_ranges(n, PIECE, [&](int64_t begin, int64_t end) {
            PoseGradient pose;
            memset((void*)&pose, 0, sizeof pose);
            for (int64_t i = begin; i < end; i += LANES)
                project_backward<decltype(d)::value>(c, antialiased, k, g_k, in, i, (int)std::min<int64_t>(LANES, end - i),
                                                     out, pose);
            to_doubles(pose, partial + begin / PIECE * SUMS);
        });
    });
    double s[SUMS] = {};
    for (int64_t p = 0; p < (n + PIECE - 1) / PIECE; ++p)
        for (int i = 0; i < SUMS; ++i) s[i] += partial[p * SUMS + i];
    // The centre is -R^T t; s[12..14] is the gradient of its negative.
    const double* ray = s + 12;
    memset(g_cam_from_world, 0, 16 * sizeof(double));
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) {
            g_cam_from_world[4 * i + j] = s[3 * i + j] + c.t[i] * ray[j];
        }
        g_cam_from_world[4 * i + 3] = s[9 + i] + c.r[i].x * ray[0] + c.r[i].y * ray[1] + c.r[i].z * ray[2];
    }
    return 0;
}
