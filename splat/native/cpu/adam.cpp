// One Adam step (Kingma & Ba 2015, algorithm 1) of several tensors, for all rows or for chosen ones.
#include <math.h>

#include "../kernels.h"
#include "pool.h"

namespace splat {
namespace {

struct Constants {
    float beta1, beta2, eps, correct2;  // correct2: 1 / sqrt(1 - beta2^step)
};

// One stretch of memory. Gradients that are not finite count as zero: one bad pixel must not end a training.
inline void update(float* __restrict p, const float* __restrict g, float* __restrict m, float* __restrict v, int64_t n,
                   float rate, const Constants& c) {
    for (int64_t i = 0; i < n; ++i) {
        const float d = fabsf(g[i]) <= 3.4028235e38f ? g[i] : 0.0f;
        const float mi = c.beta1 * m[i] + (1 - c.beta1) * d;
        const float vi = c.beta2 * v[i] + (1 - c.beta2) * d * d;
        m[i] = mi;
        v[i] = vi;
        p[i] -= rate * mi / (sqrtf(vi) * c.correct2 + c.eps);
    }
}

}  // namespace
}  // namespace splat

SPLAT_API int splat_adam(int32_t tensors, int64_t rows, const int64_t* ids, const int32_t* seen, const int64_t* table,
                         const double* rates, int64_t step, double beta1, double beta2, double eps, void*) {
    using namespace splat;
    if (tensors < 1 || tensors > 16) return fail("1 to 16 tensors can be updated at once, not %d.", tensors);
    if (rows < 0 || step < 1)
        return fail("%lld rows at step %lld: steps count from 1.", (long long)rows, (long long)step);
    const Constants c{(float)beta1, (float)beta2, (float)eps, (float)(1 / sqrt(1 - pow(beta2, (double)step)))};
    const double correct1 = 1 / (1 - pow(beta1, (double)step));

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
                const float rate = (float)(rates[k] * correct1);
                for (int64_t j = 0; j < pieces; ++j) {
                    const int64_t at = (first + j) * stride;
                    update((float*)t[0] + at, (const float*)t[1] + (i + j) * g_stride, (float*)t[2] + at,
                           (float*)t[3] + at, length, rate, c);
                }
            }
        }
    });
    return 0;
}
