// Which tiles each ellipse touches, front to back: sort by depth, count, then fill.
#include <string.h>

#include <cmath>
#include <utility>

#include "../kernels.h"
#include "pool.h"
#include "simd.h"

namespace splat {
namespace {

constexpr int MAX_CHUNKS = 16;  // of the depth order, counted and filled side by side

struct Grid {
    int32_t columns, rows;
    Grid(int32_t width, int32_t height)
        : columns((width + SPLAT_TILE - 1) / SPLAT_TILE), rows((height + SPLAT_TILE - 1) / SPLAT_TILE) {}
    int64_t tiles() const { return (int64_t)columns * rows; }
    int64_t cells() const { return (int64_t)(columns + 1) * rows; }  // with one past the end of each row
};

constexpr float SLACK = 0.01f;  // pixels: rounding must not lose a tile; one too many costs a little time
constexpr int KEPT_ROWS = 4;

// The tiles of an ellipse: in row top + i of tiles, columns first[i] ... last[i] - 1. Higher ones are not kept here.
struct Spans {
    uint16_t top, rows;
    uint16_t first[KEPT_ROWS], last[KEPT_ROWS];
    static constexpr uint16_t TALL = 0xffff;  // in `rows`
};

// Along one axis of `tiles` tiles, those of which a pixel's centre (at .5) lies in [low, high]: from `first` to `end` - 1.
SPLAT_INLINE void tile_range(vf low, vf high, int32_t tiles, vi& first, vi& end) {
    vf size = broadcast((float)tiles * SPLAT_TILE);
    low = clamp(low - (0.5f + SLACK), zero(), size);
    high = clamp(high + (0.5f + SLACK), zero(), size);  // one more than the last pixel, rounded down below
    first = to_int(low);
    first = (first + keep(gt(low, to_float(first)), vi{} + 1)) >> 4;  // the pixel rounded up, then its tile
    end = (to_int(high) + 15) >> 4;
}
static_assert(SPLAT_TILE == 16, "the shifts above");

// Sixteen ellipses against the grid of tiles.
struct Ellipses {
    vf x, y, a, b, c, half_width, reach, widest, inverse_a, slope;
    vi left, right, top, bottom;

    // The rows named by order[0 ... count - 1]; lanes past count repeat the first.
    Ellipses(const float* splats, const int32_t* order, int count, const Grid& grid) {
        static_assert(SPLAT_HALF_HEIGHT == 7, "the first eight fields of a row are what is needed here");
        vf f[8];
        load_eight([&](int i) { return splats + (int64_t)order[i < count ? i : 0] * SPLAT_FIELDS; }, f);
        x = f[SPLAT_X], y = f[SPLAT_Y], a = f[SPLAT_A], b = f[SPLAT_B], c = f[SPLAT_C];
        half_width = f[SPLAT_HALF_WIDTH];
        vf half_height = f[SPLAT_HALF_HEIGHT];
        tile_range(x - half_width, x + half_width, grid.columns, left, right);
        tile_range(y - half_height, y + half_height, grid.rows, top, bottom);
        // u^2 + v^2 <= reach with u = a dx + b dy, v = c dy. On the line at height dy the ellipse spans
        // dx = (-b dy +- sqrt(reach - v^2)) / a; it is widest to the right at v = -b sqrt(reach / (b^2 + c^2)).
        reach = f[SPLAT_LOG2_OPACITY] + (7.99435344f + 1e-3f);
        widest = -b * sqrt(reach / (b * b + c * c));
        inverse_a = 1 / a;
        slope = b / c;
    }

    // The columns that are touched in these rows of tiles, one row per lane.
    SPLAT_INLINE void columns(vi row, const Grid& grid, vi& first, vi& end) const {
        vf low = c * (to_float(row * (int32_t)SPLAT_TILE) + 0.5f - y), high = low + c * (float)(SPLAT_TILE - 1);
        vf to_right = clamp(widest, low, high), to_left = clamp(-widest, low, high);
        vf r = reach - to_right * to_right, l = max(reach - to_left * to_left, zero());
        vf slack = 1e-4f * half_width;
        tile_range(x + (-sqrt(l) - slope * to_left) * inverse_a - slack,
                   x + (sqrt(max(r, zero())) - slope * to_right) * inverse_a + slack, grid.columns, first, end);
        first = max(first, left);
        end = min(end, right);
        vm met = both(both(gt(bottom, row), ge(r, zero())), gt(end, first));
        first = keep(met, first);
        end = keep(met, end);
    }
};

// visit(row, first, end) for every row of tiles that a tall ellipse touches, sixteen rows at a time.
template <class Visit>
void each_row(const float* splats, int32_t row_id, const Grid& grid, Visit&& visit) {
    Ellipses e(splats, &row_id, 1, grid);
    for (int32_t top = e.top[0]; top < e.bottom[0]; top += LANES) {
        vi first, end;
        e.columns(lane_numbers() + top, grid, first, end);
        for (int i = 0; i < LANES; ++i)
            if (first[i] < end[i]) visit(top + i, first[i], end[i]);
    }
}

// Spans of the rows named by order[0 ... count - 1], and how many tiles each touches.
void find_spans(const float* splats, const int32_t* order, int count, const Grid& grid, Spans* spans,
                int32_t* touched) {
    Ellipses e(splats, order, count, grid);
    vi rows = e.bottom - e.top, total = rows - rows;
    for (int i = 0; i < count; ++i) {
        // Below the image `top` is one past the last row of tiles, and the counts there are another thread's.
        spans[i].top = (uint16_t)(rows[i] > 0 ? e.top[i] : 0);
        spans[i].rows = rows[i] > KEPT_ROWS ? Spans::TALL : (uint16_t)(rows[i] > 0 ? rows[i] : 0);
    }
    for (int r = 0; r < KEPT_ROWS; ++r) {
        vi first, end;
        e.columns(e.top + r, grid, first, end);
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
        each_row(splats, order[i], grid, [&](int32_t, int32_t first, int32_t end) { touched[i] += end - first; });
    }
}

// Stable radix sort of the drawn rows by depth; positive floats order like their bits. The rows are cut into chunks that
// threads count and move side by side; a chunk's part of a bucket comes before the next chunk's, so the order does not
// depend on how many there are.
class DepthSort {
public:
    DepthSort(int64_t n, const float* splats, int32_t* order, uint32_t* keys, uint32_t* other_keys, int32_t* other_order)
        : order(order), keys(keys), other_keys(other_keys), other_order(other_order),
          chunks((int)std::min<int64_t>({MAX_CHUNKS, thread_count(), n / 8192 + 1})) {
        parallel_jobs(chunks, [&](int64_t c) { collect(c, n, splats); });
        for (int c = 0; c < chunks; ++c) {
            drawn += size[c];
            low = std::min(low, lows[c]);
            high = std::max(high, highs[c]);
        }
    }

    // Leaves the rows in `order`, front to back. Returns how many there are.
    int64_t sort() {
        // Rows lie at the beginning of each chunk's stretch; the first pass brings them together.
        pass(0);
        for (int shift = BITS; shift < 32 && drawn && (high - low) >> shift; shift += BITS) {
            for (int c = 0; c < chunks; ++c) {
                begin[c] = drawn * c / chunks;
                size[c] = drawn * (c + 1) / chunks - begin[c];
            }
            pass(shift);
        }
        if (from() != order) memcpy(order, other_order, drawn * sizeof *order);
        return drawn;
    }

private:
    static constexpr int BITS = 11, BUCKETS = 1 << BITS;

    void collect(int64_t c, int64_t n, const float* splats) {
        int64_t at = begin[c] = n * c / chunks, end = n * (c + 1) / chunks;
        uint32_t smallest = ~0u, largest = 0;
        for (int64_t i = at; i < end; ++i) {
            const float* s = splats + i * SPLAT_FIELDS;
            uint32_t key;
            memcpy(&key, s + SPLAT_DEPTH, 4);
            const bool seen = s[SPLAT_HALF_WIDTH] > 0;
            keys[at] = key;
            order[at] = (int32_t)i;
            at += seen;
            smallest = seen ? std::min(smallest, key) : smallest;
            largest = seen ? std::max(largest, key) : largest;
        }
        size[c] = at - begin[c];
        lows[c] = smallest;
        highs[c] = largest;
    }

    void pass(int shift) {
        auto bucket = [&](uint32_t key) { return (key - low) >> shift & (BUCKETS - 1); };
        uint32_t* from_keys = swapped ? other_keys : keys;
        uint32_t* to_keys = swapped ? keys : other_keys;
        int32_t* from_order = swapped ? other_order : order;
        int32_t* to_order = swapped ? order : other_order;
        parallel_jobs(chunks, [&](int64_t c) {
            memset(start[c], 0, sizeof start[c]);
            const uint32_t* key = from_keys + begin[c];
            for (int64_t i = 0; i < size[c]; ++i) ++start[c][bucket(key[i])];
        });
        int32_t total = 0;
        for (int b = 0; b < BUCKETS; ++b)
            for (int c = 0; c < chunks; ++c) total += std::exchange(start[c][b], total);
        parallel_jobs(chunks, [&](int64_t c) {
            const uint32_t* key = from_keys + begin[c];
            const int32_t* row = from_order + begin[c];
            for (int64_t i = 0; i < size[c]; ++i) {
                int32_t to = start[c][bucket(key[i])]++;
                to_keys[to] = key[i];
                to_order[to] = row[i];
            }
        });
        swapped = !swapped;
    }

    int32_t* from() { return swapped ? other_order : order; }

    int32_t* order;
    uint32_t *keys, *other_keys;
    int32_t* other_order;
    int chunks;
    bool swapped = false;
    int64_t drawn = 0;
    uint32_t low = ~0u, high = 0;
    int64_t begin[MAX_CHUNKS], size[MAX_CHUNKS];
    uint32_t lows[MAX_CHUNKS], highs[MAX_CHUNKS];
    int32_t start[MAX_CHUNKS][BUCKETS];  // per chunk, first how many keys of a bucket, then where the next one goes
};

// Scratch that lives from count to fill.
struct Workspace {
    int64_t* drawn;      // [1]
    int64_t* chunks;     // [1]
    int32_t* cursors;    // [chunks tiles]: per chunk, first how many entries of a tile, then where the next one goes
    uint32_t *keys, *other_keys;
    int32_t* other_order;
    Spans* spans;        // [n], in the order of depth

    Workspace(void* p, int64_t n, const Grid& grid) {
        drawn = (int64_t*)p;
        chunks = drawn + 1;
        cursors = (int32_t*)(chunks + 1);
        keys = (uint32_t*)(cursors + MAX_CHUNKS * grid.cells());
        other_keys = keys + n;
        other_order = (int32_t*)(other_keys + n);
        spans = (Spans*)(other_order + n);
    }
    static int64_t bytes(int64_t n, const Grid& grid) {
        return 16 + 4 * (MAX_CHUNKS * grid.cells() + 3 * n) + n * (int64_t)sizeof(Spans);
    }
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
    if (width > 1000000 || height > 1000000) return fail("an image of %d x %d pixels is too large.", width, height);
    Grid grid(width, height);
    Workspace w(workspace, n, grid);
    int64_t m = *w.drawn = DepthSort(n, splats, order, w.keys, w.other_keys, w.other_order).sort();
    int64_t chunks = *w.chunks = std::min<int64_t>({MAX_CHUNKS, thread_count(), m / 1024 + 1});
    int64_t tiles = grid.tiles(), stride = grid.columns + 1;
    memset(first, 0, (n + 1) * sizeof *first);
    parallel_jobs(chunks, [&](int64_t chunk) {
        // Differences along each row of tiles: one up where a span begins, one down behind its end.
        int32_t* change = w.cursors + chunk * grid.cells();
        memset(change, 0, grid.cells() * sizeof *change);
        int64_t end = m * (chunk + 1) / chunks;
        for (int64_t i = m * chunk / chunks; i < end; i += LANES) {
            int lanes = (int)std::min<int64_t>(LANES, end - i);
            for (int64_t next = i + 2 * LANES; next < std::min(end, i + 3 * LANES); ++next) {
                const float* s = splats + (int64_t)order[next] * SPLAT_FIELDS;
                __builtin_prefetch(s);
                __builtin_prefetch(s + SPLAT_FIELDS - 1);
            }
            int32_t touched[LANES];
            find_spans(splats, order + i, lanes, grid, w.spans + i, touched);
            for (int lane = 0; lane < lanes; ++lane) {
                const Spans& s = w.spans[i + lane];
                first[order[i + lane]] = touched[lane];
                if (s.rows == Spans::TALL) {
                    each_row(splats, order[i + lane], grid, [&](int32_t row, int32_t from, int32_t to) {
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
        }
        for (int64_t row = 0; row < grid.rows; ++row)
            for (int64_t column = 1; column < stride; ++column)
                change[row * stride + column] += change[row * stride + column - 1];
    });
    int64_t sum = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) {
        tile_start[tile] = (int32_t)sum;
        int64_t cell = tile / grid.columns * stride + tile % grid.columns;
        for (int64_t chunk = 0; chunk < chunks; ++chunk)
            sum += std::exchange(w.cursors[chunk * grid.cells() + cell], (int32_t)sum);
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
    int64_t m = *w.drawn, chunks = *w.chunks, tiles = grid.tiles(), stride = grid.columns + 1;
    if (capacity < tile_start[tiles])
        return fail("room for %lld (tile, Gaussian) pairs, where %d are needed.", (long long)capacity, tile_start[tiles]);
    parallel_jobs(chunks, [&](int64_t chunk) {
        int32_t* cursors = w.cursors + chunk * grid.cells();
        for (int64_t i = m * chunk / chunks; i < m * (chunk + 1) / chunks; ++i) {
            int32_t row = order[i], slot = first[row];
            auto emit = [&](int32_t tile_row, int32_t from, int32_t to) {
                int32_t* cursor = cursors + tile_row * stride;
                for (int32_t column = from; column < to; ++column) {
                    int32_t* e = entries + 2 * (int64_t)cursor[column]++;
                    e[0] = row;
                    e[1] = slot++;
                }
            };
            const Spans& s = w.spans[i];
            if (s.rows == Spans::TALL) each_row(splats, row, grid, emit);
            else
                for (int r = 0; r < s.rows; ++r) emit(s.top + r, s.first[r], s.last[r]);
        }
    });
    return 0;
}
