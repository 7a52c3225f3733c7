// Rows of many Gaussians by their numbers: gathering them, and statistics about them.
#include <string.h>

#include <algorithm>
#include <cmath>

#include "../kernels.h"
#include "pool.h"

SPLAT_API int splat_gather(int32_t tensors, int64_t m, const int64_t* ids, const int64_t* table, void*) {
    using namespace splat;
    if (tensors < 1 || tensors > 16) return fail("1 to 16 tensors can be gathered at once, not %d.", tensors);
    parallel_ranges(m, 2048, [&](int64_t begin, int64_t end) {
        // Consecutive rows are one stretch of memory.
        for (int64_t i = begin, last; i < end; i = last) {
            for (last = i + 1; last < end && ids[last] == ids[i] + (last - i);) ++last;
            for (int k = 0; k < tensors; ++k) {
                const int64_t columns = table[3 * k + 2];
                memcpy((float*)table[3 * k + 1] + i * columns, (const float*)table[3 * k] + ids[i] * columns,
                       (last - i) * columns * sizeof(float));
            }
        }
    });
    return 0;
}

SPLAT_API int splat_density_statistics(int64_t m, const int64_t* ids, const float* gradient, const int32_t* radii,
                                       int32_t width, int32_t height, float* pull, float* seen, float* radius, void*) {
    using namespace splat;
    const float half_width = 0.5f * width, half_height = 0.5f * height, scale = 1.0f / std::max(width, height);
    parallel_ranges(m, 4096, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t id = ids ? ids[i] : i;
            const float x = gradient[2 * i] * half_width, y = gradient[2 * i + 1] * half_height;
            const float length = std::sqrt(x * x + y * y);
            pull[id] += length <= 3.4028234663852886e38f ? length : 0.0f;
            seen[id] += radii[i] > 0 ? 1.0f : 0.0f;
            radius[id] = std::max(radius[id], radii[i] * scale);
        }
    });
    return 0;
}
