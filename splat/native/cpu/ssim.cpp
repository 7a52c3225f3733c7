// L1 and structural similarity of an image and its target, and their gradient, in one pass over the rows.
//
// The 11x11 Gaussian window is separable. Per row: blur down the columns (11 input rows), then along the row (a padded
// scratch row), for four maps: x, y, x^2 + y^2, xy. From them, per pixel, the similarity and its derivatives by the
// blurred x, x^2 and xy; those three maps are blurred in turn, five rows later, which gives the gradient. Pixels stay
// interleaved: the neighbour k pixels to the right is k * channels floats away.
#include <string.h>

#include <cmath>

#include "../kernels.h"
#include "pool.h"
#include "simd.h"

namespace splat {
namespace {

constexpr int R = 5, TAPS = 2 * R + 1;
constexpr float C1 = 0.01f * 0.01f, C2 = 0.03f * 0.03f;

int64_t round_up(int64_t n, int64_t m) { return (n + m - 1) / m * m; }

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
    // Two sums per row, rounded up so that scratch rows start on cache lines.
    int64_t sums_bytes() const { return round_up(2 * height * (int64_t)sizeof(double), 64); }
    // Five rings of TAPS rows, four scratch rows, one row of weights, one row of zeros.
    int64_t rows_per_band() const { return 5 * TAPS + 4 + 1 + 1; }
    int64_t bytes() const {
        return bands * rows_per_band() * stride * (int64_t)sizeof(float) + sums_bytes() + 64;
    }
};

struct Window {
    float g[TAPS];
    Window() {
        double total = 0, v[TAPS];
        for (int i = 0; i < TAPS; ++i) total += v[i] = std::exp(-(i - R) * (i - R) / (2 * 1.5 * 1.5));
        for (int i = 0; i < TAPS; ++i) g[i] = (float)(v[i] / total);
    }
};
const Window window;

struct Job {
    Shape shape;
    const float* image;
    const uint8_t* target_bytes;
    const float* target_floats;
    const uint8_t* weight;
    float l1_weight, dssim_weight;
    float* gradient;
    double* l1_rows;     // per row: sum of w |x - y|
    double* dssim_rows;  // per row: sum of w (1 - ssim)
    float* scratch;

    // Row y's weights, each repeated for every channel; zeros after the end.
    void read_weights(int64_t y, float* out) const {
        const uint8_t* w = weight ? weight + y * shape.width : nullptr;
        for (int64_t i = 0, j = 0; i < shape.width; ++i)
            for (int64_t c = 0; c < shape.channels; ++c) out[j++] = w ? w[i] * (1.0f / 255) : 1.0f;
    }

    // Row y of the image and of the target as floats; pixels of weight 0 are black in both.
    void read_row(int64_t y, float* x, float* t) const {
        const int64_t begin = y * shape.row;
        memcpy(x, image + begin, shape.row * sizeof(float));
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

// Blurs x, t, x^2 + t^2 and xt down the columns.
void blur_columns_of_inputs(const float* const* xs, const float* const* ts, int64_t n, float* const* out) {
    for (int64_t i = 0; i < n; i += LANES) {
        vf mx{}, mt{}, mss{}, mxt{};
        for (int k = 0; k < TAPS; ++k) {
            const vf x = load(xs[k] + i), t = load(ts[k] + i), gx = window.g[k] * x, gt = window.g[k] * t;
            mx += gx;
            mt += gt;
            mss += gx * x + gt * t;
            mxt += gx * t;
        }
        store(out[0] + i, mx), store(out[1] + i, mt), store(out[2] + i, mss), store(out[3] + i, mxt);
    }
}

void blur_columns(const float* const* rows, int64_t n, float* out) {
    for (int64_t i = 0; i < n; i += LANES) {
        vf sum{};
        for (int k = 0; k < TAPS; ++k) sum += window.g[k] * load(rows[k] + i);
        store(out + i, sum);
    }
}

// Blurs a padded row along itself, at one vector of positions.
inline vf blur_row(const float* p, int64_t channels) {
    vf sum{};
    for (int k = 0; k < TAPS; ++k) sum += window.g[k] * load(p + (k - R) * channels);
    return sum;
}

void Job::run_band(int64_t number) const {
    const Shape& s = shape;
    float* memory = scratch + number * s.rows_per_band() * s.stride;
    memset(memory, 0, s.rows_per_band() * s.stride * sizeof(float));
    auto next_row = [&] {
        float* row = memory + s.pad;
        memory += s.stride;
        return row;
    };
    float *ring[5][TAPS], *line[4], *weights;  // rings: x, t, and the derivatives by the blurred x, x^2, xt
    for (auto& r : ring)
        for (auto& row : r) row = next_row();
    for (auto& row : line) row = next_row();
    weights = next_row();
    const float* zeros = next_row();

    const int64_t top = number * s.band, bottom = std::min(s.height, top + s.band);
    const bool need_ssim = dssim_weight != 0;
    const int64_t halo = gradient && need_ssim ? R : 0;
    const int64_t first = std::max<int64_t>(0, top - halo), last = std::min(s.height, bottom + halo);
    const float scale = 1.0f / (float)(s.height * s.row);
    int64_t read = std::max<int64_t>(0, first - R);

    for (int64_t y = first; y < bottom + halo; ++y) {
        for (; read < std::min(s.height, y + R + 1); ++read) read_row(read, ring[0][read % TAPS], ring[1][read % TAPS]);
        const float* rows[5][TAPS];
        auto gather = [&](int which, int64_t centre, int64_t begin, int64_t end) {
            for (int k = 0; k < TAPS; ++k) {
                const int64_t r = centre + k - R;
                rows[which][k] = r >= begin && r < end ? ring[which][r % TAPS] : zeros;
            }
        };
        if (y < last && need_ssim) {
            gather(0, y, 0, s.height);
            gather(1, y, 0, s.height);
            blur_columns_of_inputs(rows[0], rows[1], s.row, line);
            float *dx = ring[2][y % TAPS], *dxx = ring[3][y % TAPS], *dxt = ring[4][y % TAPS];
            read_weights(y, weights);
            vf total{};
            for (int64_t i = 0; i < s.row; i += LANES) {
                const vf mx = blur_row(line[0] + i, s.channels), mt = blur_row(line[1] + i, s.channels);
                const vf ss = blur_row(line[2] + i, s.channels), xt = blur_row(line[3] + i, s.channels);
                const vf a1 = 2 * mx * mt + C1, a2 = 2 * (xt - mx * mt) + C2;
                const vf b1 = mx * mx + mt * mt + C1, b2 = ss - mx * mx - mt * mt + C2;
                const vf inverse = 1 / (b1 * b2), ssim = a1 * a2 * inverse;
                const vf w = load(weights + i), g = w * (-dssim_weight * scale);
                total += w * (1 - ssim);
                // b2 holds -mx^2 too: its share of the derivative by mx has the other sign.
                store(dx + i, g * (2 * mt * (a2 - a1) * inverse - ssim * 2 * mx * (b2 - b1) * inverse));
                store(dxx + i, -g * ssim * b1 * inverse);
                store(dxt + i, g * 2 * a1 * inverse);
            }
            if (y >= top && y < bottom) dssim_rows[y] = sum(total);
        }
        // Lanes beyond the row's end have weight 0, so the rings hold zeros there.
        const int64_t z = y - halo;
        if (z < top || z >= bottom) continue;
        const float *x = ring[0][z % TAPS], *t = ring[1][z % TAPS];
        if (halo) {
            for (int map = 0; map < 3; ++map) {
                gather(2 + map, z, first, last);
                blur_columns(rows[2 + map], s.row, line[map]);
            }
        }
        read_weights(z, weights);
        vf total{};
        for (int64_t i = 0; i < s.row; i += LANES) {
            const vf a = load(x + i), b = load(t + i), d = a - b, w = load(weights + i);
            const vf sign = keep(gt(d, zero()), broadcast(1)) - keep(gt(zero(), d), broadcast(1));
            total += w * abs(d);
            if (!gradient) continue;
            vf g{};
            if (halo)
                g = blur_row(line[0] + i, s.channels) + 2 * a * blur_row(line[1] + i, s.channels) +
                    b * blur_row(line[2] + i, s.channels);
            g = keep(gt(w, zero()), g) + w * sign * (l1_weight * scale);
            memcpy(gradient + z * s.row + i, &g, std::min<int64_t>(LANES, s.row - i) * sizeof(float));
        }
        l1_rows[z] = sum(total);
    }
}

}  // namespace
}  // namespace splat

SPLAT_API int64_t splat_photometric_workspace(int32_t height, int32_t width, int32_t channels) {
    return splat::Shape(height, width, channels).bytes();
}

SPLAT_API int splat_photometric(int32_t height, int32_t width, int32_t channels, const float* image,
                                const uint8_t* target_bytes, const float* target_floats, const uint8_t* weight,
                                float l1_weight, float dssim_weight, double* losses, float* gradient,
                                uint8_t* workspace, int64_t workspace_bytes, void*) {
    using namespace splat;
    if (height < 1 || width < 1 || channels < 1 || channels > 64)
        return fail("an image of %d x %d pixels with %d channels cannot be compared.", width, height, channels);
    if (!image || !losses || !workspace || !target_bytes == !target_floats)
        return fail("an image, exactly one target, an output and a workspace are needed.");
    Job job{Shape(height, width, channels), image, target_bytes, target_floats, weight, l1_weight, dssim_weight,
            gradient, nullptr, nullptr, nullptr};
    if (workspace_bytes < job.shape.bytes())
        return fail("the workspace has %lld bytes; %lld are needed.", (long long)workspace_bytes,
                    (long long)job.shape.bytes());
    job.l1_rows = (double*)(((uintptr_t)workspace + 63) / 64 * 64);
    job.dssim_rows = job.l1_rows + height;
    job.scratch = (float*)((uint8_t*)job.l1_rows + job.shape.sums_bytes());
    memset(job.l1_rows, 0, 2 * height * sizeof(double));
    parallel_jobs(job.shape.bands, [&](int64_t i) { job.run_band(i); });
    losses[0] = losses[1] = 0;
    for (int64_t y = 0; y < height; ++y) losses[0] += job.l1_rows[y], losses[1] += job.dssim_rows[y];
    for (int i = 0; i < 2; ++i) losses[i] /= (double)height * job.shape.row;
    return 0;
}
