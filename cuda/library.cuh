// What every .cu file here shares: launching kernels, failure sentences, and sums over blocks.
//
// Build all of them into one library; no torch or Python headers are needed:
//   nvcc -shared -Xcompiler -fPIC -std=c++17 -O3 -I splat/native
//        -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90] cuda/*.cu -o libsplat_cuda.so
// nvcc needs no GPU for that; the runtime is linked in statically, so the library loads where there is no driver, and
// its functions then fail with CUDA's own sentence.
#pragma once
#include <cuda_runtime.h>

#include "kernels.h"
#include "lanes.cuh"

namespace splat {

// Leaves `sentence` (printf style) for splat_last_error() and returns 1.
int fail(const char* sentence, ...);

// 0, or 1 with CUDA's sentence, after something `what` asked for.
inline int checked(cudaError_t error, const char* what) {
    return error == cudaSuccess ? 0 : fail("%s: %s", what, cudaGetErrorString(error));
}

constexpr int WARP = 32;
constexpr unsigned EVERYONE = 0xffffffffu;  // all lanes of a warp

template <class T>
__host__ __device__ constexpr T ceil_div(T a, T b) {
    return (a + b - 1) / b;
}

// Runs kernel<<<grid, block>>>(arguments...) on a stream.
template <class... Parameters, class... Arguments>
int launch(const char* what, void (*kernel)(Parameters...), dim3 grid, int block, void* stream, Arguments... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return 0;
#ifdef SPLAT_EMULATED
    (void)stream;
    emulator::launch(grid, block, [=] { kernel(Parameters(arguments)...); });
#else
    kernel<<<grid, block, 0, (cudaStream_t)stream>>>(Parameters(arguments)...);
#endif
    return checked(cudaGetLastError(), what);
}

// One thread for each of n things.
template <class... Parameters, class... Arguments>
int launch_each(const char* what, void (*kernel)(Parameters...), int64_t n, void* stream, Arguments... arguments) {
    constexpr int BLOCK = 256;
    const int64_t blocks = ceil_div<int64_t>(n, BLOCK);
    if (blocks > 0x7fffffff) return fail("%s: %lld is too many.", what, (long long)n);
    return launch(what, kernel, dim3((unsigned)blocks), BLOCK, stream, arguments...);
}

__device__ inline int64_t thread_number() { return blockIdx.x * (int64_t)blockDim.x + threadIdx.x; }

// Sums of COUNT numbers over the threads of a block of THREADS, in a fixed order; in `out` [COUNT] of thread 0.
template <int THREADS, int COUNT>
__device__ inline void block_sums(const float (&in)[COUNT], double* out) {
    __shared__ double part[THREADS / WARP][COUNT];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (int i = 0; i < COUNT; ++i) {
        double s = in[i];
        for (int far = WARP / 2; far; far /= 2) s += __shfl_down_sync(EVERYONE, s, far);
        if (lane == 0) part[warp][i] = s;
    }
    __syncthreads();
    if (threadIdx.x == 0)
        for (int i = 0; i < COUNT; ++i) {
            out[i] = 0;
            for (int w = 0; w < THREADS / WARP; ++w) out[i] += part[w][i];
        }
}

// `columns` sums over `rows` rows of doubles, in a fixed order: out[j] = sum_i in[i * columns + j].
int sum_rows(int64_t rows, int columns, const double* in, double* out, void* stream);

}  // namespace splat
