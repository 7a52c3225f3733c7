// Which tiles, and which pixels of a row, an ellipse reaches. One source for every processor, like projection.h.
#pragma once
#include <stdint.h>

#include "../kernels.h"
#include "pair.h"

namespace splat {

struct Grid {
    int32_t columns, rows;
    SPLAT_INLINE Grid(int32_t width, int32_t height)
        : columns((width + SPLAT_TILE - 1) / SPLAT_TILE), rows((height + SPLAT_TILE - 1) / SPLAT_TILE) {}
    SPLAT_INLINE int64_t tiles() const { return (int64_t)columns * rows; }
    SPLAT_INLINE int64_t cells() const { return (int64_t)(columns + 1) * rows; }  // with one past the end of each row
};

constexpr float SLACK = 0.01f;  // pixels: rounding must not lose a tile; one too many costs a little time

// Along one axis of `tiles` tiles, those of which a pixel's centre (at .5) lies in [low, high]: from `first` to `end` - 1.
SPLAT_INLINE void tile_range(vf low, vf high, int32_t tiles, vi& first, vi& end) {
    vf size = broadcast((float)tiles * SPLAT_TILE);
    low = clamp(low - (0.5f + SLACK), zero(), size);
    high = clamp(high + (0.5f + SLACK), zero(), size);  // one more than the last pixel, rounded down below
    first = to_int(low);
    first = (first + keep(gt(low, to_float(first)), vi{} + 1)) >> 4;  // the pixel rounded up, then its tile
    end = (to_int(high) + 15) >> 4;
}
static_assert(SPLAT_TILE == 16, "the shifts above");

// The ellipse where the opacity is at least 1/255: u^2 + v^2 <= reach with u = a dx + b dy, v = c dy.
struct Ellipse {
    vf x, y, a, b, c, half_width, half_height, reach, widest, inverse_a, slope;

    SPLAT_INLINE explicit Ellipse(const vf* f)  // the first eight fields of a row
        : x(f[SPLAT_X]), y(f[SPLAT_Y]), a(f[SPLAT_A]), b(f[SPLAT_B]), c(f[SPLAT_C]), half_width(f[SPLAT_HALF_WIDTH]),
          half_height(f[SPLAT_HALF_HEIGHT]) {
        // On the line at height dy the ellipse spans dx = (-b dy +- sqrt(reach - v^2)) / a; it is widest to the right at
        // v = -b sqrt(reach / (b^2 + c^2)).
        reach = f[SPLAT_LOG2_OPACITY] + (1e-3f - LOG2_MIN_ALPHA);
        widest = -b * sqrt(reach / (b * b + c * c));
        inverse_a = 1 / a;
        slope = b / c;
    }

    // Where v lies in [low, high]: whether the ellipse is met, and from where to where, relative to its centre.
    SPLAT_INLINE vm span(vf low, vf high, vf& from, vf& to) const {
        vf to_right = clamp(widest, low, high), to_left = clamp(-widest, low, high);
        vf r = reach - to_right * to_right, l = max(reach - to_left * to_left, zero());
        from = (-sqrt(l) - slope * to_left) * inverse_a;
        to = (sqrt(max(r, zero())) - slope * to_right) * inverse_a;
        return ge(r, zero());
    }
};
static_assert(SPLAT_HALF_HEIGHT == 7, "eight fields are what is needed here");

// The same against the grid of tiles.
struct TiledEllipse : Ellipse {
    vi left, right, top, bottom;

    SPLAT_INLINE TiledEllipse(const vf* f, const Grid& grid) : Ellipse(f) {
        tile_range(x - half_width, x + half_width, grid.columns, left, right);
        tile_range(y - half_height, y + half_height, grid.rows, top, bottom);
    }

    // The columns that are touched in these rows of tiles, one row per lane.
    SPLAT_INLINE void columns(vi row, const Grid& grid, vi& first, vi& end) const {
        vf low = c * (to_float(row * (int32_t)SPLAT_TILE) + 0.5f - y), high = low + c * (float)(SPLAT_TILE - 1);
        vf from, to, slack = 1e-4f * half_width;
        const vm reached = span(low, high, from, to);
        tile_range(x + from - slack, x + to + slack, grid.columns, first, end);
        first = max(first, left);
        end = min(end, right);
        vm met = both(both(gt(bottom, row), reached), gt(end, first));
        first = keep(met, first);
        end = keep(met, end);
    }
};

}  // namespace splat
