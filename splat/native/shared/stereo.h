// How well a slanted plane at a pixel explains other photos. One source for every processor, like projection.h.
//
// A plane has inverse depth w + gx dx + gy dy at (dx, dy) pixels from the pixel it belongs to: planes in space are affine in
// inverse depth. With A = K' R K^-1 and b = K' t of another photo, pixel p at inverse depth w is seen there at A p + w b, so
// the taps of a window are visited by adding two vectors. Photos are compared by normalized cross-correlation, weighted
// towards what looks like the middle of the window (Schönberger et al. 2016, "Pixelwise view selection").
#pragma once
#include <stdint.h>

#include "../kernels.h"

namespace splat {

constexpr int SIDE_TAPS = 5, WINDOW_TAPS = SIDE_TAPS * SIDE_TAPS, TAP_STEP = 2;  // 5 x 5 of 9 x 9 pixels
constexpr int MAX_SOURCES = 8, MAX_BEST = 4;
constexpr float WORST = 2.0f;              // of a photo that does not see the point; correlation gives 0 (equal) to 2
constexpr float MAX_EXCESS = 0.3f;         // of a photo's cost over that of the best photo
constexpr float NO_CONTRAST = 1.0f;        // grey values squared: below, there is nothing to compare
constexpr float GREY_SIGMA = 12.0f;        // of a tap's weight, in grey values
constexpr float STEEPEST = 0.15f;          // least cosine between a plane's normal and the ray

// Another photo: its grey values, each with its right, lower and lower right neighbours in one word, and [A | b].
struct SourcePhoto {
    const int32_t* texels;
    int32_t width, height;
    float a[9], b[3];
};

struct ReferencePhoto {
    const float* grey;  // [h w], 0 to 255
    int32_t width, height;
    float fx, fy, cx, cy;
};

struct Plane {
    vf w, gx, gy;
    SPLAT_INLINE vf at(float dx, float dy) const { return w + gx * dx + gy * dy; }
};

struct PatchWindow {
    vf weight[WINDOW_TAPS];    // they sum up to 1
    vf weighted[WINDOW_TAPS];  // times the grey value less the middle's
    vf middle, mean, variance;
};

SPLAT_INLINE PatchWindow patch_window(const ReferencePhoto& r, vi x, vi y) {
    PatchWindow out;
    const vi right = x * 0 + (r.width - 1), bottom = y * 0 + (r.height - 1), none = x * 0;
    out.middle = gather(r.grey, y * r.width + x);
    vf sum = zero(), mean = zero(), squares = zero();
    for (int i = 0; i < WINDOW_TAPS; ++i) {
        const int dx = (i % SIDE_TAPS - SIDE_TAPS / 2) * TAP_STEP, dy = (i / SIDE_TAPS - SIDE_TAPS / 2) * TAP_STEP;
        const vi tx = min(max(x + dx, none), right), ty = min(max(y + dy, none), bottom);
        const vf d = gather(r.grey, ty * r.width + tx) - out.middle;
        const float far2 = (float)(dx * dx + dy * dy);
        const vf w = exp2_small(max(-abs(d) * (1.44269504f / GREY_SIGMA) - far2 * (1.44269504f / 50), broadcast(-100)));
        out.weight[i] = w;
        out.weighted[i] = d;
        sum += w;
        mean += w * d;
        squares += w * d * d;
    }
    const vf scale = 1 / sum;
    for (int i = 0; i < WINDOW_TAPS; ++i) {
        out.weight[i] *= scale;
        out.weighted[i] *= out.weight[i];
    }
    out.mean = mean * scale;
    out.variance = max(squares * scale - out.mean * out.mean, zero());
    return out;
}

// One photo's opinion of a plane at pixels (px, py): 1 - correlation; 1 where there is nothing to compare, WORST where the
// photo does not see the point.
SPLAT_INLINE vf photo_cost(const PatchWindow& window, const SourcePhoto& s, vf px, vf py, const Plane& plane) {
    vf middle[3], along[3], down[3];
    for (int j = 0; j < 3; ++j) {
        along[j] = s.a[3 * j] + s.b[j] * plane.gx;
        down[j] = s.a[3 * j + 1] + s.b[j] * plane.gy;
        middle[j] = s.a[3 * j] * px + s.a[3 * j + 1] * py + s.a[3 * j + 2] + s.b[j] * plane.w;
    }
    const vf inverse = 1 / middle[2], u0 = middle[0] * inverse, v0 = middle[1] * inverse;
    vm seen = both(gt(middle[2], zero()), gt(plane.w, zero()));
    seen = both(seen, both(gt(u0, zero()), gt(broadcast((float)s.width), u0)));
    seen = both(seen, both(gt(v0, zero()), gt(broadcast((float)s.height), v0)));
    if (!any(seen)) return broadcast(WORST);
    const vf last_u = broadcast((float)(s.width - 1)), last_v = broadcast((float)(s.height - 1));
    vf mean = zero(), squares = zero(), cross = zero();
    vf line[3], next[3];
    for (int j = 0; j < 3; ++j) {
        line[j] = middle[j] - (along[j] + down[j]) * (float)(SIDE_TAPS / 2 * TAP_STEP);
        along[j] *= (float)TAP_STEP;
        down[j] *= (float)TAP_STEP;
    }
    const vf *weight = window.weight, *weighted_grey = window.weighted;
    for (int row_of_taps = 0; row_of_taps < SIDE_TAPS; ++row_of_taps) {
        for (int j = 0; j < 3; ++j) {
            next[j] = line[j];
            line[j] += down[j];
        }
        for (int i = 0; i < SIDE_TAPS; ++i) {
            const vf z = reciprocal(next[2]);
            const vf u = clamp(next[0] * z - 0.5f, zero(), last_u);
            const vf v = clamp(next[1] * z - 0.5f, zero(), last_v);
            for (int j = 0; j < 3; ++j) next[j] += along[j];
            const vi column = to_int(u), row = to_int(v);
            const vf fu = u - to_float(column), fv = v - to_float(row);
            const vi four = gather(s.texels, row * s.width + column);
            const vf a = to_float(four & 255), b = to_float((four >> 8) & 255);
            const vf c = to_float((four >> 16) & 255), d = to_float((four >> 24) & 255);
            const vf upper = a + fu * (b - a), lower = c + fu * (d - c);
            const vf grey = upper + fv * (lower - upper) - window.middle;
            const vf weighted = weight[i] * grey;
            mean += weighted;
            squares += weighted * grey;
            cross += weighted_grey[i] * grey;
        }
        weight += SIDE_TAPS, weighted_grey += SIDE_TAPS;
    }
    const vf variance = squares - mean * mean, product = variance * window.variance;
    const vf correlation = (cross - mean * window.mean) / sqrt(max(product, broadcast(1e-6f)));
    const vm compared = both(gt(variance, broadcast(NO_CONTRAST)), gt(window.variance, broadcast(NO_CONTRAST)));
    const vf cost = select(compared, clamp(1 - correlation, zero(), broadcast(WORST)), broadcast(1));
    return select(seen, cost, broadcast(WORST));
}

// Whether the plane is seen from the front, not from its edge, at an inverse depth in the range.
SPLAT_INLINE vm plausible(const ReferencePhoto& r, vf px, vf py, const Plane& p, float low, float high) {
    const vf x = (px - r.cx) * (1 / r.fx), y = (py - r.cy) * (1 / r.fy);
    const vf nx = p.gx * r.fx, ny = p.gy * r.fy, nz = p.w - nx * x - ny * y;  // the normal, times the distance
    const vf length2 = (nx * nx + ny * ny + nz * nz) * (x * x + y * y + 1);
    const vm front = ge(p.w * p.w, length2 * (STEEPEST * STEEPEST));
    return both(front, both(ge(p.w, broadcast(low)), ge(broadcast(high), p.w)));
}

// The mean of the `best` smallest of the photos' costs, each at most MAX_EXCESS above the smallest: what is hidden in some,
// or outside of their frames, is seen in others, and a plane that only one photo confirms must not lose to one that fits
// two of them badly.
SPLAT_INLINE vf plane_cost(const ReferencePhoto& r, const PatchWindow& window, const SourcePhoto* sources, int count,
                           int best, vf px, vf py, const Plane& plane, float low, float high) {
    const vm possible = plausible(r, px, py, plane, low, high);
    if (!any(possible)) return broadcast(WORST);
    vf smallest[MAX_BEST];
    for (int k = 0; k < MAX_BEST; ++k) smallest[k] = broadcast(WORST);
    for (int i = 0; i < count; ++i) {
        vf cost = photo_cost(window, sources[i], px, py, plane);
        for (int k = 0; k < MAX_BEST; ++k) {
            const vf least = min(smallest[k], cost);
            cost = max(smallest[k], cost);
            smallest[k] = least;
        }
    }
    vf sum = zero();
    for (int k = 0; k < MAX_BEST; ++k)
        if (k < best) sum += min(smallest[k], smallest[0] + MAX_EXCESS);
    return select(possible, sum * (1.0f / best), broadcast(WORST));
}

// The state of one photo's depth map, and how it is searched.
struct StereoJob {
    ReferencePhoto reference;
    SourcePhoto sources[MAX_SOURCES];
    int count, best;
    float low, high;     // inverse depths
    float spread, turn;  // of random changes: as a fraction of the range, and of a unit slope
    const float* noise;  // [3 h w], -1 to 1; null: costs of the planes as they are, nothing else
    float *planes, *cost;  // [3 h w], [h w]

    SPLAT_INLINE int64_t pixels() const { return (int64_t)reference.width * reference.height; }
    SPLAT_INLINE Plane plane(vi at) const {
        const int32_t size = (int32_t)pixels();
        return {gather(planes, at), gather(planes + size, at), gather(planes + 2 * size, at)};
    }
};

inline StereoJob stereo_job(int32_t height, int32_t width, const float* grey, float fx, float fy, float cx, float cy,
                            int32_t sources, const int64_t* table, const double* warps, int32_t best, float low,
                            float high, float spread, float turn, const float* noise, float* planes, float* cost) {
    StereoJob j{{grey, width, height, fx, fy, cx, cy}, {}, sources, best, low, high, spread, turn, noise, planes, cost};
    for (int i = 0; i < sources; ++i) {
        j.sources[i].texels = (const int32_t*)table[3 * i];
        j.sources[i].width = (int32_t)table[3 * i + 1];
        j.sources[i].height = (int32_t)table[3 * i + 2];
        for (int k = 0; k < 9; ++k) j.sources[i].a[k] = (float)warps[12 * i + k];
        for (int k = 0; k < 3; ++k) j.sources[i].b[k] = (float)warps[12 * i + 9 + k];
    }
    return j;
}

struct Found {
    Plane plane;
    vf cost;
};

inline const char* stereo_refusal(int32_t height, int32_t width, int32_t sources, int32_t best) {
    if (sources < 1 || sources > MAX_SOURCES) return "1 to 8 other photos can be compared.";
    if (best < 1 || best > MAX_BEST) return "the best 1 to 4 photos can be believed.";
    if ((int64_t)height * width > INT32_MAX / 4) return "the image is too large.";
    return nullptr;
}

// Tries the planes of eight pixels of the other colour of the chessboard, then random changes (Galliani et al. 2015).
SPLAT_INLINE Found search_plane(const StereoJob& j, vi x, vi y) {
    const ReferencePhoto& r = j.reference;
    const PatchWindow window = patch_window(r, x, y);
    const vf px = to_float(x) + 0.5f, py = to_float(y) + 0.5f;
    const vi at = y * r.width + x;
    Found found{j.plane(at), zero()};
    if (!j.noise) {
        found.cost = plane_cost(r, window, j.sources, j.count, j.best, px, py, found.plane, j.low, j.high);
        return found;
    }
    found.cost = gather(j.cost, at);
    auto offer = [&](const Plane& p) {
        const vf cost = plane_cost(r, window, j.sources, j.count, j.best, px, py, p, j.low, j.high);
        const vm better = gt(found.cost, cost);
        found.cost = select(better, cost, found.cost);
        found.plane.w = select(better, p.w, found.plane.w);
        found.plane.gx = select(better, p.gx, found.plane.gx);
        found.plane.gy = select(better, p.gy, found.plane.gy);
    };
    for (int i = 0; i < 8; ++i) {
        const int far = i < 4 ? 1 : 5;
        const int dx = i % 4 == 0 ? far : i % 4 == 1 ? -far : 0, dy = i % 4 == 2 ? far : i % 4 == 3 ? -far : 0;
        const vi none = x * 0;
        // Beyond the border the pixel's own plane is offered again, not one of its own colour, which may be changing.
        const vm inside = both(both(gt(x + dx, none - 1), gt(none + r.width, x + dx)),
                               both(gt(y + dy, none - 1), gt(none + r.height, y + dy)));
        const vi tx = x + keep(inside, none + dx), ty = y + keep(inside, none + dy);
        Plane p = j.plane(ty * r.width + tx);
        p.w = p.w + p.gx * to_float(x - tx) + p.gy * to_float(y - ty);
        offer(p);
    }
    const int32_t size = (int32_t)j.pixels();
    const vf noise[3] = {gather(j.noise, at), gather(j.noise + size, at), gather(j.noise + 2 * size, at)};
    const float shift = j.spread * (j.high - j.low), turn = j.turn;
    auto changed = [&](float by, vf dw, vf dx, vf dy) {
        Plane p = found.plane;
        p.w = p.w + by * shift * dw;
        // A unit of slope: the inverse depth changes by itself over a focal length.
        p.gx = p.gx + by * turn * dx * p.w * (1 / r.fx);
        p.gy = p.gy + by * turn * dy * p.w * (1 / r.fy);
        return p;
    };
    offer(changed(1, noise[0], zero(), zero()));
    offer(changed(1, zero(), noise[1], noise[2]));
    offer(changed(0.25f, noise[2], noise[0], noise[1]));
    return found;
}

}  // namespace splat
