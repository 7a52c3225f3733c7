// CUB's exclusive sum, for cuda_runtime.h beside it.
#pragma once
#include <cuda_runtime.h>

namespace cub {

struct DeviceScan {
    static cudaError_t ExclusiveSum(void* scratch, size_t& bytes, const int32_t* in, int32_t* out, int n,
                                    cudaStream_t = nullptr) {
        if (!scratch) {
            bytes = 64;
            return 0;
        }
        int32_t sum = 0;
        for (int i = 0; i < n; ++i) {
            const int32_t here = in[i];
            out[i] = sum;
            sum += here;
        }
        return 0;
    }
};

}  // namespace cub
