// CUB's radix sort, for cuda_runtime.h beside it.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <numeric>

namespace cub {

struct DeviceRadixSort {
    template <class Value>
    static cudaError_t SortPairs(void* scratch, size_t& bytes, const uint32_t* keys, uint32_t* sorted_keys,
                                 const Value* values, Value* sorted_values, int n, int begin_bit, int end_bit,
                                 cudaStream_t = nullptr) {
        if (!scratch) {
            bytes = 64;
            return 0;
        }
        const uint32_t mask = end_bit - begin_bit == 32 ? ~0u : (1u << (end_bit - begin_bit)) - 1;
        std::vector<int> order(n);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
            return (keys[a] >> begin_bit & mask) < (keys[b] >> begin_bit & mask);
        });
        for (int i = 0; i < n; ++i) sorted_keys[i] = keys[order[i]], sorted_values[i] = values[order[i]];
        return 0;
    }
};

}  // namespace cub
