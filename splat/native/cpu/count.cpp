// The slow counter: compositing again in double precision, one pixel at a time, with its own culling, to count pairs and
// to check the fast kernel's image on loads that are too large for the torch reference.
#include <math.h>
#include <string.h>

#include <chrono>
#include <vector>

#include "../kernels.h"
#include "pool.h"

static constexpr int32_t STRETCH = 16;

SPLAT_API int splat_count_pairs(const float* splats, int32_t width, int32_t height, int64_t drawn, const int32_t* order,
                                const float* background, float min_transmittance, float* rgb, float* margin,
                                int64_t* pairs, void*) {
    std::vector<int64_t> per_row(height);  // scratch of a measuring tool; the kernels proper allocate nothing
    splat::parallel_jobs(height, [&](int64_t y) {
        std::vector<std::vector<int32_t>> near(width / STRETCH + 1);  // by stretches of the row
        for (int64_t i = 0; i < drawn; ++i) {
            const float* s = splats + (int64_t)order[i] * SPLAT_FIELDS;
            if (!(fabs(y + 0.5 - s[SPLAT_Y]) <= 1.01 * s[SPLAT_HALF_HEIGHT] + 0.1)) continue;
            double reach = 1.01 * s[SPLAT_HALF_WIDTH] + 0.1;
            int32_t from = (int32_t)(fmin(fmax(s[SPLAT_X] - reach, 0), width) / STRETCH);
            int32_t to = (int32_t)(fmin(fmax(s[SPLAT_X] + reach, 0), width) / STRETCH);
            for (int32_t at = from; at <= to; ++at) near[at].push_back(order[i]);
        }
        for (int32_t x = 0; x < width; ++x) {
            double passed = 1, sum[3] = {0, 0, 0}, closest = 1;
            for (int32_t row : near[x / STRETCH]) {
                const float* s = splats + (int64_t)row * SPLAT_FIELDS;
                double dx = x + 0.5 - s[SPLAT_X], dy = y + 0.5 - s[SPLAT_Y];
                double u = s[SPLAT_A] * dx + s[SPLAT_B] * dy, v = s[SPLAT_C] * dy;
                double alpha = exp2(s[SPLAT_LOG2_OPACITY] - u * u - v * v);
                closest = fmin(closest, fabs(alpha * 255 - 1));
                if (alpha < 1.0 / 255) continue;
                closest = fmin(closest, fabs(passed / min_transmittance - 1));
                if (passed < min_transmittance) break;
                alpha = fmin(alpha, 0.999);
                for (int j = 0; j < 3; ++j) sum[j] += alpha * passed * s[SPLAT_RED + j];
                passed *= 1 - alpha;
                ++per_row[y];
            }
            int64_t pixel = y * width + x;
            for (int j = 0; j < 3; ++j) rgb[3 * pixel + j] = (float)(sum[j] + passed * background[j]);
            margin[pixel] = (float)closest;
        }
    });
    *pairs = 0;
    for (int64_t p : per_row) *pairs += p;
    return 0;
}

// Times a chain of additions, each of which waits for the one before: one per cycle on every CPU this runs on.
SPLAT_API int splat_measure_clock(double* hertz, void*) {
    constexpr int64_t STEPS = 4'000'000, UNROLL = 16;
    double best = 0;
    for (int attempt = 0; attempt < 5; ++attempt) {
        uint64_t x = (uint64_t)attempt, step = 3;
        asm volatile("" : "+r"(step));
        auto start = std::chrono::steady_clock::now();
        for (int64_t i = 0; i < STEPS / UNROLL; ++i) {
#pragma GCC unroll 16
            for (int j = 0; j < UNROLL; ++j) {
                x += step;
                asm volatile("" : "+r"(x));
            }
        }
        double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        best = fmax(best, STEPS / seconds);
    }
    *hertz = best;
    return 0;
}
