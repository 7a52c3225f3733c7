// One camera's view of Gaussians: the arithmetic of projection, forward and backward. The formulas are those of
// splat/raster/reference.py, which states them.
//
// This is one source for every processor. It is written in `vf`, a number per Gaussian: sixteen of them side by side on
// a CPU (cpu/simd.h), one on a GPU (cuda/lanes.cuh), which also bring masks `vm`, SPLAT_INLINE, and the functions on
// both.
#pragma once
#include <stdint.h>

#include <type_traits>

#include "../kernels.h"
#include "pair.h"

namespace splat {

constexpr float BLUR = 0.3f;
constexpr float HALF_LOG2E = 0.72134752f;       // q / 2 nepers are HALF_LOG2E q octaves
constexpr float LOG2E = 1.44269504f;
constexpr float MIN_COMPENSATION = 1e-12f;

struct row3 {
    float x, y, z;
};

struct Pinhole {
    float fx, fy, cx, cy;
    int32_t width, height;
    row3 r[3];      // rotation of cam_from_world, by rows
    float t[3];     // its translation
    row3 centre;    // of the camera, in the world: -R^T t
    float low_u, high_u, low_v, high_v;  // where x/z and y/z are clamped in the Jacobian

    // From cam_from_world [4 4] and fx, fy, cx, cy.
    SPLAT_INLINE Pinhole(const float* m, const float* intrinsics, int32_t width, int32_t height)
        : fx(intrinsics[0]), fy(intrinsics[1]), cx(intrinsics[2]), cy(intrinsics[3]), width(width), height(height) {
        for (int i = 0; i < 3; ++i) {
            r[i] = {m[4 * i], m[4 * i + 1], m[4 * i + 2]};
            t[i] = m[4 * i + 3];
        }
        centre = {-(r[0].x * t[0] + r[1].x * t[1] + r[2].x * t[2]), -(r[0].y * t[0] + r[1].y * t[1] + r[2].y * t[2]),
                  -(r[0].z * t[0] + r[1].z * t[1] + r[2].z * t[2])};
        float margin_u = 0.15f * width / fx, margin_v = 0.15f * height / fy;
        low_u = -cx / fx - margin_u, high_u = (width - cx) / fx + margin_u;
        low_v = -cy / fy - margin_v, high_v = (height - cy) / fy + margin_v;
    }
};

struct vec3 {
    vf x, y, z;
};
SPLAT_INLINE vec3 operator+(vec3 a, vec3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
SPLAT_INLINE vec3 operator-(vec3 a, vec3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
SPLAT_INLINE vec3 operator*(vec3 a, vec3 b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }
SPLAT_INLINE vec3 operator*(vf s, vec3 a) { return {s * a.x, s * a.y, s * a.z}; }
SPLAT_INLINE vec3 operator*(vf s, row3 a) { return {s * a.x, s * a.y, s * a.z}; }
template <class S, class = std::enable_if_t<std::is_arithmetic_v<S> && !std::is_same_v<S, vf>>>
SPLAT_INLINE vec3 operator*(S s, vec3 a) {
    return {s * a.x, s * a.y, s * a.z};
}
SPLAT_INLINE vf dot(vec3 a, vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
SPLAT_INLINE vf dot(vec3 a, row3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
SPLAT_INLINE vec3 operator-(vec3 a, row3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
SPLAT_INLINE vec3 cross(vec3 a, vec3 b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
SPLAT_INLINE vec3 keep(vm m, vec3 a) { return {keep(m, a.x), keep(m, a.y), keep(m, a.z)}; }
SPLAT_INLINE vm finite(vec3 a) { return both(finite(a.x), both(finite(a.y), finite(a.z))); }

// Everything about position and footprint.
struct Footprint {
    vec3 mean, cam;          // world, camera
    vf norm2, inverse_norm;  // of the quaternion
    vf w, x, y, z;           // the unit quaternion
    vec3 rotation[3];        // its matrix, by rows
    vec3 log_scale, scale;
    vf inverse_z, u, v;      // u, v: clamped x/z, y/z
    vm free_u, free_v;       // where the clamp does nothing
    vf px, py;
    vf j00, j02, j11, j12;   // the Jacobian
    vec3 v0, v1;             // J R_cam_from_world, by rows
    vec3 u0, u1;             // the same times the rotation matrix
    vec3 a, b;               // the same times the scales: rows of M
    vf xx, xy, yy;           // covariance, blurred
    vf sharp, det;           // determinants before and after blurring
};

SPLAT_INLINE Footprint footprint(const Pinhole& c, const vf (&m)[3], const vf (&q)[4], const vf (&s)[3]) {
    Footprint f;
    f.mean = {m[0], m[1], m[2]};
    f.cam = {dot(f.mean, c.r[0]) + c.t[0], dot(f.mean, c.r[1]) + c.t[1], dot(f.mean, c.r[2]) + c.t[2]};

    f.norm2 = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3];
    f.inverse_norm = 1 / max(sqrt(f.norm2), broadcast(1e-12f));
    vf w = f.w = q[0] * f.inverse_norm, x = f.x = q[1] * f.inverse_norm;
    vf y = f.y = q[2] * f.inverse_norm, z = f.z = q[3] * f.inverse_norm;
    f.rotation[0] = {1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)};
    f.rotation[1] = {2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)};
    f.rotation[2] = {2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)};
    f.log_scale = {s[0], s[1], s[2]};
    f.scale = {exp(s[0]), exp(s[1]), exp(s[2])};

    f.inverse_z = 1 / f.cam.z;
    vf u = f.cam.x * f.inverse_z, v = f.cam.y * f.inverse_z;
    f.px = u * c.fx + c.cx;
    f.py = v * c.fy + c.cy;
    f.u = clamp(u, broadcast(c.low_u), broadcast(c.high_u));
    f.v = clamp(v, broadcast(c.low_v), broadcast(c.high_v));
    f.free_u = both(ge(u, broadcast(c.low_u)), ge(broadcast(c.high_u), u));
    f.free_v = both(ge(v, broadcast(c.low_v)), ge(broadcast(c.high_v), v));
    f.j00 = c.fx * f.inverse_z;
    f.j11 = c.fy * f.inverse_z;
    f.j02 = -f.j00 * f.u;
    f.j12 = -f.j11 * f.v;
    f.v0 = f.j00 * c.r[0] + f.j02 * c.r[2];
    f.v1 = f.j11 * c.r[1] + f.j12 * c.r[2];
    auto turned = [&](vec3 row) {
        return row.x * f.rotation[0] + row.y * f.rotation[1] + row.z * f.rotation[2];
    };
    f.u0 = turned(f.v0);
    f.u1 = turned(f.v1);
    f.a = f.u0 * f.scale;
    f.b = f.u1 * f.scale;
    vf xx = dot(f.a, f.a), yy = dot(f.b, f.b);
    f.xy = dot(f.a, f.b);
    vec3 area = cross(f.a, f.b);
    f.sharp = dot(area, area);
    f.det = f.sharp + BLUR * (xx + yy) + BLUR * BLUR;
    f.xx = xx + BLUR;
    f.yy = yy + BLUR;
    return f;
}

// A row of the projected Gaussians without its colours, and whether it is drawn at all.
struct Drawing {
    vf row[SPLAT_FIELDS];
    vf radius;  // pixels
    vm drawn;
};

SPLAT_INLINE Drawing drawing(const Pinhole& c, float near_z, bool antialiased, const Footprint& f, vf logit) {
    vf log2_opacity = -log2(1 + exp(-logit));
    if (antialiased) log2_opacity += 0.5f * log2(max(f.sharp / f.det, broadcast(MIN_COMPENSATION)));
    vf octaves = log2_opacity - LOG2_MIN_ALPHA;  // down to the faintest that is drawn
    vf q = octaves * (1 / HALF_LOG2E);           // the same as a squared Mahalanobis distance
    vf reach = max(q, zero());
    vf half_width = sqrt(reach * f.xx), half_height = sqrt(reach * f.yy);

    vm drawn = both(ge(q, zero()), both(gt(f.cam.z, zero()), ge(f.cam.z, broadcast(near_z))));
    drawn = both(drawn, both(gt(f.px + half_width, zero()), gt(broadcast((float)c.width), f.px - half_width)));
    drawn = both(drawn, both(gt(f.py + half_height, zero()), gt(broadcast((float)c.height), f.py - half_height)));
    drawn = both(drawn, both(gt(f.norm2, zero()), finite(f.norm2)));
    drawn = both(drawn, both(finite(f.mean), both(finite(f.log_scale), finite(logit))));
    drawn = both(drawn, both(finite(f.px), both(finite(f.py), finite(f.cam.z))));
    drawn = both(drawn, both(finite(f.xx), both(finite(f.xy), finite(f.yy))));
    drawn = both(drawn, both(finite(f.det), finite(1 / f.det)));

    vf largest = (f.xx + f.yy) * 0.5f;
    vf gap = (f.xx - f.yy) * 0.5f;
    vf radius = sqrt(reach * (largest + sqrt(gap * gap + f.xy * f.xy)));
    vf a = sqrt(HALF_LOG2E * f.yy / f.det);
    Drawing d;
    d.drawn = drawn;
    d.radius = select(gt(radius, broadcast(1e9f)), broadcast(1e9f), radius);
    d.row[SPLAT_X] = f.px;
    d.row[SPLAT_Y] = f.py;
    d.row[SPLAT_A] = a;
    d.row[SPLAT_B] = -a * f.xy / f.yy;
    d.row[SPLAT_C] = sqrt(HALF_LOG2E / f.yy);
    d.row[SPLAT_LOG2_OPACITY] = log2_opacity;
    d.row[SPLAT_DEPTH] = f.cam.z;
    // The square root is zero where the opacity is just the faintest; the row is drawn all the same.
    d.row[SPLAT_HALF_WIDTH] = max(half_width, broadcast(1e-6f));
    d.row[SPLAT_HALF_HEIGHT] = max(half_height, broadcast(1e-6f));
    return d;
}

// A bound that needs neither rotation nor harmonics: with J the row of the Jacobian, the variance on the image is at
// most |J|^2 times the largest scale squared, blurred.
SPLAT_INLINE vm may_be_seen(const Pinhole& c, float near_z, const vf (&m)[3], const vf (&s)[3], vf logit) {
    constexpr float SLACK = 1e-3f;
    vec3 mean{m[0], m[1], m[2]};
    vec3 cam{dot(mean, c.r[0]) + c.t[0], dot(mean, c.r[1]) + c.t[1], dot(mean, c.r[2]) + c.t[2]};
    vf inverse_z = 1 / cam.z;
    vf x = cam.x * inverse_z, y = cam.y * inverse_z;
    vf u = clamp(x, broadcast(c.low_u), broadcast(c.high_u)), v = clamp(y, broadcast(c.low_v), broadcast(c.high_v));
    vf scale = exp(max(s[0], max(s[1], s[2])));
    vf size = scale * inverse_z * (1 + SLACK);
    vf q = (SLACK - log2(1 + exp(-logit)) - LOG2_MIN_ALPHA) * (1 / HALF_LOG2E);
    vf reach = max(q, zero());
    vf half_width = sqrt(reach * (c.fx * c.fx * size * size * (1 + u * u) + BLUR)) + SLACK;
    vf half_height = sqrt(reach * (c.fy * c.fy * size * size * (1 + v * v) + BLUR)) + SLACK;
    vf px = x * c.fx + c.cx, py = y * c.fy + c.cy;
    vf slip_x = SLACK * abs(px) + half_width, slip_y = SLACK * abs(py) + half_height;
    vm kept = both(ge(q, zero()), both(gt(cam.z, zero()), ge(cam.z, broadcast(near_z * (1 - SLACK)))));
    kept = both(kept, both(gt(px + slip_x, zero()), gt(broadcast((float)c.width), px - slip_x)));
    return both(kept, both(gt(py + slip_y, zero()), gt(broadcast((float)c.height), py - slip_y)));
}

constexpr float SH0 = 0.28209479177387814f, SH1 = 0.4886025119029199f;
constexpr float SH2_0 = 1.0925484305920792f, SH2_1 = -1.0925484305920792f, SH2_2 = 0.31539156525252005f,
                SH2_3 = -1.0925484305920792f, SH2_4 = 0.5462742152960396f;
constexpr float SH3_0 = -0.5900435899266435f, SH3_1 = 2.890611442640554f, SH3_2 = -0.4570457994644658f,
                SH3_3 = 0.3731763325901154f, SH3_4 = -0.4570457994644658f, SH3_5 = 1.445305721320277f,
                SH3_6 = -0.5900435899266435f;

// The basis at a unit direction.
template <int DEGREE>
SPLAT_INLINE void sh_basis(vec3 d, vf (&out)[(DEGREE + 1) * (DEGREE + 1)]) {
    vf x = d.x, y = d.y, z = d.z;
    out[0] = broadcast(SH0);
    if constexpr (DEGREE >= 1) {
        out[1] = -SH1 * y;
        out[2] = SH1 * z;
        out[3] = -SH1 * x;
    }
    vf xx = x * x, yy = y * y, zz = z * z;
    if constexpr (DEGREE >= 2) {
        out[4] = SH2_0 * x * y;
        out[5] = SH2_1 * y * z;
        out[6] = SH2_2 * (2 * zz - xx - yy);
        out[7] = SH2_3 * x * z;
        out[8] = SH2_4 * (xx - yy);
    }
    if constexpr (DEGREE >= 3) {
        out[9] = SH3_0 * y * (3 * xx - yy);
        out[10] = SH3_1 * x * y * z;
        out[11] = SH3_2 * y * (4 * zz - xx - yy);
        out[12] = SH3_3 * z * (2 * zz - 3 * xx - 3 * yy);
        out[13] = SH3_4 * x * (4 * zz - xx - yy);
        out[14] = SH3_5 * z * (xx - yy);
        out[15] = SH3_6 * x * (xx - 3 * yy);
    }
}

// sum_k g_k d(basis_k)/d(direction), the direction's length left free.
template <int DEGREE>
SPLAT_INLINE vec3 sh_basis_gradient(vec3 d, const vf (&g)[(DEGREE + 1) * (DEGREE + 1)]) {
    vf x = d.x, y = d.y, z = d.z;
    vec3 r{zero(), zero(), zero()};
    if constexpr (DEGREE >= 1) r = {-SH1 * g[3], -SH1 * g[1], SH1 * g[2]};
    if constexpr (DEGREE >= 2) {
        r.x += SH2_0 * y * g[4] - 2 * SH2_2 * x * g[6] + SH2_3 * z * g[7] + 2 * SH2_4 * x * g[8];
        r.y += SH2_0 * x * g[4] + SH2_1 * z * g[5] - 2 * SH2_2 * y * g[6] - 2 * SH2_4 * y * g[8];
        r.z += SH2_1 * y * g[5] + 4 * SH2_2 * z * g[6] + SH2_3 * x * g[7];
    }
    if constexpr (DEGREE >= 3) {
        vf xx = x * x, yy = y * y, zz = z * z;
        r.x += SH3_0 * 6 * x * y * g[9] + SH3_1 * y * z * g[10] - SH3_2 * 2 * x * y * g[11] -
               SH3_3 * 6 * x * z * g[12] + SH3_4 * (4 * zz - 3 * xx - yy) * g[13] + SH3_5 * 2 * x * z * g[14] +
               SH3_6 * 3 * (xx - yy) * g[15];
        r.y += SH3_0 * 3 * (xx - yy) * g[9] + SH3_1 * x * z * g[10] + SH3_2 * (4 * zz - xx - 3 * yy) * g[11] -
               SH3_3 * 6 * y * z * g[12] - SH3_4 * 2 * x * y * g[13] - SH3_5 * 2 * y * z * g[14] -
               SH3_6 * 6 * x * y * g[15];
        r.z += SH3_1 * x * y * g[10] + SH3_2 * 8 * y * z * g[11] + SH3_3 * 3 * (2 * zz - xx - yy) * g[12] +
               SH3_4 * 8 * x * z * g[13] + SH3_5 * (xx - yy) * g[14];
    }
    return r;
}

// The direction of view and its inverse distance.
struct Ray {
    vec3 direction;
    vf inverse_length;
};
SPLAT_INLINE Ray ray_to(const Pinhole& c, vec3 mean) {
    vec3 ray = mean - c.centre;
    vf inverse_length = 1 / max(sqrt(dot(ray, ray)), broadcast(1e-12f));
    return {inverse_length * ray, inverse_length};
}

// 0.5 + SH, which drawing clamps at 0.
template <int K>
SPLAT_INLINE void colour(const vf (&basis)[K], const vf (&coefficients)[3 * K], vf (&rgb)[3]) {
    for (int j = 0; j < 3; ++j) rgb[j] = broadcast(0.5f);
    for (int i = 0; i < K; ++i)
        for (int j = 0; j < 3; ++j) rgb[j] += basis[i] * coefficients[3 * i + j];
}

// Adds colours to a drawing; a row with a coefficient that is not finite is not drawn.
template <int DEGREE>
SPLAT_INLINE void add_colour(const Pinhole& c, const Footprint& f,
                             const vf (&coefficients)[3 * (DEGREE + 1) * (DEGREE + 1)], Drawing& d) {
    constexpr int K = (DEGREE + 1) * (DEGREE + 1);
    vf basis[K], rgb[3], sizes = zero();  // infinite or NaN when a coefficient is
    sh_basis<DEGREE>(ray_to(c, f.mean).direction, basis);
    colour(basis, coefficients, rgb);
    for (int i = 0; i < 3 * K; ++i) sizes += coefficients[i] * 0;
    d.drawn = both(d.drawn, both(finite(rgb[0]), both(finite(rgb[1]), both(finite(rgb[2]), finite(sizes)))));
    for (int j = 0; j < 3; ++j) d.row[SPLAT_RED + j] = max(rgb[j], zero());
}

// Gradients by the raw fields of a row. What of them is not used costs nothing.
template <int DEGREE>
struct RowGradient {
    vec3 mean, log_scale;
    vf quat[4], logit;
    vf sh[3 * (DEGREE + 1) * (DEGREE + 1)];
};

// Sums over Gaussians: by the rotation of cam_from_world (by rows) and its translation, and by minus the camera's
// centre.
struct PoseGradient {
    vec3 r[3], t, centre;
};

// From g, the gradient by a projected row, and `centre`, more of it by its first two fields.
template <int DEGREE>
SPLAT_INLINE RowGradient<DEGREE> projection_gradient(const Pinhole& c, bool antialiased, const Footprint& f, vf logit,
                                                     const vf (&coefficients)[3 * (DEGREE + 1) * (DEGREE + 1)],
                                                     vm drawn, const vf (&g)[SPLAT_FIELDS], const vf (&centre)[2],
                                                     PoseGradient& pose) {
    constexpr int K = (DEGREE + 1) * (DEGREE + 1);
    RowGradient<DEGREE> out;
    vf g_px = g[SPLAT_X] + centre[0], g_py = g[SPLAT_Y] + centre[1];

    // Opacity: log2(sigmoid(logit)) and, antialiased, log2(sqrt(sharp / det)).
    out.logit = keep(drawn, LOG2E * g[SPLAT_LOG2_OPACITY] / (1 + exp(logit)));

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
    out.log_scale = keep(drawn, g_row_a * f.a + g_row_b * f.b);
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
    out.quat[0] = keep(drawn, (gw - along * f.w) * f.inverse_norm);
    out.quat[1] = keep(drawn, (gx - along * f.x) * f.inverse_norm);
    out.quat[2] = keep(drawn, (gy - along * f.y) * f.inverse_norm);
    out.quat[3] = keep(drawn, (gz - along * f.z) * f.inverse_norm);

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
    const Ray ray = ray_to(c, f.mean);
    vf basis[K], g_basis[K], rgb[3], g_rgb[3];
    sh_basis<DEGREE>(ray.direction, basis);
    colour(basis, coefficients, rgb);
    for (int j = 0; j < 3; ++j) g_rgb[j] = keep(both(drawn, gt(rgb[j], zero())), g[SPLAT_RED + j]);
    for (int i = 0; i < K; ++i) {
        g_basis[i] = g_rgb[0] * coefficients[3 * i] + g_rgb[1] * coefficients[3 * i + 1] +
                     g_rgb[2] * coefficients[3 * i + 2];
        for (int j = 0; j < 3; ++j) out.sh[3 * i + j] = keep(drawn, basis[i] * g_rgb[j]);
    }
    vec3 g_direction = sh_basis_gradient<DEGREE>(ray.direction, g_basis);
    vec3 g_ray = ray.inverse_length * (g_direction - dot(g_direction, ray.direction) * ray.direction);
    out.mean = keep(drawn, g_cam.x * c.r[0] + g_cam.y * c.r[1] + g_cam.z * c.r[2] + g_ray);

    pose.r[0] = pose.r[0] + keep(drawn, g_cam.x * f.mean + f.j00 * g_v0);
    pose.r[1] = pose.r[1] + keep(drawn, g_cam.y * f.mean + f.j11 * g_v1);
    pose.r[2] = pose.r[2] + keep(drawn, g_cam.z * f.mean + f.j02 * g_v0 + f.j12 * g_v1);
    pose.t = pose.t + keep(drawn, g_cam);
    pose.centre = pose.centre + keep(drawn, g_ray);
    return out;
}

// dL/dcam_from_world [4 4] from the sums over all Gaussians, fifteen doubles in the order of PoseGradient.
SPLAT_INLINE void pose_gradient(const Pinhole& c, const double* s, double* g_cam_from_world) {
    const double* ray = s + 12;  // the centre is -R^T t
    for (int i = 0; i < 16; ++i) g_cam_from_world[i] = 0;
    for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) g_cam_from_world[4 * i + j] = s[3 * i + j] + c.t[i] * ray[j];
        g_cam_from_world[4 * i + 3] = s[9 + i] + c.r[i].x * ray[0] + c.r[i].y * ray[1] + c.r[i].z * ray[2];
    }
}

// Calls body.template operator()<DEGREE>() for the degree in use.
template <class Body>
inline void with_degree(int degree, Body&& body) {
    switch (degree) {
        case 0: return body(std::integral_constant<int, 0>());
        case 1: return body(std::integral_constant<int, 1>());
        case 2: return body(std::integral_constant<int, 2>());
        default: return body(std::integral_constant<int, 3>());
    }
}

}  // namespace splat
