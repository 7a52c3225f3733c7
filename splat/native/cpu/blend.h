// What the forward and the backward pass of compositing share.
//
// A tile of 16 x 16 pixels is sixteen blocks of 4 x 4, and sixteen lanes are one block: lane l is pixel (l % 4, l / 4).
// Compact blocks waste fewer lanes on small round footprints than rows of sixteen pixels do.
#pragma once
#include <string.h>

#include <algorithm>
#include <type_traits>

#include "simd.h"
#include "../shared/pair.h"

namespace splat {

constexpr int BLOCKS = 16, SIDE = 4;

SPLAT_INLINE vf lane_x() { return to_float(lane_numbers() & (SIDE - 1)); }
SPLAT_INLINE vf lane_y() { return to_float(lane_numbers() >> 2); }

// Extra channels of Gaussians, and scratch memory for what belongs to pixels: a vector per tile, block and channel.
struct Channels {
    int32_t count;
    const float* rows;  // [n count]
    float (*lanes)[LANES];

    static int64_t bytes(int64_t tiles, int32_t count) { return tiles * BLOCKS * count * (int64_t)sizeof(float[LANES]); }
    SPLAT_INLINE const float* row(int64_t i) const { return rows + i * count; }
    SPLAT_INLINE float (*block(int number) const)[LANES] { return lanes + (int64_t)number * count; }
    Channels tile(int64_t number) const { return {count, rows, lanes + number * BLOCKS * count}; }

    // visit(width, k) for channels k, ..., k + width - 1: four together while there are, so that sums stay in registers.
    // `width` is a constant.
    template <class Visit>
    SPLAT_INLINE void each(Visit&& visit) const {
        int k = 0;
        for (; k + 4 <= count; k += 4) visit(std::integral_constant<int, 4>(), k);
        if (count - k == 1) visit(std::integral_constant<int, 1>(), k);
        if (count - k == 2) visit(std::integral_constant<int, 2>(), k);
        if (count - k == 3) visit(std::integral_constant<int, 3>(), k);
    }
};

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

    // Of an image [h w channels], to and from a vector per channel.
    SPLAT_INLINE void load_channels(const float* image, int32_t channels, float (*lanes)[LANES]) const {
        if (!whole()) memset(lanes, 0, sizeof *lanes * channels);
        each([&](int lane, int64_t i) {
            for (int k = 0; k < channels; ++k) lanes[k][lane] = image[i * channels + k];
        });
    }
    // The sum over channels of a x b.
    SPLAT_INLINE vf dot_channels(const float* a, const float* b, int32_t channels) const {
        float t[LANES] = {};
        each([&](int lane, int64_t i) {
            for (int k = 0; k < channels; ++k) t[lane] += a[i * channels + k] * b[i * channels + k];
        });
        return load(t);
    }
    SPLAT_INLINE void store_channels(float* image, int32_t channels, const float (*lanes)[LANES]) const {
        each([&](int lane, int64_t i) {
            for (int k = 0; k < channels; ++k) image[i * channels + k] = lanes[k][lane];
        });
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
