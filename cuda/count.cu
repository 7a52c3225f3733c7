// The slow counter and the clock, for measurements and tests.
#include "library.cuh"
#include "shared/pair.h"

namespace splat {
namespace {

// A pixel per thread, in double precision, over all rows in their order.
__global__ void count_pairs(const float* splats, int32_t width, int32_t height, int64_t drawn, const int32_t* order,
                            const float* background, float least, float* rgb, float* margin, int64_t* pairs) {
    const int64_t pixel = thread_number();
    if (pixel >= (int64_t)width * height) return;
    const double px = pixel % width + 0.5, py = pixel / width + 0.5;
    double passed = 1, colour[3] = {}, closest = 1e30;
    int64_t found = 0;
    auto near = [&](double value, double threshold) {
        const double off = fabs(value / threshold - 1);
        closest = off < closest ? off : closest;
    };
    for (int64_t i = 0; i < drawn && passed >= least; ++i) {
        const float* s = splats + (int64_t)order[i] * SPLAT_FIELDS;
        const double dx = px - s[SPLAT_X], dy = py - s[SPLAT_Y];
        if (fabs(dx) > s[SPLAT_HALF_WIDTH] + 1 || fabs(dy) > s[SPLAT_HALF_HEIGHT] + 1) continue;
        const double u = s[SPLAT_A] * dx + s[SPLAT_B] * dy, v = s[SPLAT_C] * dy;
        const double raw = ::exp2((double)s[SPLAT_LOG2_OPACITY] - u * u - v * v);
        near(raw, 1.0 / 255);
        if (raw < 1.0 / 255) continue;
        const double alpha = raw < (double)MAX_ALPHA ? raw : (double)MAX_ALPHA;
        for (int j = 0; j < 3; ++j) colour[j] += alpha * passed * s[SPLAT_RED + j];
        passed *= 1 - alpha;
        near(passed, least);
        ++found;
    }
    for (int j = 0; j < 3; ++j) rgb[3 * pixel + j] = (float)(colour[j] + passed * background[j]);
    if (margin) margin[pixel] = (float)closest;
    atomicAdd((unsigned long long*)pairs, (unsigned long long)found);
}

// Cycles that pass in a given time, by one thread.
__global__ void tick(int64_t nanoseconds, int64_t* out) {
#ifdef __CUDA_ARCH__
    int64_t begin, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
    const int64_t cycles = clock64();
    do asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    while (now - begin < nanoseconds);
    out[0] = clock64() - cycles, out[1] = now - begin;
#else
    out[0] = nanoseconds, out[1] = nanoseconds;
#endif
}

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int splat_count_pairs(const float* splats, int32_t width, int32_t height, int64_t drawn, const int32_t* order,
                                const float* background, float min_transmittance, float* rgb, float* margin,
                                int64_t* pairs, void* stream) {
    return checked(cudaMemsetAsync(pairs, 0, sizeof *pairs, (cudaStream_t)stream), "splat_count_pairs") ||
           launch_each("splat_count_pairs", count_pairs, (int64_t)width * height, stream, splats, width, height, drawn,
                       order, background, min_transmittance, rgb, margin, pairs);
}

SPLAT_API int splat_measure_clock(double* hertz, void* stream) {
    int64_t *device = nullptr, host[2] = {};
    if (checked(cudaMalloc((void**)&device, sizeof host), "splat_measure_clock")) return 1;
    const int failed =
        launch("splat_measure_clock", tick, dim3(1), 1, stream, (int64_t)5000000, device) ||
        checked(cudaMemcpyAsync(host, device, sizeof host, cudaMemcpyDeviceToHost, (cudaStream_t)stream), "the clock") ||
        checked(cudaStreamSynchronize((cudaStream_t)stream), "the clock");
    cudaFree(device);
    *hertz = failed ? 0 : 1e9 * (double)host[0] / (double)host[1];
    return failed;
}
