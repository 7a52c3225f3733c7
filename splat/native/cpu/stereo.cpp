// Depth maps by PatchMatch: one half of a chessboard at a time, sixteen pixels of a row side by side. See shared/stereo.h.
#include <string.h>

#include "pool.h"
#include "simd.h"
#include "../shared/stereo.h"

namespace splat {
namespace {

// Every second pixel of row y, from `begin` on.
void search_row(const StereoJob& j, int32_t y, int32_t begin, int32_t step) {
    const int32_t width = j.reference.width;
    const int64_t size = j.pixels();
    for (int32_t x0 = begin; x0 < width; x0 += step * LANES) {
        const int count = std::min<int32_t>(LANES, (width - x0 + step - 1) / step);
        const vi lane = lane_numbers();
        const vi last = lane * 0 + (count - 1);
        const vi x = min(lane, last) * step + x0, row = lane * 0 + y;
        const Found f = search_plane(j, x, row);
        float t[4][LANES];
        store(t[0], f.plane.w), store(t[1], f.plane.gx), store(t[2], f.plane.gy), store(t[3], f.cost);
        for (int i = 0; i < count; ++i) {
            const int64_t at = (int64_t)y * width + x0 + i * step;
            for (int k = 0; k < 3; ++k) j.planes[k * size + at] = t[k][i];
            j.cost[at] = t[3][i];
        }
    }
}

}  // namespace
}  // namespace splat

SPLAT_API int splat_stereo_search(int32_t height, int32_t width, const float* grey, float fx, float fy, float cx,
                                  float cy, int32_t sources, const int64_t* table, const double* warps, int32_t best,
                                  float low, float high, float spread, float turn, const float* noise,
                                  int32_t parity, float* planes, float* cost, void*) {
    using namespace splat;
    if (sources < 1 || sources > MAX_SOURCES)
        return fail("1 to %d other photos can be compared, not %d.", MAX_SOURCES, sources);
    if (best < 1 || best > MAX_BEST) return fail("the best 1 to %d photos can be believed, not %d.", MAX_BEST, best);
    if ((int64_t)height * width > INT32_MAX / 4) return fail("an image of %d x %d pixels is too large.", width, height);
    const StereoJob j = stereo_job(height, width, grey, fx, fy, cx, cy, sources, table, warps, best, low, high, spread,
                                   turn, noise, planes, cost);
    const int32_t step = noise ? 2 : 1;
    parallel_jobs(height, [&](int64_t y) { search_row(j, (int32_t)y, noise ? (int32_t)((y + parity) & 1) : 0, step); });
    return 0;
}
