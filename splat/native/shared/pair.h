// One pixel and one Gaussian: what the Gaussian takes of the light, and the gradients. One source for every processor,
// like projection.h.
//
// With g the gradient of the image at a pixel, a Gaussian's weight w_i = alpha_i T_i counts q_i = g . (colour, depth, 1)_i;
// the loss is linear in sum w_i q_i, and dL/dalpha_i = T_i q_i - (what all that lies behind counts) / (1 - alpha_i).
// What all counts together is known from the image, so the backward walk goes front to back again and subtracts: two
// numbers per pixel, T and what is left. Gradients are moments of dL/dlog(alpha) in the whitened coordinates (u, v).
#pragma once
#include <stdint.h>

#include "../kernels.h"

namespace splat {

constexpr float LOG2_MIN_ALPHA = -7.99435344f;  // log2(1/255)
constexpr float MAX_ALPHA = 0.999f;
constexpr float LN2 = 0.69314718f;

struct Share {
    vm on;  // whether the pair contributes
    vf raw, alpha, weight;
};

// `power` is the log2 of the opacity at the pixel, `passed` the transmittance, which becomes that behind; `live` says
// where there is enough of it.
SPLAT_INLINE Share take(vf power, vm live, vf& passed) {
    Share s;
    s.on = ge(live, power, broadcast(LOG2_MIN_ALPHA));
    s.raw = exp2_small(power);
    s.alpha = min(s.raw, broadcast(MAX_ALPHA));
    s.weight = keep(s.on, s.alpha * passed);
    passed = less_share(s.on, passed, s.alpha);
    return s;
}

// dL/dlog(alpha) of a pair that counts q, in front of `behind` light; `left` is what it and all behind it count, and
// becomes what all behind it count.
SPLAT_INLINE vf by_log_alpha(const Share& s, vf behind, vf q, vf& left) {
    left = left - s.weight * q;
    vf g = (behind * q - left) * (s.alpha * reciprocal(1 - s.alpha));
    return keep(ge(s.on, broadcast(MAX_ALPHA), s.raw), g);
}

// The sums over pixels that make the gradient of a row: moments of g = dL/dlog(alpha), sums of weight x dL/dcolour and
// dL/ddepth, and of absolute values of the gradients by the centre (their common factors left out).
enum { SUM_1, SUM_U, SUM_V, SUM_UU, SUM_UV, SUM_VV, SUM_DEPTH, SUM_RED, SUM_GREEN, SUM_BLUE, SUM_ABS_X, SUM_ABS_Y, SUMS };
static_assert((int)SUMS == (int)SPLAT_RECORD, "a record is these sums");

// The gradient of a projected row from its sums. The exponent is p = l - u^2 - v^2 octaves, u = a dx + b dy, v = c dy;
// the moments are taken of u and v, and dx = u/a - b v/(a c), dy = v/c.
SPLAT_INLINE void row_gradient(const float* s, const float* sum, float* g) {
    float a = s[SPLAT_A], b = s[SPLAT_B], c = s[SPLAT_C];
    g[SPLAT_X] = 2 * LN2 * a * sum[SUM_U];
    g[SPLAT_Y] = 2 * LN2 * (b * sum[SUM_U] + c * sum[SUM_V]);
    g[SPLAT_A] = -2 * LN2 * (sum[SUM_UU] - b / c * sum[SUM_UV]) / a;
    g[SPLAT_B] = -2 * LN2 * sum[SUM_UV] / c;
    g[SPLAT_C] = -2 * LN2 * sum[SUM_VV] / c;
    g[SPLAT_LOG2_OPACITY] = LN2 * sum[SUM_1];
    g[SPLAT_DEPTH] = sum[SUM_DEPTH];
    g[SPLAT_RED] = sum[SUM_RED];
    g[SPLAT_GREEN] = sum[SUM_GREEN];
    g[SPLAT_BLUE] = sum[SUM_BLUE];
    g[SPLAT_HALF_WIDTH] = g[SPLAT_HALF_HEIGHT] = 0;
}
// Sums of absolute gradients by the centre.
SPLAT_INLINE void absolute_gradient(const float* s, const float* sum, float* absgrad) {
    absgrad[0] = 2 * LN2 * s[SPLAT_A] * sum[SUM_ABS_X];
    absgrad[1] = 2 * LN2 * sum[SUM_ABS_Y];
}

}  // namespace splat
