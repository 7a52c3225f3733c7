// Which tiles each ellipse touches, front to back: find them row by row, sort the rows by depth, count, then fill.
#include <string.h>

#include <cmath>
#include <utility>

#include "pool.h"
#include "simd.h"
#include "../shared/ellipse.h"

namespace splat {
namespace {

constexpr int MAX_CHUNKS = 16;  // of the depth order, counted and filled side by side

constexpr int KEPT_ROWS = 4;
constexpr int64_t AHEAD = 16;  // rows whose spans are fetched early: in the order of depth they lie anywhere

// The tiles of an ellipse: in row top + i of tiles, columns first[i] ... last[i] - 1. Higher ones are not kept here.
struct Spans {
    uint16_t top, rows;
    uint16_t first[KEPT_ROWS], last[KEPT_ROWS];
    static constexpr uint16_t TALL = 0xffff;  // in `rows`
};

// Sixteen ellipses of `count` rows from `first_row` on; lanes past count repeat the first.
SPLAT_INLINE TiledEllipse ellipses(const float* splats, int64_t first_row, int count, const Grid& grid) {
    vf f[8];
    load_eight([&](int i) { return splats + (first_row + (i < count ? i : 0)) * SPLAT_FIELDS; }, f);
    return TiledEllipse(f, grid);
}

// visit(row, first, end) for every row of tiles that a tall ellipse touches, sixteen rows at a time.
template <class Visit>
void each_row(const float* splats, int32_t row_id, const Grid& grid, Visit&& visit) {
    const TiledEllipse e = ellipses(splats, row_id, 1, grid);
    for (int32_t top = e.top[0]; top < e.bottom[0]; top += LANES) {
        vi first, end;
        e.columns(lane_numbers() + top, grid, first, end);
        for (int i = 0; i < LANES; ++i)
            if (first[i] < end[i]) visit(top + i, first[i], end[i]);
    }
}

// Spans of `count` rows from `first_row` on, and how many tiles each touches: none where it is not drawn.
void find_spans(const float* splats, int64_t first_row, int count, const Grid& grid, Spans* spans, int32_t* touched) {
    const TiledEllipse e = ellipses(splats, first_row, count, grid);
    const vm drawn = gt(e.half_width, zero());
    vi rows = keep(drawn, e.bottom - e.top), total = rows - rows;
    for (int i = 0; i < count; ++i) {
        // Below the image `top` is one past the last row of tiles, and the counts there are another thread's.
        spans[i].top = (uint16_t)(rows[i] > 0 ? e.top[i] : 0);
        spans[i].rows = rows[i] > KEPT_ROWS ? Spans::TALL : (uint16_t)(rows[i] > 0 ? rows[i] : 0);
    }
    for (int r = 0; r < KEPT_ROWS; ++r) {
        vi first, end;
        e.columns(e.top + r, grid, first, end);
        first = keep(drawn, first);
        end = keep(drawn, end);
        total += end - first;
        for (int i = 0; i < count; ++i) {
            spans[i].first[r] = (uint16_t)first[i];
            spans[i].last[r] = (uint16_t)end[i];
        }
    }
    for (int i = 0; i < count; ++i) {
        touched[i] = total[i];
        if (spans[i].rows != Spans::TALL) continue;
        touched[i] = 0;
        each_row(splats, (int32_t)(first_row + i), grid,
                 [&](int32_t, int32_t first, int32_t end) { touched[i] += end - first; });
    }
}

// Stable radix sort of the drawn rows by depth; positive floats order like their bits.
//
// The rows are cut into chunks, which threads read side by side, and the depths into as many ranges of about the same
// number of rows; every chunk hands each range its rows, in their order, and then each range is sorted by one thread in
// memory that no other touches. (Threads that scatter into common buckets spend their time passing cache lines around.)
class DepthSort {
public:
    DepthSort(int64_t n, const float* splats, int32_t* order, uint32_t* keys, uint32_t* other_keys, int32_t* other_order)
        : n(n), splats(splats), here{keys, order}, there{other_keys, other_order},
          chunks((int)std::min<int64_t>({MAX_CHUNKS, thread_count(), n / 8192 + 1})) {}

    // Leaves the rows in `order`, front to back. Returns how many there are.
    int64_t sort() {
        parallel_jobs(chunks, [&](int64_t c) { collect(c); });
        int64_t drawn = 0;
        for (int c = 0; c < chunks; ++c) {
            drawn += size[c];
            low = std::min(low, lows[c]);
            high = std::max(high, highs[c]);
        }
        if (drawn == 0) return 0;
        if (chunks == 1) {
            radix_sort(here, there, drawn, false);
            return drawn;
        }
        parallel_jobs(chunks, [&](int64_t c) { count(c); });
        choose_ranges(drawn);
        parallel_jobs(chunks, [&](int64_t c) { hand_out(c); });
        parallel_jobs(chunks, [&](int64_t r) {
            const int64_t at = range_start[r];
            radix_sort(there.from(at), here.from(at), range_start[r + 1] - at, true);
        });
        return drawn;
    }

private:
    static constexpr int BITS = 11, BUCKETS = 1 << BITS;

    struct Rows {
        uint32_t* keys;
        int32_t* order;
        Rows from(int64_t at) const { return {keys + at, order + at}; }
    };

    void collect(int64_t c) {
        int64_t at = begin[c] = n * c / chunks, end = n * (c + 1) / chunks;
        uint32_t smallest = ~0u, largest = 0;
        for (int64_t i = at; i < end; ++i) {
            const float* s = splats + i * SPLAT_FIELDS;
            uint32_t key;
            memcpy(&key, s + SPLAT_DEPTH, 4);
            const bool seen = s[SPLAT_HALF_WIDTH] > 0;
            here.keys[at] = key;
            here.order[at] = (int32_t)i;
            at += seen;
            smallest = seen ? std::min(smallest, key) : smallest;
            largest = seen ? std::max(largest, key) : largest;
        }
        size[c] = at - begin[c];
        lows[c] = smallest;
        highs[c] = largest;
    }

    // The highest bits of a key's distance from the lowest.
    uint32_t bucket(uint32_t key) const {
        int bits = 32 - __builtin_clz((high - low) | 1);
        return (key - low) >> std::max(0, bits - BITS);
    }

    void count(int64_t c) {
        memset(counts[c], 0, sizeof counts[c]);
        const uint32_t* key = here.keys + begin[c];
        for (int64_t i = 0; i < size[c]; ++i) ++counts[c][bucket(key[i])];
    }

    void choose_ranges(int64_t drawn) {
        int64_t total = 0, sums[MAX_CHUNKS][MAX_CHUNKS] = {};  // of rows that a chunk has for a range
        int range = 0;
        for (int b = 0; b < BUCKETS; ++b) {
            while (range + 1 < chunks && total >= drawn * (range + 1) / chunks) ++range;
            range_of[b] = (uint8_t)range;
            for (int c = 0; c < chunks; ++c) {
                sums[range][c] += counts[c][b];
                total += counts[c][b];
            }
        }
        int64_t at = 0;
        for (int r = 0; r < chunks; ++r) {
            range_start[r] = at;
            for (int c = 0; c < chunks; ++c) {
                place[c][r] = at;
                at += sums[r][c];
            }
        }
        range_start[chunks] = at;
    }

    void hand_out(int64_t c) {
        const Rows from = here.from(begin[c]);
        int64_t to[MAX_CHUNKS];
        memcpy(to, place[c], sizeof to);
        for (int64_t i = 0; i < size[c]; ++i) {
            const int64_t at = to[range_of[bucket(from.keys[i])]]++;
            there.keys[at] = from.keys[i];
            there.order[at] = from.order[i];
        }
    }

    // By one thread, from `a` with `b` as scratch; the result is in b if so wanted, else in a.
    static void radix_sort(Rows a, Rows b, int64_t m, bool into_b) {
        uint32_t low = ~0u, high = 0;
        for (int64_t i = 0; i < m; ++i) low = std::min(low, a.keys[i]), high = std::max(high, a.keys[i]);
        bool in_b = false;
        for (int shift = 0; shift < 32 && m && (high - low) >> shift; shift += BITS) {
            const Rows from = in_b ? b : a, to = in_b ? a : b;
            int32_t start[BUCKETS] = {}, total = 0;
            auto bucket = [&](uint32_t key) { return (key - low) >> shift & (BUCKETS - 1); };
            for (int64_t i = 0; i < m; ++i) ++start[bucket(from.keys[i])];
            for (auto& s : start) total += std::exchange(s, total);
            for (int64_t i = 0; i < m; ++i) {
                const int32_t at = start[bucket(from.keys[i])]++;
                to.keys[at] = from.keys[i];
                to.order[at] = from.order[i];
            }
            in_b = !in_b;
        }
        if (in_b != into_b) memcpy(into_b ? b.order : a.order, into_b ? a.order : b.order, m * sizeof *a.order);
    }

    int64_t n;
    const float* splats;
    Rows here, there;
    int chunks;
    uint32_t low = ~0u, high = 0;
    int64_t begin[MAX_CHUNKS], size[MAX_CHUNKS], range_start[MAX_CHUNKS + 1], place[MAX_CHUNKS][MAX_CHUNKS];
    uint32_t lows[MAX_CHUNKS], highs[MAX_CHUNKS];
    int32_t counts[MAX_CHUNKS][BUCKETS];
    uint8_t range_of[BUCKETS];
};

// Scratch that lives from count to fill.
struct Workspace {
    int64_t* drawn;      // [1]
    int64_t* chunks;     // [1]
    int32_t* tile_start; // [tiles + 1]
    int32_t* cursors;    // [chunks cells]: per chunk, first how many entries of a tile, then where the next one goes
    uint32_t *keys, *other_keys;
    int32_t* other_order;
    Spans* spans;        // [n]

    Workspace(void* p, int64_t n, const Grid& grid) {
        drawn = (int64_t*)p;
        chunks = drawn + 1;
        tile_start = (int32_t*)(chunks + 1);
        cursors = tile_start + grid.tiles() + 1;
        keys = (uint32_t*)(cursors + MAX_CHUNKS * grid.cells());
        other_keys = keys + n;
        other_order = (int32_t*)(other_keys + n);
        spans = (Spans*)(other_order + n);
    }
    static int64_t bytes(int64_t n, const Grid& grid) {
        return 16 + 4 * (grid.tiles() + 1 + MAX_CHUNKS * grid.cells() + 3 * n) + n * (int64_t)sizeof(Spans);
    }
};

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int64_t splat_bin_workspace(int64_t n, int32_t width, int32_t height) {
    return Workspace::bytes(n, Grid(width, height));
}

SPLAT_API int64_t splat_bin_fill_workspace(int64_t, int32_t, int32_t, int64_t) { return 0; }

SPLAT_API int splat_bin_count(int64_t n, const float* splats, int32_t width, int32_t height, int32_t* order,
                              int32_t* first, int64_t* total, void* workspace, void*) {
    if (n >= INT32_MAX) return fail("%lld Gaussians are too many for one image.", (long long)n);
    if (width > 1000000 || height > 1000000) return fail("an image of %d x %d pixels is too large.", width, height);
    Grid grid(width, height);
    Workspace w(workspace, n, grid);
    int64_t m = *w.drawn = DepthSort(n, splats, order, w.keys, w.other_keys, w.other_order).sort();
    int64_t chunks = *w.chunks = std::min<int64_t>({MAX_CHUNKS, thread_count(), m / 1024 + 1});
    int64_t tiles = grid.tiles(), stride = grid.columns + 1;
    parallel_ranges(n, 1024, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i += LANES)
            find_spans(splats, i, (int)std::min<int64_t>(LANES, end - i), grid, w.spans + i, first + i);
    });
    parallel_jobs(chunks, [&](int64_t chunk) {
        // Differences along each row of tiles: one up where a span begins, one down behind its end.
        int32_t* change = w.cursors + chunk * grid.cells();
        memset(change, 0, grid.cells() * sizeof *change);
        const int64_t end = m * (chunk + 1) / chunks;
        for (int64_t i = m * chunk / chunks; i < end; ++i) {
            if (i + AHEAD < end) __builtin_prefetch(w.spans + order[i + AHEAD]);
            const Spans& s = w.spans[order[i]];
            if (s.rows == Spans::TALL) {
                each_row(splats, order[i], grid, [&](int32_t row, int32_t from, int32_t to) {
                    ++change[row * stride + from];
                    --change[row * stride + to];
                });
                continue;
            }
            int32_t* at = change + s.top * stride;
            for (int r = 0; r < KEPT_ROWS; ++r) {
                int32_t* row = at + (r < s.rows ? r : 0) * stride;  // rows past the last are empty: 0 to 0
                ++row[s.first[r]];
                --row[s.last[r]];
            }
        }
        for (int64_t row = 0; row < grid.rows; ++row)
            for (int64_t column = 1; column < stride; ++column)
                change[row * stride + column] += change[row * stride + column - 1];
    });
    int64_t sum = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) {
        w.tile_start[tile] = (int32_t)sum;
        int64_t cell = tile / grid.columns * stride + tile % grid.columns;
        for (int64_t chunk = 0; chunk < chunks; ++chunk)
            sum += std::exchange(w.cursors[chunk * grid.cells() + cell], (int32_t)sum);
        if (sum > INT32_MAX) return fail("%lld and more (tile, Gaussian) pairs are too many for one image.", (long long)sum);
    }
    w.tile_start[tiles] = (int32_t)sum;
    if (total) *total = sum;
    int32_t slot = 0;
    for (int64_t i = 0; i < n; ++i) slot += std::exchange(first[i], slot);
    first[n] = slot;
    return 0;
}

SPLAT_API int splat_bin_fill(int64_t n, const float* splats, int32_t width, int32_t height, const int32_t* order,
                             int32_t* first, int64_t capacity, int32_t* tile_start, int32_t* entries,
                             int32_t* overflow, void* workspace, void*, void*) {
    Grid grid(width, height);
    Workspace w(workspace, n, grid);
    int64_t m = *w.drawn, chunks = *w.chunks, tiles = grid.tiles(), stride = grid.columns + 1;
    if (capacity < w.tile_start[tiles])
        return fail("room for %lld (tile, Gaussian) pairs, where %d are needed.", (long long)capacity,
                    w.tile_start[tiles]);
    memcpy(tile_start, w.tile_start, (tiles + 1) * sizeof *tile_start);
    if (overflow) *overflow = 0;
    parallel_jobs(chunks, [&](int64_t chunk) {
        int32_t* cursors = w.cursors + chunk * grid.cells();
        const int64_t end = m * (chunk + 1) / chunks;
        for (int64_t i = m * chunk / chunks; i < end; ++i) {
            if (i + AHEAD < end) {
                __builtin_prefetch(w.spans + order[i + AHEAD]);
                __builtin_prefetch(first + order[i + AHEAD]);
            }
            int32_t row = order[i], slot = first[row];
            auto emit = [&](int32_t tile_row, int32_t from, int32_t to) {
                int32_t* cursor = cursors + tile_row * stride;
                for (int32_t column = from; column < to; ++column) {
                    int32_t* e = entries + 2 * (int64_t)cursor[column]++;
                    e[0] = row;
                    e[1] = slot++;
                }
            };
            const Spans& s = w.spans[row];
            if (s.rows == Spans::TALL) each_row(splats, row, grid, emit);
            else
                for (int r = 0; r < s.rows; ++r) emit(s.top + r, s.first[r], s.last[r]);
        }
    });
    return 0;
}
