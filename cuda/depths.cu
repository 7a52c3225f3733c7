// Depth maps against each other and against points, a pixel or point per thread: the twin of splat/native/cpu/depths.cpp.
#include "library.cuh"
#include "shared/depths.h"

namespace splat {
namespace {

__global__ void agreement(const __grid_constant__ AgreementJob j) {
    const int64_t i = thread_number();
    if (i >= (int64_t)j.height * j.width) return;
    const Match m = match_pixel(j, (int32_t)(i % j.width), (int32_t)(i / j.width));
    j.at[i] = m.at;
    j.agrees[i] = m.agrees;
    if (j.pixels) j.pixels[2 * i] = m.u, j.pixels[2 * i + 1] = m.v;
}

__global__ void count_support(const __grid_constant__ SupportJob j, int64_t count) {
    const int64_t i = thread_number();
    if (i >= count) return;
    vm supports, violates;
    classify_point(j, (int32_t)i, supports, violates);
    j.support[i] += supports;
    j.violations[i] += violates;
}

__global__ void smooth_normals(const __grid_constant__ NormalsJob j) {
    const int64_t i = thread_number();
    if (i >= (int64_t)j.height * j.width) return;
    const Normal n = smooth_normal(j, (int32_t)(i % j.width), (int32_t)(i / j.width));
    j.out[3 * i] = n.x, j.out[3 * i + 1] = n.y, j.out[3 * i + 2] = n.z;
}

}  // namespace
}  // namespace splat

SPLAT_API int splat_agreement(int32_t height, int32_t width, const float* depth, float fx, float fy, float cx, float cy,
                              int32_t other_height, int32_t other_width, const float* other_depth, const double* maps,
                              float max_shift, float max_difference, float min_tangent, float* pixels, int32_t* at,
                              uint8_t* agrees, void* stream) {
    using namespace splat;
    if (too_many_pixels(height, width) || too_many_pixels(other_height, other_width))
        return fail("an image of more than %d pixels is too large.", INT32_MAX / 4);
    const AgreementJob j = agreement_job(height, width, depth, fx, fy, cx, cy, other_height, other_width, other_depth, maps,
                                         max_shift, max_difference, min_tangent, pixels, at, agrees);
    return launch_each("splat_agreement", agreement, (int64_t)height * width, stream, j);
}

SPLAT_API int splat_count_support(int64_t count, const float* points, int32_t height, int32_t width, const float* depth,
                                  const double* map, float max_difference, float max_free_space, int32_t* support,
                                  int32_t* violations, void* stream) {
    using namespace splat;
    if (too_many_pixels(height, width)) return fail("an image of %d x %d pixels is too large.", width, height);
    if (count > INT32_MAX / 3) return fail("%lld points are too many.", (long long)count);
    const SupportJob j = support_job(points, height, width, depth, map, max_difference, max_free_space, support, violations);
    return launch_each("splat_count_support", count_support, count, stream, j, count);
}

SPLAT_API int splat_smooth_normals(int32_t height, int32_t width, const float* normals, const float* depth,
                                   int32_t reach, float max_difference, float* out, void* stream) {
    using namespace splat;
    if (too_many_pixels(height, width)) return fail("an image of %d x %d pixels is too large.", width, height);
    const NormalsJob j{height, width, normals, depth, reach, max_difference, out};
    return launch_each("splat_smooth_normals", smooth_normals, (int64_t)height * width, stream, j);
}
