// Depth maps by PatchMatch: one half of a chessboard at a time, sixteen pixels side by side. See shared/stereo.h.
#include <string.h>

#include "pool.h"
#include "simd.h"
#include "../shared/stereo.h"

namespace splat {
namespace {

// found(x, y) for all pixels, or (with step 2) for those with x + y + parity even, LANES of them at a time wherever rows end.
template <class Finder>
void each_pixel(const StereoJob& j, int32_t step, int32_t parity, Finder&& found) {
    const int32_t width = j.reference.width, columns = (width + step - 1) / step;
    const int64_t size = j.pixels();
    parallel_ranges((int64_t)columns * j.reference.height, 16 * LANES, [&](int64_t begin, int64_t end) {
        while (begin < end) {
            int32_t tx[LANES], ty[LANES];
            int count = 0;
            for (; count < LANES && begin < end; ++begin) {
                const int32_t row = (int32_t)(begin / columns);
                const int32_t column = (int32_t)(begin % columns) * step + (step == 2 ? (row + parity) & 1 : 0);
                if (column < width) tx[count] = column, ty[count++] = row;  // an odd row may have one less
            }
            if (!count) continue;
            for (int i = count; i < LANES; ++i) tx[i] = tx[0], ty[i] = ty[0];
            vi x, y;
            memcpy(&x, tx, sizeof x), memcpy(&y, ty, sizeof y);
            const Found f = found(x, y);
            float t[4][LANES];
            store(t[0], f.plane.w), store(t[1], f.plane.gx), store(t[2], f.plane.gy), store(t[3], f.cost);
            for (int i = 0; i < count; ++i) {
                const int64_t at = (int64_t)ty[i] * width + tx[i];
                for (int k = 0; k < 3; ++k) j.planes[k * size + at] = t[k][i];
                j.cost[at] = t[3][i];
            }
        }
    });
}

}  // namespace
}  // namespace splat

SPLAT_API int splat_stereo_search(int32_t height, int32_t width, const float* grey, float fx, float fy, float cx,
                                  float cy, int32_t sources, const int64_t* table, const double* warps, int32_t best,
                                  float low, float high, float spread, float turn, const float* noise,
                                  int32_t parity, float* planes, float* cost, void*) {
    using namespace splat;
    if (const char* why = stereo_refusal(height, width, sources, best)) return fail("%s", why);
    const StereoJob j = stereo_job(height, width, grey, fx, fy, cx, cy, sources, table, warps, best, low, high, spread,
                                   turn, noise, planes, cost);
    each_pixel(j, noise ? 2 : 1, parity, [&](vi x, vi y) { return search_plane(j, x, y); });
    return 0;
}
