// What every .cu file here shares: failure sentences, and checks of CUDA calls.
//
// Build all of them into one library, no torch or Python headers needed:
//   nvcc -shared -Xcompiler -fPIC -std=c++17 -O3 -gencode arch=compute_80,code=sm_80
//        -gencode arch=compute_90,code=[sm_90,compute_90] cuda/*.cu -o libsplat_cuda.so
// nvcc needs no GPU for that; the runtime is linked in statically, so the library loads where there is no driver, and
// its functions then fail with CUDA's own sentence.
#pragma once
#include <cuda_runtime.h>

#include "../splat/native/kernels.h"

namespace splat {

// Leaves `sentence` (printf style) for splat_last_error() and returns 1.
int fail(const char* sentence, ...);

// 0, or 1 with CUDA's sentence, after launching `what`.
inline int launched(const char* what) {
    const cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? 0 : fail("%s: %s", what, cudaGetErrorString(error));
}

}  // namespace splat
