// L1 and structural similarity of an image and its target, and their gradient, in one pass over the rows.
//
// The 11x11 Gaussian window is separable. Four maps, x, t, x^2 + t^2 and xt, are blurred along each row as it is read, and
// down the columns when the last of the rows is there. From them, per pixel, come the similarity and its derivatives by
// the blurred x, x^2 and xt; those three maps are blurred in turn, five rows later, which gives the gradient. Rows are
// finished in pairs: eleven of the twelve that a pair needs are needed by both, and loading them is most of the work.
// Pixels stay interleaved: the neighbour k pixels to the right is k * channels floats away.
#include <string.h>

#include <cmath>

#include "pool.h"
#include "simd.h"
#include "../shared/similarity.h"

namespace splat {
namespace {

constexpr int KEPT = TAPS + 1;  // rows of a ring: those that a pair of rows needs
int64_t round_up(int64_t n, int64_t m) { return (n + m - 1) / m * m; }

// What a row adds to the losses and to the gradient of the affine map, added up over rows in their order.
struct RowSums {
    double l1;       // of w |x - t|
    double dssim;    // of w (1 - ssim)
    double squares;  // of (clamped x - t)^2 where w > 0
    double counted;  // values of which w > 0
    double affine[12];
};

struct Shape {
    int64_t height, width, channels;
    int64_t row;     // floats in a row of the image
    int64_t pad;     // zeros on either side of a scratch row: R pixels
    int64_t stride;  // floats of a scratch row
    int64_t band, bands;

    // Enough bands to keep every thread busy, and not so many that the 2R rows each of them repeats would matter.
    Shape(int64_t h, int64_t w, int64_t c) : height(h), width(w), channels(c), row(w * c) {
        pad = round_up(R * c, LANES);
        stride = round_up(row, LANES) + 2 * pad;
        band = std::max<int64_t>(48, (h + 2 * thread_count() - 1) / (2 * thread_count()));
        bands = (h + band - 1) / band;
    }
    // Sums per row, rounded up so that scratch rows start on cache lines.
    int64_t sums_bytes() const { return round_up(height * (int64_t)sizeof(RowSums), 64); }
    // Nine rings of rows, two scratch rows of products, six of derivatives, two rows of weights, one of zeros.
    int64_t rows_per_band() const { return 9 * KEPT + 2 + 6 + 2 + 1; }
    int64_t bytes() const {
        return bands * rows_per_band() * stride * (int64_t)sizeof(float) + sums_bytes() + 64;
    }
};

// out = A in + b per pixel of three values.
void apply_affine(const float* m, const float* in, int64_t pixels, float* out) {
    int64_t i = 0;
    for (; i + LANES <= pixels; i += LANES) {
        vf r, g, b, x, y, z;
        split_triples(load(in + 3 * i), load(in + 3 * i + LANES), load(in + 3 * i + 2 * LANES), r, g, b);
        join_triples(m[0] * r + m[1] * g + m[2] * b + m[3], m[4] * r + m[5] * g + m[6] * b + m[7],
                     m[8] * r + m[9] * g + m[10] * b + m[11], x, y, z);
        store(out + 3 * i, x), store(out + 3 * i + LANES, y), store(out + 3 * i + 2 * LANES, z);
    }
    for (; i < pixels; ++i) {
        const float* p = in + 3 * i;
        for (int j = 0; j < 3; ++j) out[3 * i + j] = m[4 * j] * p[0] + m[4 * j + 1] * p[1] + m[4 * j + 2] * p[2] + m[4 * j + 3];
    }
}

// `gradient` by A in + b becomes the gradient by in, = A^T gradient; that of the map is added to sums [3 4].
void affine_backward(const float* m, const float* in, int64_t pixels, float* gradient, double* sums) {
    vf total[12] = {};
    int64_t i = 0;
    for (; i + LANES <= pixels; i += LANES) {
        float* at = gradient + 3 * i;
        vf c[3], g[3], x, y, z;
        split_triples(load(in + 3 * i), load(in + 3 * i + LANES), load(in + 3 * i + 2 * LANES), c[0], c[1], c[2]);
        split_triples(load(at), load(at + LANES), load(at + 2 * LANES), g[0], g[1], g[2]);
        for (int j = 0; j < 3; ++j) {
            for (int k = 0; k < 3; ++k) total[4 * j + k] += g[j] * c[k];
            total[4 * j + 3] += g[j];
        }
        join_triples(m[0] * g[0] + m[4] * g[1] + m[8] * g[2], m[1] * g[0] + m[5] * g[1] + m[9] * g[2],
                     m[2] * g[0] + m[6] * g[1] + m[10] * g[2], x, y, z);
        store(at, x), store(at + LANES, y), store(at + 2 * LANES, z);
    }
    for (int j = 0; j < 12; ++j) sums[j] = sum(total[j]);
    for (; i < pixels; ++i) {
        float* at = gradient + 3 * i;
        const float g[3] = {at[0], at[1], at[2]};
        for (int j = 0; j < 3; ++j) {
            for (int k = 0; k < 3; ++k) sums[4 * j + k] += (double)g[j] * in[3 * i + k];
            sums[4 * j + 3] += g[j];
            at[j] = m[j] * g[0] + m[4 + j] * g[1] + m[8 + j] * g[2];
        }
    }
}

struct Job {
    Shape shape;
    const float* image;
    const uint8_t* target_bytes;
    const float* target_floats;
    const uint8_t* weight;
    float l1_weight, dssim_weight;
    const float* affine;
    float* gradient;
    RowSums* sums;  // [height]
    float* scratch;

    // Row y's weights, each repeated for every channel; zeros after the end.
    void read_weights(int64_t y, float* out) const {
        if (!weight) {
            for (int64_t i = 0; i < shape.row; ++i) out[i] = 1;
            return;
        }
        const uint8_t* w = weight + y * shape.width;
        for (int64_t i = 0, j = 0; i < shape.width; ++i)
            for (int64_t c = 0; c < shape.channels; ++c) out[j++] = w[i] * (1.0f / 255);
    }

    // Row y of the image and of the target as floats; pixels of weight 0 are black in both.
    void read_row(int64_t y, float* x, float* t) const {
        const int64_t begin = y * shape.row;
        if (affine) apply_affine(affine, image + begin, shape.width, x);
        else memcpy(x, image + begin, shape.row * sizeof(float));
        if (target_bytes)
            for (int64_t i = 0; i < shape.row; ++i) t[i] = target_bytes[begin + i] * (1.0f / 255);
        else
            memcpy(t, target_floats + begin, shape.row * sizeof(float));
        if (weight)
            for (int64_t i = 0; i < shape.width; ++i)
                if (!weight[y * shape.width + i])
                    for (int64_t j = i * shape.channels; j < (i + 1) * shape.channels; ++j) x[j] = t[j] = 0;
    }

    void run_band(int64_t number) const;
};

struct Taps {
    vf w[R + 1];
    Taps() {
        for (int k = 0; k <= R; ++k) w[k] = broadcast(window(k));
    }

    // Along a padded row, at one vector of positions.
    SPLAT_INLINE vf along(const float* p, int64_t channels) const {
        vf sum = w[0] * load(p);
        for (int k = 1; k <= R; ++k) sum += w[k] * (load(p - k * channels) + load(p + k * channels));
        return sum;
    }
    // Down the columns of KEPT rows, for the row after the fifth and for the one below it.
    SPLAT_INLINE void down(const float* const* rows, int64_t i, vf& upper, vf& lower) const {
        vf v = load(rows[0] + i);
        upper = w[R] * v;
        v = load(rows[1] + i);
        upper += w[R - 1] * v;
        lower = w[R] * v;
        for (int k = 2; k < TAPS; ++k) {
            v = load(rows[k] + i);
            upper += w[k < R ? R - k : k - R] * v;
            lower += w[k - 1 < R ? R - (k - 1) : k - 1 - R] * v;
        }
        lower += w[R] * load(rows[TAPS] + i);
    }
};

void Job::run_band(int64_t number) const {
    const Shape& s = shape;
    float* memory = scratch + number * s.rows_per_band() * s.stride;
    // A row is zero around its pixels: on either side, and up to a whole vector.
    auto next_row = [&](bool is_zero) {
        float* row = memory + s.pad;
        if (is_zero) memset(memory, 0, s.stride * sizeof(float));
        else {
            memset(memory, 0, s.pad * sizeof(float));
            memset(row + s.row, 0, (s.stride - s.pad - s.row) * sizeof(float));
        }
        memory += s.stride;
        return row;
    };
    // Rings: x, t; the blurred rows of x, t, x^2 + t^2, xt; those of the derivatives by the blurred x, x^2, xt.
    enum { X, T, BLURRED, BY = BLURRED + 4, RINGS = BY + 3 };
    float *ring[RINGS][KEPT], *products[2], *derivatives[2][3], *weights[2];
    for (auto& r : ring)
        for (auto& row : r) row = next_row(false);
    for (auto& row : products) row = next_row(false);
    for (auto& pair : derivatives)
        for (auto& row : pair) row = next_row(false);
    for (auto& row : weights) row = next_row(false);
    const float* zeros = next_row(true);
    const Taps taps;

    const int64_t top = number * s.band, bottom = std::min(s.height, top + s.band);
    const bool need_ssim = dssim_weight != 0;
    const int64_t halo = gradient && need_ssim ? R : 0;
    const int64_t first = std::max<int64_t>(0, top - halo), last = std::min(s.height, bottom + halo);
    const float scale = 1.0f / (float)(s.height * s.row);
    const int64_t channels = s.channels;

    const float* rows[4][KEPT];
    auto gather = [&](int which, int from, int64_t centre, int64_t begin, int64_t end) {
        for (int k = 0; k < KEPT; ++k) {
            const int64_t r = centre + k - R;
            rows[which][k] = r >= begin && r < end ? ring[from][r % KEPT] : zeros;
        }
    };
    auto read = [&](int64_t y) {
        const int at = (int)(y % KEPT);
        const float *x = ring[X][at], *t = ring[T][at];
        read_row(y, ring[X][at], ring[T][at]);
        if (!need_ssim) return;
        for (int64_t i = 0; i < s.row; i += LANES) {
            const vf a = load(x + i), b = load(t + i);
            store(products[0] + i, a * a + b * b);
            store(products[1] + i, a * b);
        }
        const float* maps[4] = {x, t, products[0], products[1]};
        for (int m = 0; m < 4; ++m)
            for (int64_t i = 0; i < s.row; i += LANES)
                store(ring[BLURRED + m][at] + i, taps.along(maps[m] + i, channels));
    };
    auto compare = [&](int64_t y) {  // rows y and y + 1
        const bool has_lower = y + 1 < last;
        for (int m = 0; m < 4; ++m) gather(m, BLURRED + m, y, 0, s.height);
        read_weights(y, weights[0]);
        if (has_lower) read_weights(y + 1, weights[1]);
        const float* lower_weights = has_lower ? weights[1] : zeros;
        vf upper_total{}, lower_total{};
        auto& d = derivatives;
        for (int64_t i = 0; i < s.row; i += LANES) {
            vf upper[4], lower[4];
            for (int m = 0; m < 4; ++m) taps.down(rows[m], i, upper[m], lower[m]);
            const float c = dssim_weight * scale;
            vf by_upper[3], by_lower[3];
            upper_total += dissimilarity(upper, load(weights[0] + i), c, by_upper);
            lower_total += dissimilarity(lower, load(lower_weights + i), c, by_lower);
            for (int m = 0; m < 3; ++m) {
                store(d[0][m] + i, by_upper[m]);
                store(d[1][m] + i, by_lower[m]);
            }
        }
        if (y >= top && y < bottom) sums[y].dssim = sum(upper_total);
        if (y + 1 >= top && y + 1 < bottom) sums[y + 1].dssim = sum(lower_total);
        if (!halo) return;
        for (int r = 0; r <= has_lower; ++r)
            for (int m = 0; m < 3; ++m)
                for (int64_t i = 0; i < s.row; i += LANES)
                    store(ring[BY + m][(y + r) % KEPT] + i, taps.along(d[r][m] + i, channels));
    };
    auto finish = [&](int64_t z) {  // rows z and z + 1, as far as they are in the band
        if (halo)
            for (int m = 0; m < 3; ++m) gather(m, BY + m, z, first, last);
        for (int r = 0; r < 2; ++r)
            if (z + r >= top && z + r < bottom) read_weights(z + r, weights[r]);
        vf l1[2] = {}, squares[2] = {}, counted[2] = {};
        for (int64_t i = 0; i < s.row; i += LANES) {
            vf by[3][2] = {};
            if (halo)
                for (int m = 0; m < 3; ++m) taps.down(rows[m], i, by[m][0], by[m][1]);
            for (int r = 0; r < 2; ++r) {
                if (z + r < top || z + r >= bottom) continue;
                const int64_t at = (z + r) % KEPT;
                const vf a = load(ring[X][at] + i), b = load(ring[T][at] + i), d = a - b, w = load(weights[r] + i);
                const vf seen = clamp(a, zero(), broadcast(1)) - b;
                const vm counts = gt(w, zero());
                squares[r] += keep(counts, seen * seen);
                counted[r] += keep(counts, broadcast(1));
                l1[r] += w * abs(d);
                if (!gradient) continue;
                const vf g = value_gradient({by[0][r], by[1][r], by[2][r]}, a, b, w, l1_weight * scale);
                float* out = gradient + (z + r) * s.row + i;
                if (i + LANES <= s.row) store(out, g);
                else memcpy(out, &g, (s.row - i) * sizeof(float));
            }
        }
        for (int r = 0; r < 2; ++r) {
            const int64_t y = z + r;
            if (y < top || y >= bottom) continue;
            sums[y].l1 = sum(l1[r]), sums[y].squares = sum(squares[r]), sums[y].counted = sum(counted[r]);
            if (affine && gradient)
                affine_backward(affine, image + y * s.row, s.width, gradient + y * s.row, sums[y].affine);
        }
    };

    int64_t next = std::max<int64_t>(0, first - R);  // row to be read
    for (int64_t y = first; y < bottom + halo; y += 2) {
        for (; next < std::min(s.height, y + R + 2); ++next) read(next);
        if (y < last && need_ssim) compare(y);
        if (y + 1 - halo >= top) finish(y - halo);
    }
}

}  // namespace
}  // namespace splat

SPLAT_API int64_t splat_photometric_workspace(int32_t height, int32_t width, int32_t channels) {
    return splat::Shape(height, width, channels).bytes();
}

SPLAT_API int splat_photometric(int32_t height, int32_t width, int32_t channels, const float* image,
                                const uint8_t* target_bytes, const float* target_floats, const uint8_t* weight,
                                float l1_weight, float dssim_weight, const float* affine, double* losses,
                                float* gradient, double* g_affine, uint8_t* workspace, int64_t workspace_bytes, void*) {
    using namespace splat;
    if (height < 1 || width < 1 || channels < 1 || channels > 64)
        return fail("an image of %d x %d pixels with %d channels cannot be compared.", width, height, channels);
    if (!image || !losses || !workspace || !target_bytes == !target_floats)
        return fail("an image, exactly one target, an output and a workspace are needed.");
    if (affine && channels != 3) return fail("an affine map of colours needs 3 channels, not %d.", channels);
    if (g_affine && !(affine && gradient)) return fail("the map's gradient needs the map and the image's gradient.");
    Job job{Shape(height, width, channels), image, target_bytes, target_floats, weight, l1_weight, dssim_weight,
            affine, gradient, nullptr, nullptr};
    if (workspace_bytes < job.shape.bytes())
        return fail("the workspace has %lld bytes; %lld are needed.", (long long)workspace_bytes,
                    (long long)job.shape.bytes());
    job.sums = (RowSums*)(((uintptr_t)workspace + 63) / 64 * 64);
    job.scratch = (float*)((uint8_t*)job.sums + job.shape.sums_bytes());
    memset((void*)job.sums, 0, height * sizeof(RowSums));
    parallel_jobs(job.shape.bands, [&](int64_t i) { job.run_band(i); });
    RowSums total{};
    for (int64_t y = 0; y < height; ++y) {
        const RowSums& row = job.sums[y];
        total.l1 += row.l1, total.dssim += row.dssim, total.squares += row.squares, total.counted += row.counted;
        for (int j = 0; j < 12; ++j) total.affine[j] += row.affine[j];
    }
    const double values = (double)height * job.shape.row;
    losses[0] = total.l1 / values, losses[1] = total.dssim / values;
    losses[2] = total.counted > 0 ? total.squares / total.counted : 0;
    if (g_affine) memcpy(g_affine, total.affine, sizeof total.affine);
    return 0;
}
