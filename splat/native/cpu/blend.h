// What the forward and the backward pass of compositing share.
//
// A tile of 16 x 16 pixels is sixteen blocks of 4 x 4, and sixteen lanes are one block: lane l is pixel (l % 4, l / 4).
// Compact blocks waste fewer lanes on small round footprints than rows of sixteen pixels do.
#pragma once
#include <string.h>

#include <algorithm>

#include "simd.h"
#include "../shared/pair.h"

namespace splat {

constexpr int BLOCKS = 16, SIDE = 4;

SPLAT_INLINE vf lane_x() { return to_float(lane_numbers() & (SIDE - 1)); }
SPLAT_INLINE vf lane_y() { return to_float(lane_numbers() >> 2); }

// Lane l is pixel (x0 + l % 4, y0 + l / 4).
struct BlockOfPixels {
    int32_t x0, y0, width, height;

    int columns() const { return std::min(SIDE, width - x0); }
    int rows() const { return std::min(SIDE, height - y0); }
    bool touches() const { return columns() > 0 && rows() > 0; }
    bool whole() const { return columns() == SIDE && rows() == SIDE; }

    // 1 inside the image, 0 outside.
    SPLAT_INLINE vf inside() const {
        vf x = lane_x(), y = lane_y();
        return keep(both(gt(broadcast((float)columns()), x), gt(broadcast((float)rows()), y)), broadcast(1));
    }

    // Lanes outside the image are 0, or not written.
    SPLAT_INLINE vf load_plane(const float* plane) const {
        float t[LANES] = {};
        if (whole())
            for (int j = 0; j < SIDE; ++j) memcpy(t + SIDE * j, plane + pixel(j), SIDE * sizeof(float));
        else each([&](int lane, int64_t i) { t[lane] = plane[i]; });
        return load(t);
    }
    SPLAT_INLINE void store_plane(float* plane, vf v) const {
        float t[LANES];
        store(t, v);
        if (whole())
            for (int j = 0; j < SIDE; ++j) memcpy(plane + pixel(j), t + SIDE * j, SIDE * sizeof(float));
        else each([&](int lane, int64_t i) { plane[i] = t[lane]; });
    }
    SPLAT_INLINE void load_rgb(const float* rgb, vf& red, vf& green, vf& blue) const {
        if (whole()) {
            vf r[SIDE];
            for (int j = 0; j < SIDE; ++j) r[j] = load_some<3 * SIDE>(rgb + 3 * pixel(j));
            split_triples(SPLAT_SHUFFLE(r[0], r[1], 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19),
                          SPLAT_SHUFFLE(r[1], r[2], 4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23),
                          SPLAT_SHUFFLE(r[2], r[3], 8, 9, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27),
                          red, green, blue);
        } else {
            float t[3][LANES] = {};
            each([&](int lane, int64_t i) {
                for (int j = 0; j < 3; ++j) t[j][lane] = rgb[3 * i + j];
            });
            red = load(t[0]), green = load(t[1]), blue = load(t[2]);
        }
    }
    SPLAT_INLINE void store_rgb(float* rgb, vf red, vf green, vf blue) const {
        if (whole()) {
            vf a, b, c;
            join_triples(red, green, blue, a, b, c);
            store_some<12>(rgb + 3 * pixel(0), a);
            store_some<12>(rgb + 3 * pixel(1),
                           SPLAT_SHUFFLE(a, b, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 0, 0, 0, 0));
            store_some<12>(rgb + 3 * pixel(2),
                           SPLAT_SHUFFLE(b, c, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 0, 0, 0, 0));
            store_some<12>(rgb + 3 * pixel(3), SPLAT_SHUFFLE(c, c, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 0, 0, 0));
        } else {
            each([&](int lane, int64_t i) {
                rgb[3 * i] = red[lane], rgb[3 * i + 1] = green[lane], rgb[3 * i + 2] = blue[lane];
            });
        }
    }

private:
    int64_t pixel(int row) const { return (int64_t)(y0 + row) * width + x0; }

    template <class Visit>  // visit(lane, pixel)
    void each(Visit&& visit) const {
        for (int j = 0; j < rows(); ++j)
            for (int i = 0; i < columns(); ++i) visit(SIDE * j + i, pixel(j) + i);
    }
};

}  // namespace splat
