// Gradients of compositing.
//
// The mathematics is in shared/pair.h. Moments of dL/dlog(alpha) in the whitened coordinates (u, v) are summed in registers over
// the blocks that the forward pass marked and written once, a record per (tile, Gaussian); the records of a Gaussian are
// then added in the order of its tiles and turned into gradients: no atomics, the same bits every time.
#include <string.h>

#include <algorithm>
#include <utility>

#include "blend.h"
#include "pool.h"

namespace splat {
namespace {

struct alignas(64) PixelState {
    float passed[BLOCKS][LANES], left[BLOCKS][LANES];
    float g_red[BLOCKS][LANES], g_green[BLOCKS][LANES], g_blue[BLOCKS][LANES];
    float g_depth[BLOCKS][LANES], g_alpha[BLOCKS][LANES];
};

struct Image {
    int32_t width, height;
    const float *rgb, *alpha, *depth, *g_rgb, *g_alpha, *g_depth;
};

// Returns the sum of dL/dbackground over the tile in `g_background`.
void load_pixels(const Image& image, int32_t x0, int32_t y0, PixelState& p, double* g_background) {
    vf sum_red = zero(), sum_green = zero(), sum_blue = zero();
    for (int block = 0; block < BLOCKS; ++block) {
        BlockOfPixels pixels{x0 + block % SIDE * SIDE, y0 + block / SIDE * SIDE, image.width, image.height};
        if (!pixels.touches()) continue;  // and never marked as hit
        vf red, green, blue, g_red, g_green, g_blue;
        pixels.load_rgb(image.rgb, red, green, blue);
        pixels.load_rgb(image.g_rgb, g_red, g_green, g_blue);
        vf alpha = pixels.load_plane(image.alpha);
        vf left = g_red * red + g_green * green + g_blue * blue;
        if (image.g_alpha) {
            vf g_alpha = pixels.load_plane(image.g_alpha);
            left += g_alpha * alpha;
            store(p.g_alpha[block], g_alpha);
        } else {
            store(p.g_alpha[block], zero());
        }
        if (image.g_depth) {
            vf g_depth = pixels.load_plane(image.g_depth);
            left += g_depth * pixels.load_plane(image.depth);
            store(p.g_depth[block], g_depth);
        } else {
            store(p.g_depth[block], zero());
        }
        store(p.g_red[block], g_red);
        store(p.g_green[block], g_green);
        store(p.g_blue[block], g_blue);
        store(p.left[block], left);
        store(p.passed[block], pixels.inside());
        sum_red += (1 - alpha) * g_red;  // outside the image g is 0
        sum_green += (1 - alpha) * g_green;
        sum_blue += (1 - alpha) * g_blue;
    }
    g_background[0] = sum(sum_red);
    g_background[1] = sum(sum_green);
    g_background[2] = sum(sum_blue);
}

// Extra channels, whose scratch memory takes the pixels' gradients, and where the sums of weight x gradient go.
struct Extra {
    Channels channels;
    float* records;
};

void load_channels(const Image& image, int32_t x0, int32_t y0, const Channels& channels, const float* values,
                   const float* gradients, PixelState& p) {
    for (int block = 0; block < BLOCKS; ++block) {
        BlockOfPixels pixels{x0 + block % SIDE * SIDE, y0 + block / SIDE * SIDE, image.width, image.height};
        if (!pixels.touches()) continue;
        pixels.load_channels(gradients, channels.count, channels.block(block));
        store(p.left[block], load(p.left[block]) + pixels.dot_channels(values, gradients, channels.count));
    }
}

// A record [channels] of a Gaussian with this weight in the pixels of the blocks it hits.
SPLAT_INLINE void sum_channels(const Channels& channels, uint32_t hits, const float (*weights)[LANES], float* record) {
    constexpr int AT_ONCE = 12;
    vf sums[AT_ONCE];
    channels.each([&](auto width, int k) {
        vf sum[width];
        for (auto& x : sum) x = zero();
        for (uint32_t h = hits; h; h &= h - 1) {
            const int block = __builtin_ctz(h);
            const vf weight = load(weights[block]);
            const float(*g)[LANES] = channels.block(block) + k;
            for (int j = 0; j < width; ++j) sum[j] += weight * load(g[j]);
        }
        for (int j = 0; j < width; ++j) sums[k % AT_ONCE + j] = sum[j];
        const int filled = k % AT_ONCE + width;
        if (filled < AT_ONCE && k + width < channels.count) return;
        for (int j = filled; j < AT_ONCE; ++j) sums[j] = zero();
        float t[LANES];
        store(t, sums_of_twelve(sums));
        memcpy(record + k - k % AT_ONCE, t, filled * sizeof(float));
    });
}

// ALL: gradients of depth and alpha too, not of colours alone. EXTRA: and of extra channels, of row `number`.
template <bool ALL, bool ABSGRAD, bool EXTRA>
SPLAT_INLINE void walk(PixelState& p, const float* s, uint32_t hits, float x0, float y0, float min_transmittance,
                       float* record, const Extra* extra, int64_t number, int64_t slot) {
    const vf X = lane_x(), Y = lane_y();
    const float a = s[SPLAT_A], b = s[SPLAT_B], c = s[SPLAT_C];
    const vf log2_opacity = broadcast(s[SPLAT_LOG2_OPACITY]), depth = broadcast(s[SPLAT_DEPTH]);
    const vf red = broadcast(s[SPLAT_RED]), green = broadcast(s[SPLAT_GREEN]), blue = broadcast(s[SPLAT_BLUE]);
    // u and v at every block's first pixel: lane k is block k.
    vf dx = X * SIDE + (x0 + 0.5f - s[SPLAT_X]), dy = Y * SIDE + (y0 + 0.5f - s[SPLAT_Y]);
    alignas(64) float first_u[BLOCKS], first_v[BLOCKS];
    store(first_u, a * dx + b * dy);
    store(first_v, c * dy);
    const vf U = a * X + b * Y, V = c * Y;
    vf sum[SUMS];
    for (auto& x : sum) x = zero();
    [[maybe_unused]] const uint32_t all_hits = hits;
    [[maybe_unused]] float weights[EXTRA ? BLOCKS : 1][LANES];
    do {
        int block = __builtin_ctz(hits);
        hits &= hits - 1;
        vf u = U + first_u[block], v = V + first_v[block];
        vf power = log2_opacity - v * v - u * u;
        vf passed = load(p.passed[block]);
        const Share share = take(power, ge(passed, broadcast(min_transmittance)), passed);
        const vf weight = share.weight;
        vf g_red = load(p.g_red[block]), g_green = load(p.g_green[block]), g_blue = load(p.g_blue[block]);
        vf q = g_red * red + (ALL ? g_green * green + (g_blue * blue + (load(p.g_depth[block]) * depth +
                                                                         load(p.g_alpha[block])))
                                  : g_green * green + g_blue * blue);
        if constexpr (EXTRA) {
            const float(*g)[LANES] = extra->channels.block(block);
            const float* f = extra->channels.row(number);
            for (int k = 0; k < extra->channels.count; ++k) q += load(g[k]) * f[k];
            store(weights[block], weight);
        }
        vf left = load(p.left[block]);
        const vf g = by_log_alpha(share, passed, q, left);
        store(p.passed[block], passed);
        store(p.left[block], left);
        sum[SUM_RED] += weight * g_red;
        sum[SUM_GREEN] += weight * g_green;
        sum[SUM_BLUE] += weight * g_blue;
        if (ALL) sum[SUM_DEPTH] += weight * load(p.g_depth[block]);
        vf gu = g * u, gv = g * v;
        sum[SUM_1] += g;
        sum[SUM_U] += gu;
        sum[SUM_V] += gv;
        sum[SUM_UU] += gu * u;
        sum[SUM_UV] += gu * v;
        sum[SUM_VV] += gv * v;
        if (ABSGRAD) {
            sum[SUM_ABS_X] += abs(gu);
            sum[SUM_ABS_Y] += abs(b * gu + c * gv);
        }
    } while (hits);
    store_some<SUMS>(record, sums_of_twelve(sum));
    if constexpr (EXTRA)
        sum_channels(extra->channels, all_hits, weights, extra->records + slot * extra->channels.count);
}

template <bool ALL, bool ABSGRAD, bool EXTRA>
void walk_tile(PixelState& p, const float* splats, const int32_t* entries, int64_t count, const uint16_t* hits,
               float x0, float y0, float min_transmittance, float* records, const Extra* extra) {
    constexpr int64_t AHEAD = 12;
    for (int64_t i = 0; i < count; ++i) {
        if (i + 2 * AHEAD < count) __builtin_prefetch(hits + entries[2 * (i + 2 * AHEAD) + 1]);
        if (i + AHEAD < count) {
            const float* next = splats + (int64_t)entries[2 * (i + AHEAD)] * SPLAT_FIELDS;
            __builtin_prefetch(next);
            __builtin_prefetch(next + SPLAT_FIELDS - 1);
            if constexpr (EXTRA) __builtin_prefetch(extra->channels.row(entries[2 * (i + AHEAD)]));
        }
        int64_t row = entries[2 * i], slot = entries[2 * i + 1];
        if (uint32_t h = hits[slot])
            walk<ALL, ABSGRAD, EXTRA>(p, splats + row * SPLAT_FIELDS, h, x0, y0, min_transmittance,
                                      records + slot * SPLAT_RECORD, extra, row, slot);
    }
}

// Adds up the records of each row, in the order of its tiles.
void sum_records(int64_t n, const float* splats, const int32_t* first, const uint16_t* hits, const float* records,
                 float* g_splats, float* g_centres, float* absgrad) {
    parallel_ranges(n, 2048, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            float sum[SUMS] = {};
            bool seen = false;
            for (int64_t slot = first[i]; slot < first[i + 1]; ++slot) {
                if (!hits[slot]) continue;
                seen = true;
                for (int j = 0; j < SUMS; ++j) sum[j] += records[slot * SPLAT_RECORD + j];
            }
            float* g = g_splats + i * SPLAT_FIELDS;
            if (!seen) {
                memset(g, 0, SPLAT_FIELDS * sizeof(float));
                if (g_centres) g_centres[2 * i] = g_centres[2 * i + 1] = 0;
                if (absgrad) absgrad[2 * i] = absgrad[2 * i + 1] = 0;
                continue;
            }
            const float* s = splats + i * SPLAT_FIELDS;
            row_gradient(s, sum, g);
            if (g_centres) {
                g_centres[2 * i] = std::exchange(g[SPLAT_X], 0.0f);
                g_centres[2 * i + 1] = std::exchange(g[SPLAT_Y], 0.0f);
            }
            if (absgrad) absolute_gradient(s, sum, absgrad + 2 * i);
        }
    });
}

void sum_more_records(int64_t n, const int32_t* first, const uint16_t* hits, int32_t channels, const float* records,
                      float* g_features) {
    parallel_ranges(n, 2048, [&](int64_t begin, int64_t end) {
        memset(g_features + begin * channels, 0, (end - begin) * channels * sizeof(float));
        for (int64_t i = begin; i < end; ++i)
            for (int64_t slot = first[i]; slot < first[i + 1]; ++slot) {
                if (!hits[slot]) continue;
                for (int k = 0; k < channels; ++k) g_features[i * channels + k] += records[slot * channels + k];
            }
    });
}

void sum_background(int64_t tiles, const double* partial, double* g_background) {
    memset(g_background, 0, 3 * sizeof(double));
    for (int64_t tile = 0; tile < tiles; ++tile)
        for (int j = 0; j < 3; ++j) g_background[j] += partial[3 * tile + j];
}

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int64_t splat_blend_backward_workspace(int32_t width, int32_t height) {
    int64_t columns = (width + SPLAT_TILE - 1) / SPLAT_TILE, rows = (height + SPLAT_TILE - 1) / SPLAT_TILE;
    return columns * rows * 3 * (int64_t)sizeof(double);
}

SPLAT_API int splat_blend_backward(int64_t n, const float* splats, int32_t width, int32_t height, const int32_t* first,
                                   const int32_t* tile_start, const int32_t* entries, const uint16_t* hits,
                                   float min_transmittance, const float* rgb, const float* alpha, const float* depth,
                                   const float* g_rgb, const float* g_alpha, const float* g_depth, float* g_splats,
                                   float* g_centres, double* g_background, float* absgrad, float* records, int64_t,
                                   void* workspace, void*) {
    int64_t columns = (width + SPLAT_TILE - 1) / SPLAT_TILE, rows = (height + SPLAT_TILE - 1) / SPLAT_TILE;
    Image image{width, height, rgb, alpha, depth, g_rgb, g_alpha, g_depth};
    double* partial = (double*)workspace;
    auto walk = g_alpha || g_depth ? (absgrad ? walk_tile<true, true, false> : walk_tile<true, false, false>)
                                   : (absgrad ? walk_tile<false, true, false> : walk_tile<false, false, false>);
    parallel_jobs_apart(columns * rows, [&](int64_t tile) {
        int32_t x0 = (int32_t)(tile % columns) * SPLAT_TILE, y0 = (int32_t)(tile / columns) * SPLAT_TILE;
        PixelState p;
        load_pixels(image, x0, y0, p, partial + 3 * tile);
        walk(p, splats, entries + 2 * (int64_t)tile_start[tile], tile_start[tile + 1] - tile_start[tile], hits,
             (float)x0, (float)y0, min_transmittance, records, nullptr);
    });
    sum_background(columns * rows, partial, g_background);
    sum_records(n, splats, first, hits, records, g_splats, g_centres, absgrad);
    return 0;
}

SPLAT_API int splat_blend_channels_backward(int64_t n, const float* splats, int32_t width, int32_t height,
                                            const int32_t* first, const int32_t* tile_start, const int32_t* entries,
                                            const uint16_t* hits, float min_transmittance, int32_t channels,
                                            const float* features, const float* rgb, const float* alpha,
                                            const float* depth, const float* values, const float* g_rgb,
                                            const float* g_alpha, const float* g_depth, const float* g_image,
                                            float* g_splats, float* g_centres, double* g_background, float* absgrad,
                                            float* g_features, float* records, float* more_records, int64_t,
                                            void* workspace, void*) {
    int64_t columns = (width + SPLAT_TILE - 1) / SPLAT_TILE, rows = (height + SPLAT_TILE - 1) / SPLAT_TILE;
    if (channels < 1) return fail("splat_blend_channels_backward: %d channels; there must be one at least.", channels);
    Image image{width, height, rgb, alpha, depth, g_rgb, g_alpha, g_depth};
    double* partial = (double*)workspace;
    const Channels all{channels, features, (float(*)[LANES])(partial + 3 * columns * rows)};
    auto walk = absgrad ? walk_tile<true, true, true> : walk_tile<true, false, true>;
    parallel_jobs_apart(columns * rows, [&](int64_t tile) {
        int32_t x0 = (int32_t)(tile % columns) * SPLAT_TILE, y0 = (int32_t)(tile / columns) * SPLAT_TILE;
        PixelState p;
        const Extra extra{all.tile(tile), more_records};
        load_pixels(image, x0, y0, p, partial + 3 * tile);
        load_channels(image, x0, y0, extra.channels, values, g_image, p);
        walk(p, splats, entries + 2 * (int64_t)tile_start[tile], tile_start[tile + 1] - tile_start[tile], hits,
             (float)x0, (float)y0, min_transmittance, records, &extra);
    });
    sum_background(columns * rows, partial, g_background);
    sum_records(n, splats, first, hits, records, g_splats, g_centres, absgrad);
    sum_more_records(n, first, hits, channels, more_records, g_features);
    return 0;
}
