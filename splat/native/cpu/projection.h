// One camera's view of sixteen Gaussians at a time: what the forward and the backward pass of projection share. The
// formulas are those of splat/raster/reference.py, which states them.
#pragma once
#include <type_traits>

#include "../kernels.h"
#include "simd.h"

namespace splat {

constexpr float BLUR = 0.3f;
constexpr float LOG2_MIN_ALPHA = -7.99435344f;  // log2(1/255)
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

    Pinhole(const float* m, float fx, float fy, float cx, float cy, int32_t width, int32_t height)
        : fx(fx), fy(fy), cx(cx), cy(cy), width(width), height(height) {
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
SPLAT_INLINE vec3 operator*(float s, vec3 a) { return {s * a.x, s * a.y, s * a.z}; }
SPLAT_INLINE vf dot(vec3 a, vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
SPLAT_INLINE vf dot(vec3 a, row3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
SPLAT_INLINE vec3 operator-(vec3 a, row3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
SPLAT_INLINE vec3 cross(vec3 a, vec3 b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
SPLAT_INLINE vm finite(vec3 a) { return both(finite(a.x), both(finite(a.y), finite(a.z))); }

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

SPLAT_INLINE Footprint footprint(const Pinhole& c, const float* means, const float* quats, const float* log_scales,
                                 int64_t begin, int count) {
    Footprint f;
    vf m[3], q[4], s[3];
    load_rows(means, begin, count, m);
    load_rows(quats, begin, count, q);
    load_rows(log_scales, begin, count, s);
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

constexpr float SH0 = 0.28209479177387814f, SH1 = 0.4886025119029199f;
constexpr float SH2[5] = {1.0925484305920792f, -1.0925484305920792f, 0.31539156525252005f, -1.0925484305920792f,
                          0.5462742152960396f};
constexpr float SH3[7] = {-0.5900435899266435f, 2.890611442640554f,   -0.4570457994644658f, 0.3731763325901154f,
                          -0.4570457994644658f, 1.445305721320277f, -0.5900435899266435f};

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
        out[4] = SH2[0] * x * y;
        out[5] = SH2[1] * y * z;
        out[6] = SH2[2] * (2 * zz - xx - yy);
        out[7] = SH2[3] * x * z;
        out[8] = SH2[4] * (xx - yy);
    }
    if constexpr (DEGREE >= 3) {
        out[9] = SH3[0] * y * (3 * xx - yy);
        out[10] = SH3[1] * x * y * z;
        out[11] = SH3[2] * y * (4 * zz - xx - yy);
        out[12] = SH3[3] * z * (2 * zz - 3 * xx - 3 * yy);
        out[13] = SH3[4] * x * (4 * zz - xx - yy);
        out[14] = SH3[5] * z * (xx - yy);
        out[15] = SH3[6] * x * (xx - 3 * yy);
    }
}

// sum_k g_k d(basis_k)/d(direction), the direction's length left free.
template <int DEGREE>
SPLAT_INLINE vec3 sh_basis_gradient(vec3 d, const vf (&g)[(DEGREE + 1) * (DEGREE + 1)]) {
    vf x = d.x, y = d.y, z = d.z;
    vec3 r{zero(), zero(), zero()};
    if constexpr (DEGREE >= 1) r = {-SH1 * g[3], -SH1 * g[1], SH1 * g[2]};
    if constexpr (DEGREE >= 2) {
        r.x += SH2[0] * y * g[4] - 2 * SH2[2] * x * g[6] + SH2[3] * z * g[7] + 2 * SH2[4] * x * g[8];
        r.y += SH2[0] * x * g[4] + SH2[1] * z * g[5] - 2 * SH2[2] * y * g[6] - 2 * SH2[4] * y * g[8];
        r.z += SH2[1] * y * g[5] + 4 * SH2[2] * z * g[6] + SH2[3] * x * g[7];
    }
    if constexpr (DEGREE >= 3) {
        vf xx = x * x, yy = y * y, zz = z * z;
        r.x += SH3[0] * 6 * x * y * g[9] + SH3[1] * y * z * g[10] - SH3[2] * 2 * x * y * g[11] -
               SH3[3] * 6 * x * z * g[12] + SH3[4] * (4 * zz - 3 * xx - yy) * g[13] + SH3[5] * 2 * x * z * g[14] +
               SH3[6] * 3 * (xx - yy) * g[15];
        r.y += SH3[0] * 3 * (xx - yy) * g[9] + SH3[1] * x * z * g[10] + SH3[2] * (4 * zz - xx - 3 * yy) * g[11] -
               SH3[3] * 6 * y * z * g[12] - SH3[4] * 2 * x * y * g[13] - SH3[5] * 2 * y * z * g[14] -
               SH3[6] * 6 * x * y * g[15];
        r.z += SH3[1] * x * y * g[10] + SH3[2] * 8 * y * z * g[11] + SH3[3] * 3 * (2 * zz - xx - yy) * g[12] +
               SH3[4] * 8 * x * z * g[13] + SH3[5] * (xx - yy) * g[14];
    }
    return r;
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

// Calls body.template operator()<DEGREE>() for the degree in use.
template <class Body>
SPLAT_INLINE void with_degree(int degree, Body&& body) {
    switch (degree) {
        case 0: return body(std::integral_constant<int, 0>());
        case 1: return body(std::integral_constant<int, 1>());
        case 2: return body(std::integral_constant<int, 2>());
        default: return body(std::integral_constant<int, 3>());
    }
}

}  // namespace splat
