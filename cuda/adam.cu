// One Adam step: of several tensors in one launch, and of spherical harmonics from the gradient of their constant. The
// twins of splat/native/cpu/adam.cpp and adam_harmonics.cpp.
#include "library.cuh"
#include "shared/adam.h"
#include "shared/projection.h"

namespace splat {
namespace {

constexpr int MAX_TENSORS = 16, BLOCK = 256;

struct Matrix {
    float *parameters, *first, *second;
    const float* gradients;
    int64_t width, stride, g_stride;
};

struct Step {
    Matrix tensors[MAX_TENSORS];  // travels as a kernel argument: no copy to the device, no allocation
    const int64_t* ids;
    const int32_t* seen;
    int64_t rows;
    const float* constants;
    Adam adam;
};

__device__ void update(const Adam& a, float correct2, float rate, float gradient, float* p, float* m, float* v) {
    vf p1 = *p, m1 = *m, v1 = *v;
    adam_step(a, correct2, rate, gradient, p1, m1, v1);
    *p = p1, *m = m1, *v = v1;
}

// One thread per number; blockIdx.y is the tensor. Neighbouring threads hold neighbouring columns of a row.
__global__ void adam(const __grid_constant__ Step s) {
    const Matrix& t = s.tensors[blockIdx.y];
    const float correct2 = s.constants[0], rate = s.constants[1 + blockIdx.y];
    for (int64_t e = thread_number(); e < s.rows * t.width; e += (int64_t)gridDim.x * BLOCK) {
        const int64_t row = e / t.width, column = e - row * t.width;
        if (s.seen && !s.seen[row]) continue;
        const int64_t at = (s.ids ? s.ids[row] : row) * t.stride + column;
        update(s.adam, correct2, rate, t.gradients[row * t.g_stride + column], t.parameters + at, t.first + at,
               t.second + at);
    }
}

struct HarmonicsStep {
    int64_t rows;
    const int64_t* ids;
    const int32_t* seen;
    const float *means, *seen_from, *g_constant;
    int32_t from;
    float *sh, *first, *second;
    const float* constants;
    Adam adam;
};

constexpr int ROWS = 64;  // of a block

// First a thread per row finds the basis in its direction, then neighbouring threads take neighbouring numbers.
template <int DEGREE>
__global__ void adam_harmonics(const __grid_constant__ HarmonicsStep s) {
    constexpr int K = (DEGREE + 1) * (DEGREE + 1);
    __shared__ float ratio[ROWS][K];  // basis_k / basis_0
    __shared__ int64_t place[ROWS];   // -1: not to be touched
    const int64_t begin = blockIdx.x * (int64_t)ROWS;
    if (threadIdx.x < ROWS) {
        const int64_t row = begin + threadIdx.x;
        const bool there = row < s.rows && (!s.seen || s.seen[row]);
        const int64_t id = there ? (s.ids ? s.ids[row] : row) : -1;
        place[threadIdx.x] = id;
        if (there) {
            const vec3 ray{s.means[3 * id] - s.seen_from[0], s.means[3 * id + 1] - s.seen_from[1],
                           s.means[3 * id + 2] - s.seen_from[2]};
            vf basis[K];
            sh_basis<DEGREE>((1 / max(sqrt(dot(ray, ray)), 1e-12f)) * ray, basis);
            for (int k = 0; k < K; ++k) ratio[threadIdx.x][k] = basis[k] * (1 / SH0);
        }
    }
    __syncthreads();
    const float correct2 = s.constants[0], rate_constant = s.constants[1], rate_rest = s.constants[2];
    for (int e = threadIdx.x; e < ROWS * 3 * K; e += BLOCK) {
        const int row = e / (3 * K), column = e - row * (3 * K);
        if (place[row] < 0 || column < s.from) continue;
        const int64_t at = place[row] * (3 * K) + column;
        const float gradient = s.g_constant[3 * (begin + row) + column % 3] * ratio[row][column / 3];
        update(s.adam, correct2, column < 3 ? rate_constant : rate_rest, gradient, s.sh + at, s.first + at,
               s.second + at);
    }
}

}  // namespace
}  // namespace splat

using namespace splat;

// `table` is host memory; the addresses in it are the device's.
SPLAT_API int splat_adam(int32_t tensors, int64_t rows, const int64_t* ids, const int32_t* seen, const int64_t* table,
                         const float* constants, double beta1, double beta2, double eps, void* stream) {
    if (tensors < 1 || tensors > MAX_TENSORS)
        return fail("1 to %d tensors can be updated at once, not %d.", MAX_TENSORS, tensors);
    if (rows < 0) return fail("%lld rows cannot be updated.", (long long)rows);
    Step s{{}, ids, seen, rows, constants, Adam(beta1, beta2, eps)};
    int64_t widest = 1;
    for (int k = 0; k < tensors; ++k) {
        const int64_t* t = table + 7 * k;
        s.tensors[k] = Matrix{(float*)t[0], (float*)t[2], (float*)t[3], (const float*)t[1], t[4], t[5], t[6]};
        widest = t[4] > widest ? t[4] : widest;
    }
    const int64_t blocks = ceil_div<int64_t>(rows * widest, BLOCK);
    const dim3 grid((unsigned)(blocks < 65536 ? blocks : 65536), (unsigned)tensors);
    return launch("splat_adam", adam, grid, BLOCK, stream, s);
}

SPLAT_API int splat_adam_harmonics(int64_t rows, const int64_t* ids, const int32_t* seen, int32_t k,
                                   const float* means, const float* seen_from, const float* g_constant, int32_t from,
                                   float* sh, float* first, float* second, const float* constants, double beta1,
                                   double beta2, double eps, void* stream) {
    if (rows < 0) return fail("%lld rows cannot be updated.", (long long)rows);
    if (k != 1 && k != 4 && k != 9 && k != 16) return fail("%d coefficients are no whole degree up to 3.", k);
    const HarmonicsStep s{rows, ids, seen, means, seen_from, g_constant, from, sh, first, second, constants,
                          Adam(beta1, beta2, eps)};
    int result = 0;
    with_degree(k == 1 ? 0 : k == 4 ? 1 : k == 9 ? 2 : 3, [&](auto d) {
        result = launch("splat_adam_harmonics", adam_harmonics<decltype(d)::value>,
                        dim3((unsigned)ceil_div<int64_t>(rows, ROWS)), BLOCK, stream, s);
    });
    return result;
}
