// Depth maps by PatchMatch, a pixel of the chessboard per thread: the twin of splat/native/cpu/stereo.cpp.
#include "library.cuh"
#include "shared/stereo.h"

namespace splat {
namespace {

__device__ void keep_found(const StereoJob& j, int32_t x, int32_t y, const Found& f) {
    const int64_t at = (int64_t)y * j.reference.width + x, size = j.pixels();
    j.planes[at] = f.plane.w, j.planes[size + at] = f.plane.gx, j.planes[2 * size + at] = f.plane.gy;
    j.cost[at] = f.cost;
}

__global__ void search(const __grid_constant__ StereoJob j, int32_t parity, int32_t step) {
    const int32_t columns = (j.reference.width + step - 1) / step;
    const int64_t i = thread_number();
    if (i >= (int64_t)columns * j.reference.height) return;
    const int32_t y = (int32_t)(i / columns), x = (int32_t)(i % columns) * step + (step == 2 ? (y + parity) & 1 : 0);
    if (x >= j.reference.width) return;
    keep_found(j, x, y, search_plane(j, x, y));
}

}  // namespace
}  // namespace splat

SPLAT_API int splat_stereo_search(int32_t height, int32_t width, const float* grey, float fx, float fy, float cx,
                                  float cy, int32_t sources, const int64_t* table, const double* warps, int32_t best,
                                  float low, float high, float spread, float turn, const float* noise,
                                  int32_t parity, float* planes, float* cost, void* stream) {
    using namespace splat;
    if (const char* why = stereo_refusal(height, width, sources, best)) return fail("%s", why);
    const StereoJob j = stereo_job(height, width, grey, fx, fy, cx, cy, sources, table, warps, best, low, high, spread,
                                   turn, noise, planes, cost);
    const int32_t step = noise ? 2 : 1;
    return launch_each("splat_stereo_search", search, (int64_t)ceil_div(width, step) * height, stream, j, parity, step);
}
