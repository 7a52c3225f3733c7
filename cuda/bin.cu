// Which tiles each ellipse touches, front to back. Rows are sorted by depth once; their (tile, row) pairs are written in
// that order and sorted, stably, by tile alone: a dozen bits instead of forty-four.
#include "library.cuh"
#include "order.cuh"
#include "shared/ellipse.h"

namespace splat {
namespace {

constexpr uint32_t NOT_DRAWN = 0xffffffffu;

__device__ TiledEllipse ellipse(const float* splats, int64_t row, const Grid& grid) {
    vf f[8];
    for (int j = 0; j < 8; ++j) f[j] = splats[row * SPLAT_FIELDS + j];
    return TiledEllipse(f, grid);
}

// How many tiles each row touches, and what it is sorted by: positive floats order like their bits.
__global__ void measure(int64_t n, const float* splats, const __grid_constant__ Grid grid, int32_t* touched,
                        uint32_t* keys, int32_t* rows) {
    const int64_t i = thread_number();
    if (i > n) return;
    int32_t sum = 0;
    if (i < n) {
        const float* s = splats + i * SPLAT_FIELDS;
        const bool drawn = s[SPLAT_HALF_WIDTH] > 0;
        keys[i] = drawn ? __float_as_uint(s[SPLAT_DEPTH]) : NOT_DRAWN;
        rows[i] = (int32_t)i;
        if (drawn) {
            const TiledEllipse e = ellipse(splats, i, grid);
            for (int32_t row = e.top; row < e.bottom; ++row) {
                int32_t first, end;
                e.columns(row, grid, first, end);
                sum += end - first;
            }
        }
    }
    touched[i] = sum;  // one more than there are rows: its sum is the total
}

// The same counts in the order of depth.
__global__ void reorder(int64_t n, const int32_t* order, const int32_t* first, int32_t* touched) {
    const int64_t i = thread_number();
    if (i <= n) touched[i] = i < n ? first[order[i] + 1] - first[order[i]] : 0;
}

__global__ void emit(int64_t n, const float* splats, const __grid_constant__ Grid grid, const int32_t* order,
                     const int32_t* first, const int32_t* place, int64_t capacity, uint32_t* tiles, int2* pairs) {
    const int64_t i = thread_number();
    if (i >= n) return;
    const int32_t row = order[i];
    int32_t slot = first[row], end_slot = first[row + 1];
    if (slot == end_slot) return;
    int64_t at = place[i];
    const TiledEllipse e = ellipse(splats, row, grid);
    for (int32_t y = e.top; y < e.bottom; ++y) {
        int32_t x, end;
        e.columns(y, grid, x, end);
        for (; x < end && at < capacity; ++x, ++at, ++slot) {
            tiles[at] = (uint32_t)(y * grid.columns + x);
            pairs[at] = make_int2(row, slot);
        }
    }
}

// How many tiles of each row there is room for, the nearest first. A place below zero is past 2^31.
__global__ void keep(int64_t n, const int32_t* order, const int32_t* place, int64_t capacity, int32_t* kept) {
    const int64_t i = thread_number();
    if (i == n) kept[n] = 0;
    if (i >= n) return;
    const int64_t room = place[i] < 0 || place[i] > capacity ? 0 : capacity - place[i];
    kept[order[i]] = (int32_t)min(room, (int64_t)(uint32_t)place[i + 1] - (int64_t)(uint32_t)place[i]);
}

// What is left of the capacity belongs to a tile past the last.
__global__ void fill_rest(int64_t capacity, const int32_t* total, uint32_t past, uint32_t* tiles, int2* pairs,
                          int32_t* overflow) {
    const int64_t i = thread_number();
    if (i == 0 && overflow) *overflow = *total < 0 ? INT32_MAX : *total > capacity ? (int32_t)(*total - capacity) : 0;
    if (i < capacity && i >= *total) {
        tiles[i] = past;
        pairs[i] = make_int2(0, 0);
    }
}

// Where the sorted tiles change.
__global__ void find_starts(int64_t capacity, int32_t tiles, const uint32_t* sorted, int32_t* tile_start) {
    const int64_t i = thread_number();
    if (i > capacity) return;
    const int64_t before = i == 0 ? -1 : (int64_t)sorted[i - 1], here = i == capacity ? tiles : (int64_t)sorted[i];
    for (int64_t tile = before + 1; tile <= min(here, (int64_t)tiles); ++tile) tile_start[tile] = (int32_t)i;
}

int bits_for(int64_t values) {
    int bits = 1;
    while (bits < 32 && (1ll << bits) < values) ++bits;
    return bits;
}

// Scratch of the count, whose `place` lives until the fill.
struct Counting {
    uint32_t *keys, *sorted_keys;
    int32_t *rows, *place;
    void* scratch;

    Counting(Carve& memory, int64_t n)
        : keys(memory.take<uint32_t>(n)), sorted_keys(memory.take<uint32_t>(n)), rows(memory.take<int32_t>(n)),
          place(memory.take<int32_t>(n + 1)), scratch(memory.rest()) {}
    static int64_t bytes(int64_t n) {
        Carve memory(nullptr);
        Counting c(memory, n);
        const int64_t sorting = sort_scratch(n, false), summing = scan_scratch(n + 1);
        return memory.bytes() + (sorting > summing ? sorting : summing);
    }
};

struct Filling {
    uint32_t *tiles, *sorted_tiles;
    int2* pairs;
    void* scratch;

    Filling(Carve& memory, int64_t capacity)
        : tiles(memory.take<uint32_t>(capacity)), sorted_tiles(memory.take<uint32_t>(capacity)),
          pairs(memory.take<int2>(capacity)), scratch(memory.rest()) {}
};

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int64_t splat_bin_workspace(int64_t n, int32_t, int32_t) { return Counting::bytes(n); }

SPLAT_API int splat_bin_count(int64_t n, const float* splats, int32_t width, int32_t height, int32_t* order,
                              int32_t* first, int64_t* total, void* workspace, void* stream) {
    if (n >= INT32_MAX) return fail("%lld Gaussians are too many for one image.", (long long)n);
    if (width > 1000000 || height > 1000000) return fail("an image of %d x %d pixels is too large.", width, height);
    const Grid grid(width, height);
    Carve memory(workspace);
    const Counting c(memory, n);
    if (launch_each("splat_bin_count", measure, n + 1, stream, n, splats, grid, first, c.keys, c.rows) ||
        scan(first, first, n + 1, c.scratch, stream) ||
        sort(n, 32, c.keys, c.sorted_keys, c.rows, order, c.scratch, stream) ||
        launch_each("splat_bin_count", reorder, n + 1, stream, n, order, first, c.place) ||
        scan(c.place, c.place, n + 1, c.scratch, stream))
        return 1;
    if (!total) return 0;
    int32_t found = 0;
    if (to_host(&found, first + n, stream)) return 1;
    *total = found;
    return found < 0 ? fail("there are too many (tile, Gaussian) pairs for one image.") : 0;
}

SPLAT_API int64_t splat_bin_fill_workspace(int64_t, int32_t, int32_t, int64_t capacity) {
    Carve memory(nullptr);
    Filling f(memory, capacity);
    return memory.bytes() + sort_scratch(capacity, true);
}

SPLAT_API int splat_bin_fill(int64_t n, const float* splats, int32_t width, int32_t height, const int32_t* order,
                             int32_t* first, int64_t capacity, int32_t* tile_start, int32_t* entries,
                             int32_t* overflow, void* workspace, void* more, void* stream) {
    if (capacity >= INT32_MAX) return fail("%lld (tile, Gaussian) pairs are too many.", (long long)capacity);
    const Grid grid(width, height);
    Carve memory(workspace), room(more);
    const Counting c(memory, n);
    const Filling f(room, capacity);
    const int32_t tiles = (int32_t)grid.tiles();
    if (overflow && (launch_each("splat_bin_fill", keep, n + 1, stream, n, order, c.place, capacity, first) ||
                     scan(first, first, n + 1, c.scratch, stream)))
        return 1;
    return launch_each("splat_bin_fill", fill_rest, capacity > 0 ? capacity : 1, stream, capacity, c.place + n,
                       (uint32_t)tiles, f.tiles, f.pairs, overflow) ||
           launch_each("splat_bin_fill", emit, n, stream, n, splats, grid, order, first, c.place, capacity, f.tiles,
                       f.pairs) ||
           sort(capacity, bits_for(tiles + 1), f.tiles, f.sorted_tiles, f.pairs, (int2*)entries, f.scratch, stream) ||
           launch_each("splat_bin_fill", find_starts, capacity + 1, stream, capacity, tiles, f.sorted_tiles, tile_start);
}
