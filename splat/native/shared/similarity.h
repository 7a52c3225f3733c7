// Structural similarity of one value of an image (Wang et al. 2004). One source for every processor, like projection.h.
#pragma once
#include "../kernels.h"

namespace splat {

constexpr int R = 5, TAPS = 2 * R + 1;  // of the window
constexpr float C1 = 0.01f * 0.01f, C2 = 0.03f * 0.03f;

// exp(-k^2 / (2 1.5^2)), divided by the sum over k = -5 ... 5.
SPLAT_INLINE constexpr float window(int k) {
    return k == 0   ? 0.2660117248617943f
           : k == 1 ? 0.21300553771125366f
           : k == 2 ? 0.1093606895097f
           : k == 3 ? 0.03600077212843082f
           : k == 4 ? 0.007598758135239184f
                    : 0.0010283800844791099f;
}

// From the blurred x, t, x^2 + t^2 and xt: w (1 - similarity), and the derivatives of `scale` times that by the blurred x,
// x^2 and xt.
SPLAT_INLINE vf dissimilarity(const vf (&m)[4], vf w, float scale, vf (&by)[3]) {
    const vf mx = m[0], mt = m[1];
    const vf mxt = mx * mt, mm = mx * mx + mt * mt;
    const vf a1 = 2 * mxt + C1, a2 = 2 * (m[3] - mxt) + C2;
    const vf b1 = mm + C1, b2 = m[2] - mm + C2;
    const vf inverse = 1 / (b1 * b2), ssim = a1 * a2 * inverse;
    const vf g = w * (-2 * scale) * inverse;
    // b2 holds -mx^2 too: its share of the derivative by mx has the other sign.
    by[0] = g * (mt * (a2 - a1) - ssim * mx * (b2 - b1));
    by[1] = g * -0.5f * ssim * b1;
    by[2] = g * a1;
    return w * (1 - ssim);
}

// dL/dx from the blurred derivatives and the L1 term; d = x - t.
SPLAT_INLINE vf value_gradient(const vf (&by)[3], vf x, vf t, vf w, float l1_scale) {
    const vf d = x - t;
    const vf sign = keep(gt(d, zero()), broadcast(1)) - keep(gt(zero(), d), broadcast(1));
    return keep(gt(w, zero()), by[0] + 2 * x * by[1] + t * by[2]) + w * sign * l1_scale;
}

}  // namespace splat
