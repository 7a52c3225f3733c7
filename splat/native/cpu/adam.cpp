// One Adam step of several tensors, for all rows or for chosen ones.
#include "../kernels.h"
#include "lane.h"
#include "pool.h"
#include "../shared/adam.h"

namespace splat {
namespace {

// One stretch of memory.
inline void update(const Adam& a, float correct2, float rate, float* __restrict p, const float* __restrict g,
                   float* __restrict m, float* __restrict v, int64_t n) {
    for (int64_t i = 0; i < n; ++i) adam_step(a, correct2, rate, g[i], p[i], m[i], v[i]);
}

}  // namespace
}  // namespace splat

SPLAT_API int splat_adam(int32_t tensors, int64_t rows, const int64_t* ids, const int32_t* seen, const int64_t* table,
                         const float* constants, double beta1, double beta2, double eps, void*) {
    using namespace splat;
    if (tensors < 1 || tensors > 16) return fail("1 to 16 tensors can be updated at once, not %d.", tensors);
    if (rows < 0) return fail("%lld rows cannot be updated.", (long long)rows);
    const Adam a(beta1, beta2, eps);

    parallel_ranges(rows, 2048, [&](int64_t begin, int64_t end) {
        // Consecutive rows are one stretch of memory, and all rows are one run.
        for (int64_t i = begin, last; i < end; i = last) {
            last = i + 1;
            if (seen && !seen[i]) continue;
            const int64_t first = ids ? ids[i] : i;
            if (!ids && !seen) last = end;
            while (last < end && (!ids || ids[last] == first + (last - i)) && (!seen || seen[last])) ++last;
            for (int k = 0; k < tensors; ++k) {
                const int64_t* t = table + 7 * k;
                const int64_t width = t[4], stride = t[5], g_stride = t[6];
                const bool whole = width == stride && width == g_stride;
                const int64_t pieces = whole ? 1 : last - i, length = whole ? (last - i) * width : width;
                for (int64_t j = 0; j < pieces; ++j) {
                    const int64_t at = (first + j) * stride;
                    update(a, constants[0], constants[1 + k], (float*)t[0] + at,
                           (const float*)t[1] + (i + j) * g_stride, (float*)t[2] + at, (float*)t[3] + at, length);
                }
            }
        }
    });
    return 0;
}
