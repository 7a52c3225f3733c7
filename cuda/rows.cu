// Rows of many Gaussians by their numbers: gathering them, and statistics about them.
#include "library.cuh"

namespace splat {
namespace {

constexpr int MAX_TENSORS = 16;

struct Gathering {
    const float* from[MAX_TENSORS];
    float* to[MAX_TENSORS];
    int64_t columns[MAX_TENSORS];
};

// One thread per number; blockIdx.y is the tensor.
__global__ void gather(const __grid_constant__ Gathering g, int64_t m, const int64_t* ids) {
    const int64_t columns = g.columns[blockIdx.y], step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t e = thread_number(); e < m * columns; e += step)
        g.to[blockIdx.y][e] = g.from[blockIdx.y][ids[e / columns] * columns + e % columns];
}

__global__ void add_statistics(int64_t m, const int64_t* ids, const float* gradient, const int32_t* radii,
                               float half_width, float half_height, float scale, float* pull, float* seen,
                               float* radius) {
    const int64_t i = thread_number();
    if (i >= m) return;
    const int64_t id = ids ? ids[i] : i;
    const float x = gradient[2 * i] * half_width, y = gradient[2 * i + 1] * half_height;
    const float length = sqrt(x * x + y * y);
    pull[id] += finite(length) ? length : 0.0f;
    seen[id] += radii[i] > 0 ? 1.0f : 0.0f;
    radius[id] = max(radius[id], radii[i] * scale);
}

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int splat_gather(int32_t tensors, int64_t m, const int64_t* ids, const int64_t* table, void* stream) {
    if (tensors < 1 || tensors > MAX_TENSORS)
        return fail("1 to %d tensors can be gathered at once, not %d.", MAX_TENSORS, tensors);
    Gathering g;
    int64_t widest = 1;
    for (int k = 0; k < tensors; ++k) {
        g.from[k] = (const float*)table[3 * k];
        g.to[k] = (float*)table[3 * k + 1];
        g.columns[k] = table[3 * k + 2];
        widest = g.columns[k] > widest ? g.columns[k] : widest;
    }
    const int64_t blocks = ceil_div<int64_t>(m * widest, 256);
    const dim3 grid((unsigned)(blocks < 65536 ? blocks : 65536), (unsigned)tensors);
    return launch("splat_gather", gather, grid, 256, stream, g, m, ids);
}

SPLAT_API int splat_density_statistics(int64_t m, const int64_t* ids, const float* gradient, const int32_t* radii,
                                       int32_t width, int32_t height, float* pull, float* seen, float* radius,
                                       void* stream) {
    return launch_each("splat_density_statistics", add_statistics, m, stream, m, ids, gradient, radii, 0.5f * width,
                       0.5f * height, 1.0f / (width > height ? width : height), pull, seen, radius);
}
