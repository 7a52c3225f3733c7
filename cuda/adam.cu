// One Adam step of several tensors in one launch: the GPU's twin of splat/native/cpu/adam.cpp.
#include <math.h>

#include "library.cuh"

namespace {

constexpr int MAX_TENSORS = 16, BLOCK = 256;

struct Matrix {
    float *parameters, *first, *second;
    const float* gradients;
    int64_t width, stride, g_stride;
    float rate;
};

struct Step {
    Matrix tensors[MAX_TENSORS];  // travels as a kernel argument: no copy to the device, no allocation
    const int64_t* ids;
    int64_t rows;
    float beta1, beta2, eps, correct2;
};

// One thread per number; blockIdx.y is the tensor. Neighbouring threads hold neighbouring columns of a row.
__global__ void adam(const __grid_constant__ Step s) {
    const Matrix& t = s.tensors[blockIdx.y];
    for (int64_t e = blockIdx.x * (int64_t)BLOCK + threadIdx.x; e < s.rows * t.width; e += (int64_t)gridDim.x * BLOCK) {
        const int64_t row = e / t.width, column = e - row * t.width;
        const int64_t at = (s.ids ? s.ids[row] : row) * t.stride + column;
        const float raw = t.gradients[row * t.g_stride + column], g = isfinite(raw) ? raw : 0.0f;
        const float m = s.beta1 * t.first[at] + (1 - s.beta1) * g;
        const float v = s.beta2 * t.second[at] + (1 - s.beta2) * g * g;
        t.first[at] = m;
        t.second[at] = v;
        t.parameters[at] -= t.rate * m / (sqrtf(v) * s.correct2 + s.eps);
    }
}

}  // namespace

// `table` and `rates` are host memory, `ids` and the addresses in `table` are the device's.
SPLAT_API int splat_adam(int32_t tensors, int64_t rows, const int64_t* ids, const int64_t* table, const double* rates,
                         int64_t step, double beta1, double beta2, double eps, void* stream) {
    if (tensors < 1 || tensors > MAX_TENSORS)
        return splat::fail("1 to %d tensors can be updated at once, not %d.", MAX_TENSORS, tensors);
    if (rows < 0 || step < 1)
        return splat::fail("%lld rows at step %lld: steps count from 1.", (long long)rows, (long long)step);
    if (rows == 0) return 0;
    Step s;
    s.ids = ids, s.rows = rows;
    s.beta1 = (float)beta1, s.beta2 = (float)beta2, s.eps = (float)eps;
    s.correct2 = (float)(1 / sqrt(1 - pow(beta2, (double)step)));
    int64_t widest = 1;
    for (int k = 0; k < tensors; ++k) {
        const int64_t* t = table + 7 * k;
        s.tensors[k] = Matrix{(float*)t[0], (float*)t[2], (float*)t[3], (const float*)t[1], t[4], t[5], t[6],
                              (float)(rates[k] / (1 - pow(beta1, (double)step)))};
        widest = t[4] > widest ? t[4] : widest;
    }
    const int64_t blocks = (rows * widest + BLOCK - 1) / BLOCK;
    const dim3 grid((unsigned)(blocks < 65536 ? blocks : 65536), (unsigned)tensors);
    adam<<<grid, BLOCK, 0, (cudaStream_t)stream>>>(s);
    return splat::launched("splat_adam");
}
