// What the forward and the backward pass of compositing share.
//
// A tile of 16 x 16 pixels is sixteen blocks of 4 x 4, and sixteen lanes are one block: lane l is pixel (l % 4, l / 4).
// Compact blocks waste fewer lanes on small round footprints than rows of sixteen pixels do.
#pragma once
#include "../kernels.h"
#include "simd.h"

namespace splat {

constexpr float LOG2_MIN_ALPHA = -7.99435344f;  // log2(1/255)
constexpr float MAX_ALPHA = 0.999f;
constexpr float MIN_TRANSMITTANCE = 1e-4f;
constexpr int BLOCKS = 16, SIDE = 4;

SPLAT_INLINE vf lane_x() { return vf{0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3}; }
SPLAT_INLINE vf lane_y() { return vf{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3}; }

// Lane l of an image tensor is pixel (x0 + l % 4, y0 + l / 4); outside the image: 0, or not written.
struct BlockOfPixels {
    int32_t x0, y0, width, height;

    int columns() const { return std::min(SIDE, width - x0); }
    int rows() const { return std::min(SIDE, height - y0); }
    bool whole() const { return columns() == SIDE && rows() == SIDE; }

    template <class Visit>  // visit(lane, pixel)
    SPLAT_INLINE void each(Visit&& visit) const {
        if (whole()) {
            for (int j = 0; j < SIDE; ++j)
                for (int i = 0; i < SIDE; ++i) visit(SIDE * j + i, (int64_t)(y0 + j) * width + x0 + i);
        } else {
            for (int j = 0; j < rows(); ++j)
                for (int i = 0; i < columns(); ++i) visit(SIDE * j + i, (int64_t)(y0 + j) * width + x0 + i);
        }
    }
    void inside(float* one) const {
        for (int l = 0; l < LANES; ++l) one[l] = l % SIDE < columns() && l / SIDE < rows();
    }
};

}  // namespace splat
