// Compositing, front to back.
//
// Per tile, Gaussians come in batches: for sixteen of them at a time, find which blocks their ellipses reach and append
// them to those blocks' lists; then walk each block's list with the block's state in registers, until its pixels are
// saturated.
#include <string.h>

#include <algorithm>

#include "blend.h"
#include "pool.h"

namespace splat {
namespace {

constexpr int BATCH = 128;

struct State {
    float passed[BLOCKS][LANES];  // transmittance
    float red[BLOCKS][LANES], green[BLOCKS][LANES], blue[BLOCKS][LANES], depth[BLOCKS][LANES];
};

struct alignas(64) Batch {
    float row[BATCH][LANES];  // projected rows, each padded to a vector
    uint16_t hits[BATCH];
    float u[BLOCKS][BATCH], v[SIDE][BATCH];  // of each row at the first pixel of a block, a strip of blocks
    int32_t count[BLOCKS];
    int32_t index[BLOCKS][BATCH + LANES];  // which rows reach a block; compressing overruns by a vector
};

// Distributes `count` entries over the lists of the blocks in `alive`. `ahead` more entries follow them.
SPLAT_INLINE void distribute(Batch& batch, const float* splats, const int32_t* entries, int count, int64_t ahead,
                             float x0, float y0, uint32_t alive) {
    memset(batch.count, 0, sizeof batch.count);
    const vi lane = lane_numbers();
    for (int begin = 0; begin < count; begin += LANES) {
        int lanes = std::min(LANES, count - begin);
        for (int64_t i = begin + 2 * LANES; i < std::min<int64_t>(begin + 3 * LANES, count + ahead); ++i) {
            const float* s = splats + (int64_t)entries[2 * i] * SPLAT_FIELDS;
            __builtin_prefetch(s);
            __builtin_prefetch(s + SPLAT_FIELDS - 1);
        }
        for (int i = 0; i < LANES; ++i) {
            const float* s = splats + (int64_t)entries[2 * (begin + (i < lanes ? i : 0))] * SPLAT_FIELDS;
            store(batch.row[begin + i], load_some<SPLAT_FIELDS>(s));
            batch.hits[begin + i] = 0;
        }
        vf f[8];
        load_eight([&](int i) { return batch.row[begin + i]; }, f);
        vf x = f[SPLAT_X], y = f[SPLAT_Y], a = f[SPLAT_A], b = f[SPLAT_B], c = f[SPLAT_C];
        vf reach = f[SPLAT_LOG2_OPACITY] - (LOG2_MIN_ALPHA - 1e-3f);
        vm valid = first_lanes(lanes);
        // See bin.cpp: at height v the ellipse spans (-slope v +- sqrt(reach - v^2)) / a; it is widest to the right at
        // v = widest and to the left at -widest.
        vf inverse_a = reciprocal(a), slope = b * reciprocal(c);
        vf widest = -b * rough_rsqrt(b * b + c * c) * (reach * rough_rsqrt(reach));
        vf dx = (x0 + 0.5f) - x, dy = (y0 + 0.5f) - y;
        vf v = c * dy, tall = c * (SIDE - 1), step = c * SIDE;
        for (int strip = 0; strip < SIDE; ++strip, dy += SIDE, v += step) {
            if (!(alive >> (strip * SIDE) & 15)) continue;
            vf to_right = clamp(widest, v, v + tall), to_left = clamp(-widest, v, v + tall);
            vf r = reach - to_right * to_right, l = max(reach - to_left * to_left, broadcast(1e-20f));
            vm met = both(valid, ge(r, zero()));
            r = max(r, broadcast(1e-20f));
            vf right = (r * rough_rsqrt(r) - slope * to_right) * inverse_a;
            vf left = (-l * rough_rsqrt(l) - slope * to_left) * inverse_a;
            vf slack = 0.005f + 2e-4f * (right - left);
            right += slack;
            left -= slack;
            store(batch.v[strip] + begin, v);
            vf u = a * dx + b * dy;
            for (int column = 0; column < SIDE; ++column, u += a * SIDE) {
                int block = strip * SIDE + column;
                if (!(alive >> block & 1)) continue;
                vf at = dx + (float)(column * SIDE);
                vm reaches = both(met, both(ge(right, at), ge(at + (SIDE - 1), left)));
                int32_t n = batch.count[block];
                compress(batch.index[block] + n, reaches, lane + begin);
                store(batch.u[block] + begin, u);
                batch.count[block] = n + __builtin_popcount(bits(reaches));
            }
        }
    }
}

// What a block takes of the rows of a batch, where there are extra channels.
struct Taken {
    int32_t count;
    int32_t row[BATCH];
    float weight[BATCH][LANES];
};

// Composites a block's list. Returns how many entries it looked at before no pixel could take more; all: there may be
// more to take.
template <bool HITS, bool EXTRA>
SPLAT_INLINE int walk(Batch& batch, State& state, int block, float min_transmittance, Taken* taken) {
    vf passed = load(state.passed[block]), red = load(state.red[block]), green = load(state.green[block]);
    vf blue = load(state.blue[block]), depth = load(state.depth[block]);
    const vf X = lane_x(), Y = lane_y();
    const vf least = broadcast(min_transmittance);
    const uint16_t bit = (uint16_t)(1u << block);
    const float *u0 = batch.u[block], *v0 = batch.v[block / SIDE];
    int n = batch.count[block], i = 0;
    for (; i < n; ++i) {
        int32_t at = batch.index[block][i];
        const float* g = batch.row[at];
        vf u = g[SPLAT_A] * X + (g[SPLAT_B] * Y + u0[at]);
        vf v = g[SPLAT_C] * Y + v0[at];
        vf p = g[SPLAT_LOG2_OPACITY] - v * v - u * u;
        vm live = ge(passed, least);
        if (!any(live)) break;
        const Share share = take(p, live, passed);
        const vf weight = share.weight;
        if (HITS) batch.hits[at] |= any(share.on) ? bit : 0;
        red += weight * g[SPLAT_RED];
        green += weight * g[SPLAT_GREEN];
        blue += weight * g[SPLAT_BLUE];
        depth += weight * g[SPLAT_DEPTH];
        if constexpr (EXTRA) {
            if (any(share.on)) {
                store(taken->weight[taken->count], weight);
                taken->row[taken->count++] = at;
            }
        }
    }
    store(state.passed[block], passed);
    store(state.red[block], red);
    store(state.green[block], green);
    store(state.blue[block], blue);
    store(state.depth[block], depth);
    return i;
}

// Adds a block's share of a batch to its channels.
void add_channels(const Channels& extra, const int32_t* entries, const Taken& taken, int block) {
    float(*sums)[LANES] = extra.block(block);
    extra.each([&](auto width, int k) {
        vf sum[width];
        for (int j = 0; j < width; ++j) sum[j] = load(sums[k + j]);
        for (int i = 0; i < taken.count; ++i) {
            const vf weight = load(taken.weight[i]);
            const float* f = extra.row(entries[2 * taken.row[i]]) + k;
            for (int j = 0; j < width; ++j) sum[j] += weight * f[j];
        }
        for (int j = 0; j < width; ++j) store(sums[k + j], sum[j]);
    });
}

template <bool HITS, bool EXTRA>
void blend_tile(const float* splats, int32_t width, int32_t height, int32_t x0, int32_t y0, const int32_t* entries,
                int64_t count, const float* background, float min_transmittance, float* rgb, float* alpha,
                float* depth, uint16_t* hits, int64_t& evaluated, const Channels* extra, float* image) {
    State state;
    Batch batch;
    std::conditional_t<EXTRA, Taken, char> taken;
    if constexpr (EXTRA) memset(extra->lanes, 0, Channels::bytes(1, extra->count));
    uint32_t alive = 0;
    for (int block = 0; block < BLOCKS; ++block) {
        for (auto plane : {state.red, state.green, state.blue, state.depth}) store(plane[block], zero());
        BlockOfPixels pixels{x0 + block % SIDE * SIDE, y0 + block / SIDE * SIDE, width, height};
        if (!pixels.touches()) continue;
        alive |= 1u << block;
        store(state.passed[block], pixels.inside());
    }
    for (int64_t begin = 0; begin < count; begin += BATCH) {
        int n = (int)std::min<int64_t>(BATCH, count - begin);
        if (alive) {
            if constexpr (EXTRA)
                for (int i = 0; i < n; ++i) __builtin_prefetch(extra->row(entries[2 * (begin + i)]));
            distribute(batch, splats, entries + 2 * begin, n, count - begin - n, (float)x0, (float)y0, alive);
            for (uint32_t b = alive; b; b &= b - 1) {
                int block = __builtin_ctz(b);
                int walked;
                if constexpr (EXTRA) {
                    taken.count = 0;
                    walked = walk<HITS, true>(batch, state, block, min_transmittance, &taken);
                    add_channels(*extra, entries + 2 * begin, taken, block);
                } else {
                    walked = walk<HITS, false>(batch, state, block, min_transmittance, nullptr);
                }
                evaluated += walked * LANES;
                if (walked < batch.count[block]) alive &= ~(1u << block);
            }
            if (HITS)
                for (int i = 0; i < n; ++i) hits[entries[2 * (begin + i) + 1]] = batch.hits[i];
        } else if (HITS) {
            for (int i = 0; i < n; ++i) hits[entries[2 * (begin + i) + 1]] = 0;
        } else {
            break;
        }
    }
    for (int block = 0; block < BLOCKS; ++block) {
        BlockOfPixels pixels{x0 + block % SIDE * SIDE, y0 + block / SIDE * SIDE, width, height};
        if (!pixels.touches()) continue;
        vf passed = load(state.passed[block]);
        pixels.store_rgb(rgb, load(state.red[block]) + passed * background[0],
                         load(state.green[block]) + passed * background[1],
                         load(state.blue[block]) + passed * background[2]);
        pixels.store_plane(alpha, 1 - passed);
        pixels.store_plane(depth, load(state.depth[block]));
        if constexpr (EXTRA) pixels.store_channels(image, extra->count, extra->block(block));
    }
}

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int splat_blend_forward(const float* splats, int32_t width, int32_t height, const int32_t* tile_start,
                                  const int32_t* entries, const float* background, float min_transmittance, float* rgb,
                                  float* alpha, float* depth, uint16_t* hits, int64_t* evaluated, void*) {
    int64_t columns = (width + SPLAT_TILE - 1) / SPLAT_TILE, rows = (height + SPLAT_TILE - 1) / SPLAT_TILE;
    parallel_jobs_apart(columns * rows, [&](int64_t tile) {
        int32_t x0 = (int32_t)(tile % columns) * SPLAT_TILE, y0 = (int32_t)(tile / columns) * SPLAT_TILE;
        int64_t pairs = 0;
        auto draw = hits ? blend_tile<true, false> : blend_tile<false, false>;
        draw(splats, width, height, x0, y0, entries + 2 * (int64_t)tile_start[tile],
             tile_start[tile + 1] - tile_start[tile], background, min_transmittance, rgb, alpha, depth, hits, pairs,
             nullptr, nullptr);
        if (evaluated) evaluated[tile] = pairs;
    });
    return 0;
}

SPLAT_API int64_t splat_blend_channels_workspace(int32_t width, int32_t height, int32_t channels) {
    int64_t columns = (width + SPLAT_TILE - 1) / SPLAT_TILE, rows = (height + SPLAT_TILE - 1) / SPLAT_TILE;
    return splat_blend_backward_workspace(width, height) + Channels::bytes(columns * rows, channels);
}

SPLAT_API int splat_blend_channels_forward(const float* splats, int32_t width, int32_t height,
                                           const int32_t* tile_start, const int32_t* entries, const float* background,
                                           float min_transmittance, int32_t channels, const float* features,
                                           float* rgb, float* alpha, float* depth, float* image, uint16_t* hits,
                                           void* workspace, void*) {
    int64_t columns = (width + SPLAT_TILE - 1) / SPLAT_TILE, rows = (height + SPLAT_TILE - 1) / SPLAT_TILE;
    if (channels < 1) return fail("splat_blend_channels_forward: %d channels; there must be one at least.", channels);
    const Channels all{channels, features, (float(*)[LANES])workspace};
    parallel_jobs_apart(columns * rows, [&](int64_t tile) {
        int32_t x0 = (int32_t)(tile % columns) * SPLAT_TILE, y0 = (int32_t)(tile / columns) * SPLAT_TILE;
        int64_t pairs = 0;
        const Channels extra = all.tile(tile);
        auto draw = hits ? blend_tile<true, true> : blend_tile<false, true>;
        draw(splats, width, height, x0, y0, entries + 2 * (int64_t)tile_start[tile],
             tile_start[tile + 1] - tile_start[tile], background, min_transmittance, rgb, alpha, depth, hits, pairs,
             &extra, image);
    });
    return 0;
}
