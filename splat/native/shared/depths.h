// Depth maps of posed photos, held against each other and against points. One source for every processor, like stereo.h.
//
// A depth of 0 (or less, or NaN) is not known. With A = K' R K^-1 and b = K' t of another photo, pixel p at depth z is seen
// there at A p z + b, whose third coordinate is its depth there.
#pragma once
#include <stdint.h>

#include "../kernels.h"

namespace splat {

struct PixelMap {
    float a[9], b[3];
};

SPLAT_INLINE void map_pixel(const PixelMap& m, vf x, vf y, vf depth, vf& u, vf& v, vf& z) {
    u = (m.a[0] * x + m.a[1] * y + m.a[2]) * depth + m.b[0];
    v = (m.a[3] * x + m.a[4] * y + m.a[5]) * depth + m.b[1];
    z = (m.a[6] * x + m.a[7] * y + m.a[8]) * depth + m.b[2];
    const vf inverse = 1 / z;
    u *= inverse, v *= inverse;
}

// Whether (u, v) at depth z is in the frame, and the pixel it falls into (the nearest where it is not).
SPLAT_INLINE vm in_frame(int32_t width, int32_t height, vf u, vf v, vf z, vi& column, vi& row) {
    column = to_int(clamp(u, zero(), broadcast((float)(width - 1))));
    row = to_int(clamp(v, zero(), broadcast((float)(height - 1))));
    const vm across = both(ge(u, zero()), gt(broadcast((float)width), u));
    const vm down = both(ge(v, zero()), gt(broadcast((float)height), v));
    return both(gt(z, zero()), both(across, down));
}

struct AgreementJob {
    int32_t height, width, other_height, other_width;
    const float *depth, *other_depth;
    PixelMap forward, backward;
    float fx, fy, cx, cy;
    float max_shift2, max_difference, min_tangent2;
    float* pixels;  // [h w 2], or null
    int32_t* at;
    uint8_t* agrees;
};

inline AgreementJob agreement_job(int32_t height, int32_t width, const float* depth, float fx, float fy, float cx,
                                  float cy, int32_t other_height, int32_t other_width, const float* other_depth,
                                  const double* maps, float max_shift, float max_difference, float min_tangent,
                                  float* pixels, int32_t* at, uint8_t* agrees) {
    AgreementJob j{height, width, other_height, other_width, depth, other_depth, {}, {}, fx, fy, cx, cy,
                   max_shift * max_shift, max_difference, min_tangent * min_tangent, pixels, at, agrees};
    for (int k = 0; k < 9; ++k) j.forward.a[k] = (float)maps[k], j.backward.a[k] = (float)maps[12 + k];
    for (int k = 0; k < 3; ++k) j.forward.b[k] = (float)maps[9 + k], j.backward.b[k] = (float)maps[21 + k];
    return j;
}

struct Match {
    vf u, v;  // where the other photo shows the pixel
    vi at;    // the pixel of it that this falls into
    vm agrees;
};

SPLAT_INLINE Match match_pixel(const AgreementJob& j, vi column, vi row) {
    const vf x = to_float(column) + 0.5f, y = to_float(row) + 0.5f;
    const vf depth = gather(j.depth, row * j.width + column);
    Match m;
    vf z;
    map_pixel(j.forward, x, y, depth, m.u, m.v, z);
    vi to_column, to_row;
    const vm inside = in_frame(j.other_width, j.other_height, m.u, m.v, z, to_column, to_row);
    m.at = to_row * j.other_width + to_column;
    // By the other's own account, back to the pixel.
    const vf other = gather(j.other_depth, m.at);
    vf back_u, back_v, back_z;
    map_pixel(j.backward, m.u, m.v, other, back_u, back_v, back_z);
    const vf du = back_u - x, dv = back_v - y;
    const vm near = gt(broadcast(j.max_shift2), du * du + dv * dv);
    const vm alike = gt(broadcast(j.max_difference), abs(back_z / depth - 1));
    // The angle between the rays, by its tangent: P x (P - c) over P . (P - c), c the other camera's centre.
    const vf px = (x - j.cx) * (1 / j.fx) * depth, py = (y - j.cy) * (1 / j.fy) * depth;
    const float cz = j.backward.b[2], cx = (j.backward.b[0] - j.cx * cz) / j.fx, cy = (j.backward.b[1] - j.cy * cz) / j.fy;
    const vf nx = py * cz - depth * cy, ny = depth * cx - px * cz, nz = px * cy - py * cx;
    const vf dot = max(px * (px - cx) + py * (py - cy) + depth * (depth - cz), zero());
    const vm apart = ge(nx * nx + ny * ny + nz * nz, j.min_tangent2 * (dot * dot));
    const vm known = both(gt(depth, zero()), both(gt(other, zero()), gt(back_z, zero())));
    m.agrees = both(both(inside, known), both(both(near, alike), apart));
    return m;
}

// One photo, and points of the world that it may support or whose position violates its free space.
struct SupportJob {
    const float* points;  // [n 3]
    int32_t height, width;
    const float* depth;
    float map[12];  // pixel_from_world, by rows
    float max_difference, max_free_space;
    int32_t *support, *violations;
};

inline SupportJob support_job(const float* points, int32_t height, int32_t width, const float* depth, const double* map,
                              float max_difference, float max_free_space, int32_t* support, int32_t* violations) {
    SupportJob j{points, height, width, depth, {}, max_difference, max_free_space, support, violations};
    for (int k = 0; k < 12; ++k) j.map[k] = (float)map[k];
    return j;
}

SPLAT_INLINE void classify_point(const SupportJob& j, vi i, vm& supports, vm& violates) {
    const vf x = gather(j.points, i * 3), y = gather(j.points, i * 3 + 1), z = gather(j.points, i * 3 + 2);
    const float* m = j.map;
    const vf depth = m[8] * x + m[9] * y + m[10] * z + m[11], inverse = 1 / depth;
    const vf u = (m[0] * x + m[1] * y + m[2] * z + m[3]) * inverse, v = (m[4] * x + m[5] * y + m[6] * z + m[7]) * inverse;
    vi column, row;
    const vm inside = in_frame(j.width, j.height, u, v, depth, column, row);
    const vf own = gather(j.depth, row * j.width + column), ratio = own * inverse;
    const vm seen = both(inside, gt(own, zero()));
    supports = both(seen, gt(broadcast(j.max_difference), abs(ratio - 1)));
    violates = both(seen, gt(ratio, broadcast(1 + j.max_free_space)));
}

struct NormalsJob {
    int32_t height, width;
    const float *normals, *depth;  // [h w 3], [h w]
    int32_t reach;
    float max_difference;
    float* out;
};

struct Normal {
    vf x, y, z;
};

// The mean of the normals around a pixel where depth is about its own; its own where that is nothing.
SPLAT_INLINE Normal smooth_normal(const NormalsJob& j, vi column, vi row) {
    const vi none = column * 0, at = row * j.width + column;
    const vf inverse = 1 / gather(j.depth, at);
    Normal sum{zero(), zero(), zero()};
    for (int dy = -j.reach; dy <= j.reach; dy += 2)
        for (int dx = -j.reach; dx <= j.reach; dx += 2) {
            const vi x = column + dx, y = row + dy;
            const vm across = both(gt(x, none - 1), gt(none + j.width, x));
            const vm inside = both(across, both(gt(y, none - 1), gt(none + j.height, y)));
            const vi tap = keep(inside, y * j.width + x);
            const vf depth = gather(j.depth, tap);
            const vm like = both(both(inside, gt(depth, zero())), gt(broadcast(j.max_difference), abs(depth * inverse - 1)));
            sum.x += keep(like, gather(j.normals, tap * 3));
            sum.y += keep(like, gather(j.normals, tap * 3 + 1));
            sum.z += keep(like, gather(j.normals, tap * 3 + 2));
        }
    const vm some = gt(sum.x * sum.x + sum.y * sum.y + sum.z * sum.z, broadcast(1e-12f));
    sum.x = select(some, sum.x, gather(j.normals, at * 3));
    sum.y = select(some, sum.y, gather(j.normals, at * 3 + 1));
    sum.z = select(some, sum.z, gather(j.normals, at * 3 + 2));
    const vf scale = 1 / max(sqrt(sum.x * sum.x + sum.y * sum.y + sum.z * sum.z), broadcast(1e-12f));
    return {sum.x * scale, sum.y * scale, sum.z * scale};
}

inline bool too_many_pixels(int64_t height, int64_t width) { return height * width > INT32_MAX / 4; }

}  // namespace splat
