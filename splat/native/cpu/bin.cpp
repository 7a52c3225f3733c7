// Which tiles each ellipse touches, front to back: sort by depth, count, then fill.
#include <string.h>

#include <cmath>
#include <utility>

#include "../kernels.h"
#include "pool.h"

namespace splat {
namespace {

constexpr int MAX_CHUNKS = 16;  // of the depth order, counted and filled side by side

struct Grid {
    int32_t columns, rows;
    Grid(int32_t width, int32_t height)
        : columns((width + SPLAT_TILE - 1) / SPLAT_TILE), rows((height + SPLAT_TILE - 1) / SPLAT_TILE) {}
    int64_t tiles() const { return (int64_t)columns * rows; }
};

// The tiles [first, second) along one axis of which a pixel's centre lies in [low, high]; pixel centres are at .5.
inline std::pair<int32_t, int32_t> tile_range(float low, float high, int32_t tiles) {
    constexpr float SLACK = 0.01f;  // rounding must not lose a tile; one too many costs a little time
    float end = (float)tiles * SPLAT_TILE;
    float a = std::ceil(low - 0.5f - SLACK), b = std::floor(high - 0.5f + SLACK);
    if (!(b >= 0) || !(a < end) || !(a <= b)) return {0, 0};
    int32_t first = a > 0 ? (int32_t)a / SPLAT_TILE : 0;
    int32_t last = b < end ? (int32_t)b / SPLAT_TILE : tiles - 1;
    return {first, last + 1};
}

// Calls visit(tile) for every tile the ellipse of a row touches, by rows and columns.
template <class Visit>
inline void each_tile(const float* s, const Grid& grid, Visit&& visit) {
    float half_width = s[SPLAT_HALF_WIDTH], half_height = s[SPLAT_HALF_HEIGHT];
    if (!(half_width > 0)) return;
    float x = s[SPLAT_X], y = s[SPLAT_Y];
    auto [left, right] = tile_range(x - half_width, x + half_width, grid.columns);
    auto [top, bottom] = tile_range(y - half_height, y + half_height, grid.rows);
    if (right - left <= 1 || bottom - top <= 1) {  // the box is exact
        for (int32_t row = top; row < bottom; ++row)
            for (int32_t column = left; column < right; ++column) visit((int64_t)row * grid.columns + column);
        return;
    }
    // u^2 + v^2 <= reach with u = a dx + b dy, v = c dy. On the line at height dy the ellipse spans
    // dx = (-b dy +- sqrt(reach - v^2)) / a; it is widest to the right at v = -b sqrt(reach / (b^2 + c^2)).
    float a = s[SPLAT_A], b = s[SPLAT_B], c = s[SPLAT_C];
    float reach = s[SPLAT_LOG2_OPACITY] + 7.99435344f + 1e-3f;
    float widest = -b * std::sqrt(reach / (b * b + c * c)), inverse_a = 1 / a, slope = b / c;
    float slack = 1e-4f * half_width;
    for (int32_t row = top; row < bottom; ++row) {
        float low = c * (row * SPLAT_TILE + 0.5f - y), high = low + c * (SPLAT_TILE - 1);
        float to_right = std::min(std::max(widest, low), high), to_left = std::min(std::max(-widest, low), high);
        float r = reach - to_right * to_right, l = reach - to_left * to_left;
        if (r < 0) continue;
        auto [first, last] = tile_range(x + (-std::sqrt(std::max(l, 0.0f)) - slope * to_left) * inverse_a - slack,
                                        x + (std::sqrt(r) - slope * to_right) * inverse_a + slack, grid.columns);
        for (int32_t column = std::max(first, left); column < std::min(last, right); ++column)
            visit((int64_t)row * grid.columns + column);
    }
}

// Stable radix sort of drawn rows by depth; positive floats order like their bits. Returns how many are drawn.
int64_t sort_by_depth(int64_t n, const float* splats, int32_t* order, uint32_t* keys, uint32_t* other_keys,
                      int32_t* other_order) {
    uint32_t low = ~0u, high = 0;
    int64_t m = 0;
    for (int64_t i = 0; i < n; ++i) {
        const float* s = splats + i * SPLAT_FIELDS;
        if (!(s[SPLAT_HALF_WIDTH] > 0)) continue;
        uint32_t key;
        memcpy(&key, s + SPLAT_DEPTH, 4);
        keys[m] = key;
        order[m++] = (int32_t)i;
        low = std::min(low, key);
        high = std::max(high, key);
    }
    constexpr int BITS = 11, BUCKETS = 1 << BITS;
    int32_t* from = order;
    for (int shift = 0; m > 1 && shift < 32 && (high - low) >> shift; shift += BITS) {
        int64_t start[BUCKETS] = {};
        for (int64_t i = 0; i < m; ++i) ++start[(keys[i] - low) >> shift & (BUCKETS - 1)];
        int64_t total = 0;
        for (auto& s : start) total += std::exchange(s, total);
        for (int64_t i = 0; i < m; ++i) {
            int64_t to = start[(keys[i] - low) >> shift & (BUCKETS - 1)]++;
            other_keys[to] = keys[i];
            other_order[to] = from[i];
        }
        std::swap(keys, other_keys);
        std::swap(from, other_order);
    }
    if (from != order) memcpy(order, from, m * sizeof *order);
    return m;
}

// Scratch that lives from count to fill.
struct Workspace {
    int64_t* drawn;      // [1]
    int64_t* chunks;     // [1]
    int32_t* cursors;    // [chunks tiles]: per chunk, first how many entries of a tile, then where the next one goes
    uint32_t *keys, *other_keys;
    int32_t* other_order;

    Workspace(void* p, int64_t n, const Grid& grid) {
        drawn = (int64_t*)p;
        chunks = drawn + 1;
        cursors = (int32_t*)(chunks + 1);
        keys = (uint32_t*)(cursors + MAX_CHUNKS * grid.tiles());
        other_keys = keys + n;
        other_order = (int32_t*)(other_keys + n);
    }
    static int64_t bytes(int64_t n, const Grid& grid) { return 16 + 4 * (MAX_CHUNKS * grid.tiles() + 3 * n); }
};

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int64_t splat_bin_workspace(int64_t n, int32_t width, int32_t height) {
    return Workspace::bytes(n, Grid(width, height));
}

SPLAT_API int splat_bin_count(int64_t n, const float* splats, int32_t width, int32_t height, int32_t* order,
                              int32_t* first, int32_t* tile_start, int64_t* total, void* workspace, void*) {
    if (n >= INT32_MAX) return fail("%lld Gaussians are too many for one image.", (long long)n);
    Grid grid(width, height);
    Workspace w(workspace, n, grid);
    int64_t m = *w.drawn = sort_by_depth(n, splats, order, w.keys, w.other_keys, w.other_order);
    int64_t chunks = *w.chunks = std::min<int64_t>({MAX_CHUNKS, thread_count(), m / 1024 + 1});
    int64_t tiles = grid.tiles();
    memset(first, 0, (n + 1) * sizeof *first);
    parallel_jobs(chunks, [&](int64_t chunk) {
        int32_t* cursors = w.cursors + chunk * tiles;
        memset(cursors, 0, tiles * sizeof *cursors);
        for (int64_t i = m * chunk / chunks; i < m * (chunk + 1) / chunks; ++i) {
            int32_t touched = 0;
            each_tile(splats + (int64_t)order[i] * SPLAT_FIELDS, grid, [&](int64_t tile) {
                ++cursors[tile];
                ++touched;
            });
            first[order[i]] = touched;
        }
    });
    int64_t sum = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) {
        tile_start[tile] = (int32_t)sum;
        for (int64_t chunk = 0; chunk < chunks; ++chunk)
            sum += std::exchange(w.cursors[chunk * tiles + tile], (int32_t)sum);
        if (sum > INT32_MAX) return fail("%lld and more (tile, Gaussian) pairs are too many for one image.", (long long)sum);
    }
    tile_start[tiles] = (int32_t)sum;
    *total = sum;
    int32_t slot = 0;
    for (int64_t i = 0; i < n; ++i) slot += std::exchange(first[i], slot);
    first[n] = slot;
    return 0;
}

SPLAT_API int splat_bin_fill(int64_t n, const float* splats, int32_t width, int32_t height, const int32_t* order,
                             const int32_t* first, const int32_t* tile_start, int64_t capacity, int32_t* entries,
                             void* workspace, void*) {
    Grid grid(width, height);
    Workspace w(workspace, n, grid);
    int64_t m = *w.drawn, chunks = *w.chunks, tiles = grid.tiles();
    if (capacity < tile_start[tiles])
        return fail("room for %lld (tile, Gaussian) pairs, where %d are needed.", (long long)capacity, tile_start[tiles]);
    parallel_jobs(chunks, [&](int64_t chunk) {
        int32_t* cursors = w.cursors + chunk * tiles;
        for (int64_t i = m * chunk / chunks; i < m * (chunk + 1) / chunks; ++i) {
            int32_t row = order[i], slot = first[row];
            each_tile(splats + (int64_t)row * SPLAT_FIELDS, grid, [&](int64_t tile) {
                int32_t* e = entries + 2 * (int64_t)cursors[tile]++;
                e[0] = row;
                e[1] = slot++;
            });
        }
    });
    return 0;
}
