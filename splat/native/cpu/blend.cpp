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

enum { A, B, C, LOG2_OPACITY, RED, GREEN, BLUE, DEPTH, COLUMNS };

struct alignas(64) Batch {
    float row[BATCH][COLUMNS];
    int32_t slot[BATCH];
    uint16_t hits[BATCH];
    // Per block: which rows reach it, and u, v of each at the block's first pixel. Compressing overruns by a vector.
    int32_t count[BLOCKS];
    int32_t index[BLOCKS][BATCH + LANES];
    float u[BLOCKS][BATCH + LANES], v[BLOCKS][BATCH + LANES];
};

// Distributes `count` entries over the lists of the blocks in `alive`.
SPLAT_INLINE void distribute(Batch& batch, const float* splats, const int32_t* entries, int count, float x0, float y0,
                             uint32_t alive) {
    memset(batch.count, 0, sizeof batch.count);
    const vi lane{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int begin = 0; begin < count; begin += LANES) {
        int lanes = std::min(LANES, count - begin);
        alignas(64) float t[6][LANES];
        for (int i = 0; i < LANES; ++i) {
            const int32_t* e = entries + 2 * (begin + (i < lanes ? i : 0));
            const float* s = splats + (int64_t)e[0] * SPLAT_FIELDS;
            t[0][i] = s[SPLAT_X], t[1][i] = s[SPLAT_Y];
            t[2][i] = s[SPLAT_A], t[3][i] = s[SPLAT_B], t[4][i] = s[SPLAT_C], t[5][i] = s[SPLAT_LOG2_OPACITY];
            float* r = batch.row[begin + i];
            r[A] = s[SPLAT_A], r[B] = s[SPLAT_B], r[C] = s[SPLAT_C], r[LOG2_OPACITY] = s[SPLAT_LOG2_OPACITY];
            r[RED] = s[SPLAT_RED], r[GREEN] = s[SPLAT_GREEN], r[BLUE] = s[SPLAT_BLUE], r[DEPTH] = s[SPLAT_DEPTH];
            batch.slot[begin + i] = e[1];
            batch.hits[begin + i] = 0;
        }
        vf x = load(t[0]), y = load(t[1]), a = load(t[2]), b = load(t[3]), c = load(t[4]);
        vf reach = load(t[5]) - (LOG2_MIN_ALPHA - 1e-3f);
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
            vf u = a * dx + b * dy;
            for (int column = 0; column < SIDE; ++column, u += a * SIDE) {
                int block = strip * SIDE + column;
                if (!(alive >> block & 1)) continue;
                vf at = dx + (float)(column * SIDE);
                vm reaches = both(met, both(ge(right, at), ge(at + (SIDE - 1), left)));
                int32_t n = batch.count[block];
                compress(batch.index[block] + n, reaches, lane + begin);
                compress(batch.u[block] + n, reaches, u);
                compress(batch.v[block] + n, reaches, v);
                batch.count[block] = n + __builtin_popcount(bits(reaches));
            }
        }
    }
}

// Composites a block's list. Returns how many entries it looked at before no pixel could take more; all: there may be
// more to take.
template <bool HITS>
SPLAT_INLINE int walk(Batch& batch, State& state, int block) {
    vf passed = load(state.passed[block]), red = load(state.red[block]), green = load(state.green[block]);
    vf blue = load(state.blue[block]), depth = load(state.depth[block]);
    const vf X = lane_x(), Y = lane_y();
    const vf faintest = broadcast(LOG2_MIN_ALPHA), least = broadcast(MIN_TRANSMITTANCE);
    const uint16_t bit = (uint16_t)(1u << block);
    int n = batch.count[block], i = 0;
    for (; i < n; ++i) {
        int32_t at = batch.index[block][i];
        const float* g = batch.row[at];
        vf u = g[A] * X + (g[B] * Y + batch.u[block][i]);
        vf v = g[C] * Y + batch.v[block][i];
        vf p = g[LOG2_OPACITY] - v * v - u * u;
        vm live = ge(passed, least);
        if (!any(live)) break;
        vm on = ge(live, p, faintest);
        if (HITS) batch.hits[at] |= any(on) ? bit : 0;
        vf alpha = min(exp2_small(p), broadcast(MAX_ALPHA));
        vf weight = keep(on, alpha * passed);
        passed = less_share(on, passed, alpha);
        red += weight * g[RED];
        green += weight * g[GREEN];
        blue += weight * g[BLUE];
        depth += weight * g[DEPTH];
    }
    store(state.passed[block], passed);
    store(state.red[block], red);
    store(state.green[block], green);
    store(state.blue[block], blue);
    store(state.depth[block], depth);
    return i;
}

template <bool HITS>
void blend_tile(const float* splats, int32_t width, int32_t height, int32_t x0, int32_t y0, const int32_t* entries,
                int64_t count, const float* background, float* rgb, float* alpha, float* depth, uint16_t* hits,
                int64_t& evaluated) {
    State state;
    Batch batch;
    memset(&state, 0, sizeof state);
    uint32_t alive = 0;
    for (int block = 0; block < BLOCKS; ++block) {
        BlockOfPixels pixels{x0 + block % SIDE * SIDE, y0 + block / SIDE * SIDE, width, height};
        if (pixels.columns() <= 0 || pixels.rows() <= 0) continue;
        alive |= 1u << block;
        pixels.inside(state.passed[block]);
    }
    for (int64_t begin = 0; begin < count; begin += BATCH) {
        int n = (int)std::min<int64_t>(BATCH, count - begin);
        if (alive) {
            distribute(batch, splats, entries + 2 * begin, n, (float)x0, (float)y0, alive);
            for (uint32_t b = alive; b; b &= b - 1) {
                int block = __builtin_ctz(b);
                int walked = walk<HITS>(batch, state, block);
                evaluated += walked * LANES;
                if (walked < batch.count[block]) alive &= ~(1u << block);
            }
            if (HITS)
                for (int i = 0; i < n; ++i) hits[batch.slot[i]] = batch.hits[i];
        } else if (HITS) {
            for (int i = 0; i < n; ++i) hits[entries[2 * (begin + i) + 1]] = 0;
        } else {
            break;
        }
    }
    for (int block = 0; block < BLOCKS; ++block) {
        BlockOfPixels pixels{x0 + block % SIDE * SIDE, y0 + block / SIDE * SIDE, width, height};
        if (pixels.columns() <= 0 || pixels.rows() <= 0) continue;
        pixels.each([&](int lane, int64_t pixel) {
            float passed = state.passed[block][lane];
            rgb[3 * pixel] = state.red[block][lane] + passed * background[0];
            rgb[3 * pixel + 1] = state.green[block][lane] + passed * background[1];
            rgb[3 * pixel + 2] = state.blue[block][lane] + passed * background[2];
            alpha[pixel] = 1 - passed;
            depth[pixel] = state.depth[block][lane];
        });
    }
}

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int splat_blend_forward(const float* splats, int32_t width, int32_t height, const int32_t* tile_start,
                                  const int32_t* entries, const float* background, float* rgb, float* alpha,
                                  float* depth, uint16_t* hits, int64_t* evaluated, void*) {
    int64_t columns = (width + SPLAT_TILE - 1) / SPLAT_TILE, rows = (height + SPLAT_TILE - 1) / SPLAT_TILE;
    parallel_jobs(columns * rows, [&](int64_t tile) {
        int32_t x0 = (int32_t)(tile % columns) * SPLAT_TILE, y0 = (int32_t)(tile / columns) * SPLAT_TILE;
        int64_t pairs = 0;
        auto draw = hits ? blend_tile<true> : blend_tile<false>;
        draw(splats, width, height, x0, y0, entries + 2 * (int64_t)tile_start[tile],
             tile_start[tile + 1] - tile_start[tile], background, rgb, alpha, depth, hits, pairs);
        if (evaluated) evaluated[tile] = pairs;
    });
    return 0;
}
