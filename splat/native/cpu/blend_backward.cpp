// Gradients of compositing.
//
// With g the gradient of the image at a pixel, a Gaussian's weight w_i = alpha_i T_i counts q_i = g . (colour, depth, 1)_i;
// the loss is linear in sum w_i q_i, and dL/dalpha_i = T_i q_i - (what all that lies behind counts) / (1 - alpha_i).
// What all counts together is known from the image, so the walk goes front to back again and subtracts: two numbers per
// pixel, T and what is left. Moments of dL/dlog(alpha) in the whitened coordinates (u, v) are summed in registers over
// the blocks that the forward pass marked, turned once into a record per (tile, Gaussian), and the records of a Gaussian
// are then added in the order of its tiles: no atomics, the same bits every time.
#include <string.h>

#include <algorithm>

#include "blend.h"
#include "pool.h"

namespace splat {
namespace {

constexpr float LN2 = 0.69314718f;

struct alignas(64) PixelState {
    float passed[BLOCKS][LANES], left[BLOCKS][LANES];
    float g_red[BLOCKS][LANES], g_green[BLOCKS][LANES], g_blue[BLOCKS][LANES];
    float g_depth[BLOCKS][LANES], g_alpha[BLOCKS][LANES];
};

struct Image {
    int32_t width, height;
    const float *rgb, *alpha, *depth, *g_rgb, *g_alpha, *g_depth;
};

void load_pixels(const Image& image, int32_t x0, int32_t y0, PixelState& p, double* g_background) {
    memset(&p, 0, sizeof p);
    for (int block = 0; block < BLOCKS; ++block) {
        BlockOfPixels pixels{x0 + block % SIDE * SIDE, y0 + block / SIDE * SIDE, image.width, image.height};
        if (pixels.columns() <= 0 || pixels.rows() <= 0) continue;
        pixels.each([&](int lane, int64_t i) {
            const float *g = image.g_rgb + 3 * i, *c = image.rgb + 3 * i;
            float g_alpha = image.g_alpha ? image.g_alpha[i] : 0, g_depth = image.g_depth ? image.g_depth[i] : 0;
            p.passed[block][lane] = 1;
            p.left[block][lane] =
                g[0] * c[0] + g[1] * c[1] + g[2] * c[2] + g_alpha * image.alpha[i] + g_depth * image.depth[i];
            p.g_red[block][lane] = g[0], p.g_green[block][lane] = g[1], p.g_blue[block][lane] = g[2];
            p.g_alpha[block][lane] = g_alpha, p.g_depth[block][lane] = g_depth;
            float rest = 1 - image.alpha[i];
            for (int j = 0; j < 3; ++j) g_background[j] += rest * g[j];
        });
    }
}

template <bool ABSGRAD>
SPLAT_INLINE void walk(PixelState& p, const float* s, uint32_t hits, float x0, float y0, float* record) {
    const vf X = lane_x(), Y = lane_y();
    const float a = s[SPLAT_A], b = s[SPLAT_B], c = s[SPLAT_C];
    const float log2_opacity = s[SPLAT_LOG2_OPACITY], depth = s[SPLAT_DEPTH];
    const float red = s[SPLAT_RED], green = s[SPLAT_GREEN], blue = s[SPLAT_BLUE];
    // u and v at every block's first pixel: lane k is block k.
    vf dx = X * SIDE + (x0 + 0.5f - s[SPLAT_X]), dy = Y * SIDE + (y0 + 0.5f - s[SPLAT_Y]);
    alignas(64) float first_u[BLOCKS], first_v[BLOCKS];
    store(first_u, a * dx + b * dy);
    store(first_v, c * dy);
    const vf U = a * X + b * Y, V = c * Y;
    vf sum_1 = zero(), sum_u = zero(), sum_v = zero(), sum_uu = zero(), sum_uv = zero(), sum_vv = zero();
    vf sum_red = zero(), sum_green = zero(), sum_blue = zero(), sum_depth = zero(), abs_x = zero(), abs_y = zero();
    for (; hits; hits &= hits - 1) {
        int block = __builtin_ctz(hits);
        vf u = U + first_u[block], v = V + first_v[block];
        vf power = log2_opacity - v * v - u * u;
        vf passed = load(p.passed[block]);
        vm on = ge(ge(passed, broadcast(MIN_TRANSMITTANCE)), power, broadcast(LOG2_MIN_ALPHA));
        vf raw = exp2_small(power), alpha = min(raw, broadcast(MAX_ALPHA));
        vf weight = keep(on, alpha * passed);
        vf behind = select(on, passed - alpha * passed, passed);
        vf g_red = load(p.g_red[block]), g_green = load(p.g_green[block]), g_blue = load(p.g_blue[block]);
        vf g_depth = load(p.g_depth[block]);
        vf q = g_red * red + (g_green * green + (g_blue * blue + (g_depth * depth + load(p.g_alpha[block]))));
        vf left = load(p.left[block]) - weight * q;
        vf g = (behind * q - left) * reciprocal(1 - alpha) * alpha;  // dL / d log(alpha)
        g = keep(ge(on, broadcast(MAX_ALPHA), raw), g);
        store(p.passed[block], behind);
        store(p.left[block], left);
        sum_red += weight * g_red;
        sum_green += weight * g_green;
        sum_blue += weight * g_blue;
        sum_depth += weight * g_depth;
        vf gu = g * u, gv = g * v;
        sum_1 += g;
        sum_u += gu;
        sum_v += gv;
        sum_uu += gu * u;
        sum_uv += gu * v;
        sum_vv += gv * v;
        if (ABSGRAD) {
            abs_x += abs(gu);
            abs_y += abs(b * gu + c * gv);
        }
    }
    float su = sum(sum_u), sv = sum(sum_v), suu = sum(sum_uu), suv = sum(sum_uv), svv = sum(sum_vv);
    // dp/du = -2u, dp/dv = -2v octaves; du/dx = -a and so on; dx = u/a - b v/(a c), dy = v/c.
    float slope = b / c;
    record[SPLAT_X] = 2 * LN2 * a * su;
    record[SPLAT_Y] = 2 * LN2 * (b * su + c * sv);
    record[SPLAT_A] = -2 * LN2 * (suu - slope * suv) / a;
    record[SPLAT_B] = -2 * LN2 * suv / c;
    record[SPLAT_C] = -2 * LN2 * svv / c;
    record[SPLAT_LOG2_OPACITY] = LN2 * sum(sum_1);
    record[SPLAT_DEPTH] = sum(sum_depth);
    record[SPLAT_RED] = sum(sum_red);
    record[SPLAT_GREEN] = sum(sum_green);
    record[SPLAT_BLUE] = sum(sum_blue);
    record[SPLAT_HALF_WIDTH] = ABSGRAD ? 2 * LN2 * a * sum(abs_x) : 0;  // the two free places
    record[SPLAT_HALF_HEIGHT] = ABSGRAD ? 2 * LN2 * sum(abs_y) : 0;
}

}  // namespace
}  // namespace splat

using namespace splat;

static_assert((int)SPLAT_RECORD == (int)SPLAT_FIELDS, "a record has the layout of a projected row");

SPLAT_API int64_t splat_blend_backward_workspace(int32_t width, int32_t height) {
    int64_t columns = (width + SPLAT_TILE - 1) / SPLAT_TILE, rows = (height + SPLAT_TILE - 1) / SPLAT_TILE;
    return columns * rows * 3 * (int64_t)sizeof(double);
}

SPLAT_API int splat_blend_backward(int64_t n, const float* splats, int32_t width, int32_t height, const int32_t* first,
                                   const int32_t* tile_start, const int32_t* entries, const uint16_t* hits,
                                   const float* rgb, const float* alpha, const float* depth, const float* g_rgb,
                                   const float* g_alpha, const float* g_depth, float* g_splats, double* g_background,
                                   float* absgrad, float* records, void* workspace, void*) {
    int64_t columns = (width + SPLAT_TILE - 1) / SPLAT_TILE, rows = (height + SPLAT_TILE - 1) / SPLAT_TILE;
    Image image{width, height, rgb, alpha, depth, g_rgb, g_alpha, g_depth};
    double* partial = (double*)workspace;
    parallel_jobs(columns * rows, [&](int64_t tile) {
        int32_t x0 = (int32_t)(tile % columns) * SPLAT_TILE, y0 = (int32_t)(tile / columns) * SPLAT_TILE;
        PixelState p;
        double* g = partial + 3 * tile;
        g[0] = g[1] = g[2] = 0;
        load_pixels(image, x0, y0, p, g);
        for (int64_t i = tile_start[tile]; i < tile_start[tile + 1]; ++i) {
            int64_t row = entries[2 * i], slot = entries[2 * i + 1];
            uint32_t h = hits[slot];
            if (!h) continue;
            const float* s = splats + row * SPLAT_FIELDS;
            if (absgrad) walk<true>(p, s, h, (float)x0, (float)y0, records + slot * SPLAT_RECORD);
            else walk<false>(p, s, h, (float)x0, (float)y0, records + slot * SPLAT_RECORD);
        }
    });
    memset(g_background, 0, 3 * sizeof(double));
    for (int64_t tile = 0; tile < columns * rows; ++tile)
        for (int j = 0; j < 3; ++j) g_background[j] += partial[3 * tile + j];
    parallel_ranges(n, 2048, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            float s[SPLAT_RECORD] = {};
            for (int64_t slot = first[i]; slot < first[i + 1]; ++slot)
                if (hits[slot])
                    for (int j = 0; j < SPLAT_RECORD; ++j) s[j] += records[slot * SPLAT_RECORD + j];
            if (absgrad) {
                absgrad[2 * i] += s[SPLAT_HALF_WIDTH];
                absgrad[2 * i + 1] += s[SPLAT_HALF_HEIGHT];
            }
            s[SPLAT_HALF_WIDTH] = s[SPLAT_HALF_HEIGHT] = 0;
            memcpy(g_splats + i * SPLAT_FIELDS, s, sizeof s);
        }
    });
    return 0;
}
